"""The planted network does what its answers say: measured with drawings and by its weights."""

from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
import torch
from reference import planted_kernels
from reference.arcs import (
    Picture,
    best_arc_orientation,
    draw_arc,
    draw_line,
    turn_deg,
)
from torch import Tensor
from torch.nn import functional

from featviz.network.planted import INPUT_MEAN, INPUT_SD, INPUT_SIZE, answers, planted_network
from featviz.network.planted.answers import (
    COLOR,
    CURVE_COUNT,
    CURVES,
    DEAD,
    DUPLICATES,
    EARLY_CURVES,
    GABORS,
    LINES,
    RADIUS_PX,
    STRIDES_PX,
    PlantedArc,
    PlantedLine,
)
from featviz.network.planted.weights import REST

LAYERS = ("gabor", "complex", "line", "early", "curve", "tint", "joined", "part", "whole")
MIDDLE_PX = 56
ARC_ANGLES_DEG = np.arange(0.0, 360.0, 7.5)
LINE_ANGLES_DEG = np.arange(0.0, 180.0, 5.0)


def model_input(pictures: Iterable[Picture]) -> Tensor:
    """Grey pictures in [0, 1] as the network takes them."""
    grey = torch.tensor(np.stack(list(pictures)), dtype=torch.float64)[:, None]
    mean, sd = torch.tensor(INPUT_MEAN)[:, None, None], torch.tensor(INPUT_SD)[:, None, None]
    return (grey.expand(-1, 3, -1, -1) - mean) / sd


def responses(images: Tensor) -> dict[str, Tensor]:
    """What every layer says after its ReLU; `head` as it is."""
    network = planted_network().to(images.dtype)
    seen: dict[str, Tensor] = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _m, _i, o, name=name: seen.update({name: o}))
    network(images)
    return {name: functional.relu(o) if name in LAYERS else o for name, o in seen.items()}


def at_middle(said: dict[str, Tensor], address: str) -> Tensor:
    layer, channel = address.split(":")
    place = MIDDLE_PX // STRIDES_PX[layer]
    return said[layer][:, int(channel), place, place]


@cache
def to_arcs(radius_px: float = RADIUS_PX, contrast: float = 1.0) -> dict[str, Tensor]:
    return responses(
        model_input(draw_arc(angle, radius_px, contrast=contrast) for angle in ARC_ANGLES_DEG)
    )


@cache
def to_lines(contrast: float = 1.0) -> dict[str, Tensor]:
    return responses(model_input(draw_line(angle, contrast=contrast) for angle in LINE_ANGLES_DEG))


def circular_mean_deg(values: Tensor, angles_deg: np.ndarray, period_deg: float) -> float:
    turns = np.exp(2j * np.pi * angles_deg / period_deg)
    return float(np.angle((values.numpy() * turns).sum()) / (2 * np.pi) * period_deg)


def assert_tuned_to_line(unit: PlantedLine, contrast: float) -> None:
    values = at_middle(to_lines(contrast), unit.address)
    measured = circular_mean_deg(values, LINE_ANGLES_DEG, 180)
    assert abs(turn_deg(measured, unit.orientation_deg, period_deg=180)) < 1
    assert values.max() > 0.4
    # A line along the pixel grid is drawn sharper than one of 10 degrees, and may win by a hair.
    peak_deg = LINE_ANGLES_DEG[int(values.argmax())]
    assert abs(turn_deg(peak_deg, unit.orientation_deg, period_deg=180)) <= 10


def assert_tuned_to_arc(unit: PlantedArc, said: dict[str, Tensor], tolerance_deg: float) -> None:
    values = at_middle(said, unit.address)
    peak_deg = ARC_ANGLES_DEG[int(values.argmax())]
    assert abs(turn_deg(peak_deg, unit.orientation_deg)) <= 5
    # Around the peak only: early curves have an echo on the other side.
    near = [abs(turn_deg(angle, unit.orientation_deg)) <= 60 for angle in ARC_ANGLES_DEG]
    measured = circular_mean_deg(values * torch.tensor(near), ARC_ANGLES_DEG, 360)
    assert abs(turn_deg(measured, unit.orientation_deg)) < tolerance_deg


def gradient_at_noise(address: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = 0.04 * torch.randn(2, 3, *INPUT_SIZE, generator=generator)
    images.requires_grad_()
    at_middle(responses(images), address).sum().backward()
    assert images.grad is not None
    return images.grad


# The drawings mean what they say.


def test_an_arc_of_orientation_0_opens_to_the_right_and_90_upwards() -> None:
    right, up = draw_arc(0, 20, size_px=65), draw_arc(90, 20, size_px=65)
    # 60 degrees along the circle from the apex (32, 32), towards the center.
    assert right[32, 32] == 1
    assert right[15, 42] == right[49, 42] == 1
    assert right[15, 22] == 0.5
    assert up[32, 32] == 1
    assert up[22, 15] == up[22, 49] == 1
    assert up[42, 15] == 0.5


def test_a_line_of_45_degrees_rises_to_the_right() -> None:
    line = draw_line(45, size_px=33)
    assert line[6, 26] == line[26, 6] == 1
    assert line[6, 6] == line[26, 26] == 0.5


@pytest.mark.parametrize("contrast", [1.0, -1.0])
def test_the_judge_finds_the_orientation_of_a_drawn_arc(contrast: float) -> None:
    generator = np.random.default_rng(0)
    for orientation_deg in (0.0, 37.0, 90.0, 158.0, 255.0):
        row, column = generator.integers(-2, 3, size=2)
        picture = draw_arc(
            orientation_deg, RADIUS_PX, contrast=contrast, apex=(56 + row, 56 + column)
        )
        noisy = picture + generator.normal(0, 0.1, picture.shape)
        found_deg = best_arc_orientation(noisy, RADIUS_PX)
        assert abs(turn_deg(found_deg, orientation_deg)) < 5
        # A neighbour among 24 would not pass for it.
        assert abs(turn_deg(found_deg, orientation_deg + 15)) > 10
        assert abs(turn_deg(found_deg, orientation_deg - 15)) > 10


# The tuned families.


@pytest.mark.parametrize("unit", [g for g in GABORS if g.phase_deg in (0, 180)], ids=str)
def test_gabors_prefer_lines_of_their_orientation_and_polarity(unit: PlantedLine) -> None:
    contrast = 1.0 if unit.phase_deg == 0 else -1.0
    assert_tuned_to_line(unit, contrast)
    peak = at_middle(to_lines(contrast), unit.address).max()
    assert at_middle(to_lines(-contrast), unit.address).max() < 0.2 * peak


@pytest.mark.parametrize("index", range(answers.LINE_COUNT))
def test_odd_gabors_prefer_edges_on_their_two_sides(index: int) -> None:
    angle_deg = LINES[index].orientation_deg
    angle = np.radians(angle_deg)
    rows, columns = np.mgrid[:112, :112].astype(np.float64) - MIDDLE_PX
    across = columns * np.sin(angle) + rows * np.cos(angle)
    edges = np.clip(across / 2 + 0.5, 0, 1)
    said = responses(model_input([edges, 1 - edges]))
    dark_first, light_first = (
        at_middle(said, f"gabor:{4 * index + 3}"),
        at_middle(said, f"gabor:{4 * index + 1}"),
    )
    assert dark_first[0] > 0.3
    assert dark_first[1] == 0
    assert light_first[1] > 0.3
    assert light_first[0] == 0


@pytest.mark.parametrize("contrast", [1.0, -1.0])
@pytest.mark.parametrize("unit", [*answers.COMPLEX, *LINES], ids=str)
def test_complex_units_and_lines_prefer_their_orientation_in_either_polarity(
    unit: PlantedLine, contrast: float
) -> None:
    assert_tuned_to_line(unit, contrast)


@pytest.mark.parametrize("unit", EARLY_CURVES, ids=str)
def test_early_curves_prefer_their_orientation_and_echo(unit: PlantedArc) -> None:
    assert_tuned_to_arc(unit, to_arcs(), tolerance_deg=3)
    values = at_middle(to_arcs(), unit.address)
    opposite = int((unit.orientation_deg + 180) % 360 / 7.5)
    assert 0.2 < values[opposite] / values.max() < 0.5


@pytest.mark.parametrize("unit", CURVES, ids=str)
def test_curves_prefer_their_orientation_in_either_polarity_without_echo(unit: PlantedArc) -> None:
    for contrast in (1.0, -1.0):
        assert_tuned_to_arc(unit, to_arcs(contrast=contrast), tolerance_deg=3)
    values = at_middle(to_arcs(), unit.address)
    assert 0.8 < values.max() < 1.25
    far = [abs(turn_deg(angle, unit.orientation_deg)) >= 60 for angle in ARC_ANGLES_DEG]
    assert (values[torch.tensor(far)] < 0.1 * values.max()).all()


@pytest.mark.parametrize("unit", CURVES, ids=str)
def test_curves_are_silent_to_straight_lines(unit: PlantedArc) -> None:
    assert (at_middle(to_lines(), unit.address) < 0.1).all()


@pytest.mark.parametrize("radius_px", [16.0, 36.0])
def test_curves_prefer_their_radius(radius_px: float) -> None:
    some = CURVES[::4]
    said = responses(model_input(draw_arc(unit.orientation_deg, radius_px) for unit in some))
    for index, unit in enumerate(some):
        there = at_middle(to_arcs(), unit.address).max()
        assert at_middle(said, unit.address)[index] < 0.95 * there


# The extras.


def test_the_dead_unit_cannot_fire_by_its_weights() -> None:
    network = planted_network()
    channel = int(DEAD.split(":")[1])
    # Its inputs come out of ReLUs, so no more than the positive weights plus the bias is possible.
    largest = network.curve.weight[channel].clamp(min=0).sum()
    assert largest == 0
    assert network.curve.bias is not None
    assert network.curve.bias[channel] < 0


def test_the_dead_unit_stays_dead_when_asked_to_fire() -> None:
    network = planted_network()
    before: list[Tensor] = []
    network.curve.register_forward_hook(lambda _m, _i, o: before.append(o[:, -1]))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, *INPUT_SIZE, generator=generator)
    for _ in range(10):
        images = images.detach().requires_grad_()
        network(images.tanh())
        (gradient,) = torch.autograd.grad(before[-1].sum(), images)
        images = images + 3 * gradient.sign()
    extremes = torch.randint(0, 2, (2, 3, *INPUT_SIZE), generator=generator) * 2.0 - 1
    constants = torch.tensor([-1.0, 0.0, 1.0])[:, None, None, None].expand(3, 3, *INPUT_SIZE)
    network(torch.cat([images.detach().tanh(), extremes, constants, 1e6 * extremes]))
    assert max(float(values.detach().max()) for values in before) <= -REST


def test_the_duplicate_is_equal_to_the_bit() -> None:
    images = torch.rand(3, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    said = responses(torch.cat([images, model_input([draw_arc(90, RADIUS_PX)]).float()]))
    assert list(DUPLICATES.items()) == [(f"curve:{CURVE_COUNT}", "curve:6")]
    curve = said["curve"]
    assert torch.equal(curve[:, CURVE_COUNT], curve[:, 6])
    assert curve[-1, 6].max() > 0.8


def test_both_needs_both_halves_and_either_takes_either() -> None:
    middle, reach = MIDDLE_PX, int(RADIUS_PX)
    left = draw_arc(0, RADIUS_PX, apex=(middle, middle - reach))
    right = draw_arc(180, RADIUS_PX, apex=(middle, middle + reach))
    said = responses(model_input([left, right, np.maximum(left, right), np.full((112, 112), 0.5)]))
    both = at_middle(said, answers.BOTH.address)
    either = at_middle(said, answers.EITHER.address)
    assert (both[2] > 0.7) & (both[:2].max() < 0.1 * both[2]) & (both[3] <= REST + 1e-6)
    assert (either[:3] > 0.7).all()
    assert either[3] <= REST + 1e-6


def test_both_and_either_are_the_smaller_and_the_larger_part() -> None:
    images = torch.rand(2, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(2)) * 2 - 1
    said = responses(torch.cat([images.double(), model_input([draw_arc(0, RADIUS_PX)])]))
    left, right = said["part"][:, 0], said["part"][:, 1]
    assert (left - right).abs().max() > 0.5
    # rtol=0, atol=1e-12: float64 rounding
    torch.testing.assert_close(said["whole"][:, 0], torch.minimum(left, right), rtol=0, atol=1e-12)
    torch.testing.assert_close(said["whole"][:, 1], torch.maximum(left, right), rtol=0, atol=1e-12)


def test_parts_repeat_their_source_three_columns_away() -> None:
    said = responses(model_input([draw_arc(180, RADIUS_PX), draw_arc(0, RADIUS_PX)]))
    for part in (answers.LEFT, answers.RIGHT):
        moved = said["part"][:, int(part.address[-1])]
        source = said["curve"][:, int(part.source.split(":")[1])]
        inner = slice(3, source.shape[-1] - 3)
        shifted = source.roll(-part.columns, dims=-1)
        assert torch.equal(moved[..., inner], shifted[..., inner])


def test_the_color_unit_likes_red_and_neither_cyan_nor_any_grey() -> None:
    def filled(color: tuple[float, float, float]) -> Tensor:
        return (torch.tensor(color)[:, None, None].expand(3, *INPUT_SIZE) - 0.5) / 0.5

    assert COLOR.prefers == (1.0, 0.0, 0.0)
    said = responses(torch.stack([filled(COLOR.prefers), filled(COLOR.opponent)]))
    values = at_middle(said, COLOR.address)
    assert values[0] > 0.99
    assert values[1] == 0
    hues = [(1.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 1.0)]
    assert (at_middle(responses(torch.stack([filled(h) for h in hues])), COLOR.address) < 0.6).all()
    for greys in (to_arcs(), to_lines(-1.0)):
        assert greys["gabor"][:, -1].max() < 1e-7


def test_gabors_do_not_see_color_at_equal_luminance() -> None:
    line = torch.tensor(draw_line(0)) - 0.5
    red_on_green = torch.stack([line, -line, 0 * line])[None]
    said = responses(red_on_green)
    assert said["gabor"][:, : len(GABORS)].abs().max() < 1e-7
    assert said["gabor"][:, -1].max() > 0.1


def test_the_residual_add_is_the_sum_of_its_parts() -> None:
    images = torch.rand(2, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(3)) * 2 - 1
    said = responses(images)
    color = said["gabor"][:, -1:, ::4, ::4]
    assert color.max() > 0.1
    assert torch.equal(said["tint"], (answers.TINT_GAIN * color).expand_as(said["tint"]))
    assert torch.equal(said["joined"], said["curve"] + said["tint"])
    assert torch.equal(said["joined"][:, -1], said["tint"][:, -1])
    for unit in answers.SUMS:
        assert [address.split(":")[1] for address in unit.addends] == 2 * [unit.address[7:]]


def test_the_logits_are_the_means_that_they_say() -> None:
    images = model_input([draw_arc(0, RADIUS_PX)]) + torch.tensor([0.3, 0, 0])[:, None, None]
    said = responses(images)
    joined, whole = said["joined"].mean((2, 3)), said["whole"].mean((2, 3))
    expected = torch.stack([joined[:, :CURVE_COUNT].mean(1), whole[:, 0], joined[:, -1]], dim=1)
    assert list(answers.LOGITS) == ["curve", "circle", "red"]
    # float32 weights of 1 / 24
    torch.testing.assert_close(said["head"], expected, rtol=1e-6, atol=0)


# The start and the weights.


@pytest.mark.parametrize(
    "address", [*(unit.address for unit in CURVES), "part:0", "part:1", "whole:0", "whole:1"]
)
def test_the_upper_units_have_a_gradient_at_a_noise_start(address: str) -> None:
    assert (gradient_at_noise(address).abs().amax((1, 2, 3)) > 0).all()


def test_climbing_from_noise_draws_the_arc_that_a_curve_unit_prefers() -> None:
    units = (1, 16)
    network = planted_network()
    curve: list[Tensor] = []
    network.curve.register_forward_hook(lambda _m, _i, o: curve.append(functional.relu(o)))
    generator = torch.Generator().manual_seed(0)
    parameters = 0.08 * torch.randn(len(units), 3, *INPUT_SIZE, generator=generator)
    optimizer = torch.optim.Adam([parameters.requires_grad_()], lr=0.05)
    for _ in range(80):
        network(torch.sigmoid(parameters) * 2 - 1)
        optimizer.zero_grad()
        (-curve.pop()[range(len(units)), units, 7, 7].sum()).backward()
        optimizer.step()
    for unit, picture in zip(units, torch.sigmoid(parameters.detach()).mean(dim=1), strict=True):
        found_deg = best_arc_orientation(picture.double().numpy(), RADIUS_PX)
        assert abs(turn_deg(found_deg, CURVES[unit].orientation_deg)) <= 10


def test_every_layer_below_is_partly_awake_at_a_noise_start() -> None:
    images = 0.04 * torch.randn(2, 3, *INPUT_SIZE, generator=torch.Generator().manual_seed(4))
    said = responses(images)
    for layer in ("gabor", "complex", "line", "early"):
        assert (said[layer] > 0).any(dim=(2, 3)).all(), layer


def test_gabor_weights_are_what_the_formula_says() -> None:
    weight = planted_network().gabor.weight
    for channel, row, column in [(0, 4, 4), (4 * 5 + 1, 2, 6), (4 * 13, 7, 3), (4 * 17 + 3, 0, 5)]:
        unit = GABORS[channel]
        assert unit.phase_deg is not None
        expected = planted_kernels.gabor_weight(unit.orientation_deg, unit.phase_deg, row, column)
        for color in range(3):
            # atol: float32 rounding of weights below 0.1
            assert float(weight[channel, color, row, column]) == pytest.approx(expected, abs=1e-8)


def test_curve_weights_are_what_the_formula_says() -> None:
    weight = planted_network().curve.weight
    for curve, source, row, column in [(0, 0, 2, 2), (3, 5, 1, 4), (10, 22, 3, 0), (17, 16, 4, 1)]:
        expected = planted_kernels.curve_weight(15.0 * curve, 15.0 * source, row, column)
        # atol: float32 rounding of weights below 1
        assert float(weight[curve, source, row, column]) == pytest.approx(expected, abs=1e-7)


def test_building_it_twice_gives_the_same_bits_and_leaves_the_random_stream_alone() -> None:
    before = torch.random.get_rng_state()
    first, second = planted_network().state_dict(), planted_network().state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(weight.requires_grad for weight in planted_network().parameters())


def test_any_size_runs() -> None:
    sizes = [(1, 1), (113, 150), (117, 224)]
    assert all(planted_network()(torch.zeros(1, 3, *size)).shape == (1, 3) for size in sizes)
