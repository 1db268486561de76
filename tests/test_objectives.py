"""Each objective is its definition in NumPy; in a batch each row has its own, exactly."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from evaluation import BATCH, COLUMNS, EXACT, ROWS, pictures, program_values, seen_of, values_of
from hypothesis import given
from hypothesis import strategies as st
from reference import objectives as reference
from torch import Tensor

from featviz.engine.algebra import Objective
from featviz.engine.fading import interpolation
from featviz.engine.objectives import (
    Channel,
    DeepDream,
    Direction,
    Likeness,
    Logit,
    Misalignment,
    Neuron,
    NeuronDirection,
    TensorDirection,
    of_unit,
    title,
)
from featviz.engine.penalties import L1, L2, ImageDistance, Roughness, TotalVariation
from featviz.engine.program import Program
from featviz.engine.seen import Grid, Maps, Seen, grid_of, see
from featviz.errors import DoesNotFit, OutOfRange, UnknownName
from featviz.network.layers import Layer
from featviz.network.network import Network
from featviz.units import parse_unit

VECTOR = (0.5, -1.0, 2.0, 0.25, -0.5)
TENSOR = tuple(np.random.default_rng(3).normal(size=5 * 2 * 3).tolist())


def maps_of(network: Network, layer: str, images: Tensor) -> reference.Array:
    return seen_of(network, [layer], images).maps[layer].values.numpy()


IMAGE_TARGET = pictures(1, seed=9)[0].mul(255).round().div(255)

SINGLE: dict[str, Objective] = {
    "channel": Channel("third", 3),
    "channel of tokens": Channel("tokens", 6),
    "channel of features": Channel("head", 2),
    "channel before its rectifier": Channel("first/pre", 1),
    "neuron": Neuron("third", 2, 1, 3),
    "neuron in the center": Neuron("third", 2),
    "neuron of a token": Neuron("tokens", 4, 17, 0),
    "neuron of features": Neuron("head", 1),
    "deepdream": DeepDream("second"),
    "direction": Direction("third", VECTOR),
    "direction with cosine": Direction("third", VECTOR, 1.5),
    "neuron direction": NeuronDirection("third", VECTOR, 4, 1, 2.0),
    "tensor direction": TensorDirection("third", (5, 2, 3), TENSOR, 1.0),
    "logit": Logit(1),
    "total variation": TotalVariation(),
    "l1": L1(0.3),
    "l1 of a layer": L1(0.1, "second"),
    "l2": L2(0.4),
    "l2 of a layer": L2(0.4, "tokens", 1e-3),
    "roughness": Roughness(),
    "image distance": ImageDistance.to(IMAGE_TARGET),
}
COUPLED: dict[str, Objective] = {
    "likeness by sites": Likeness("head"),
    "likeness by channels": Likeness("third"),
    "misalignment": Misalignment("third"),
    "misalignment, slow decay": Misalignment("second", 1.25),
}

DEFINITIONS: dict[str, Callable[[Network, Tensor], reference.Array]] = {
    "channel": lambda n, x: reference.channel(maps_of(n, "third", x), 3),
    "channel of tokens": lambda n, x: reference.channel(maps_of(n, "tokens", x), 6),
    "channel of features": lambda n, x: n(x).numpy()[:, 2],
    "channel before its rectifier": lambda n, x: reference.channel(maps_of(n, "first/pre", x), 1),
    "neuron": lambda n, x: reference.neuron(maps_of(n, "third", x), 2, 1 * 5 + 3),
    "neuron in the center": lambda n, x: reference.neuron(maps_of(n, "third", x), 2, 3 * 5 + 2),
    "neuron of a token": lambda n, x: reference.neuron(maps_of(n, "tokens", x), 4, 17),
    "neuron of features": lambda n, x: n(x).numpy()[:, 1],
    "deepdream": lambda n, x: reference.deepdream(maps_of(n, "second", x)),
    "direction": lambda n, x: reference.direction(maps_of(n, "third", x), np.array(VECTOR), 0),
    "direction with cosine": lambda n, x: reference.direction(
        maps_of(n, "third", x), np.array(VECTOR), 1.5
    ),
    "neuron direction": lambda n, x: reference.neuron_direction(
        maps_of(n, "third", x), np.array(VECTOR), 4 * 5 + 1, 2.0
    ),
    "tensor direction": lambda n, x: reference.tensor_direction(
        maps_of(n, "third", x).reshape(len(x), 5, 6, 5), np.array(TENSOR).reshape(5, 2, 3), 1.0
    ),
    "logit": lambda n, x: n(x).numpy()[:, 1],
    "total variation": lambda n, x: reference.total_variation(x.numpy()),
    "l1": lambda n, x: reference.l1(x.numpy(), 0.3),
    "l1 of a layer": lambda n, x: reference.l1(maps_of(n, "second", x), 0.1),
    "l2": lambda n, x: reference.l2(x.numpy(), 0.4, 1e-6),
    "l2 of a layer": lambda n, x: reference.l2(maps_of(n, "tokens", x), 0.4, 1e-3),
    "roughness": lambda n, x: reference.roughness(x.numpy()),
    "image distance": lambda n, x: reference.image_distance(x.numpy(), IMAGE_TARGET.numpy(), 1e-12),
}


@pytest.mark.parametrize("name", SINGLE)
def test_an_objective_is_its_definition(name: str, everything: Network) -> None:
    images = pictures()
    expected = DEFINITIONS[name](everything, images)
    actual = values_of(everything, SINGLE[name], images).numpy()
    np.testing.assert_allclose(actual, expected, **EXACT)
    assert len(set(actual.tolist())) == BATCH  # no two pictures say the same


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("layer", ["third", "tokens", "head", "second"])
def test_likeness_is_its_definition_on_both_branches(
    layer: str, count: int, everything: Network
) -> None:
    maps = maps_of(everything, layer, pictures())
    actual = values_of(everything, Likeness(layer), pictures(), count=count)
    np.testing.assert_allclose(actual, reference.likeness(maps, count), **EXACT)


def test_the_likeness_of_one_picture_is_zero_and_of_twins_is_one(everything: Network) -> None:
    assert values_of(everything, Likeness("third"), pictures(), count=1).eq(0).all()
    twins = pictures(1).expand(4, -1, -1, -1)
    torch.testing.assert_close(
        values_of(everything, Likeness("third"), twins, count=4),
        torch.ones(4, dtype=torch.float64),
        **EXACT,
    )


def test_gram_matrices_and_pairs_of_sites_give_the_same_likeness() -> None:
    """The squared norm of A_i^T A_j is the inner product of the Gram matrices."""
    values = torch.randn(4, 5, 5, dtype=torch.float64)  # equally many: the branch by sites
    by_sites = Likeness("x").evaluate(seen_with(values, count=4), ())
    wider = torch.cat([values, torch.zeros(4, 5, 1, dtype=torch.float64)], dim=2)
    by_grams = Likeness("x").evaluate(seen_with(wider, count=4), ())
    torch.testing.assert_close(by_sites, by_grams, **EXACT)


@pytest.mark.parametrize("decay", [1.0, 2.0])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_misalignment_is_its_definition(count: int, decay: float, everything: Network) -> None:
    maps = maps_of(everything, "third", pictures())
    actual = values_of(everything, Misalignment("third", decay), pictures(), count=count)
    np.testing.assert_allclose(actual, reference.misalignment(maps, count, decay), **EXACT)


def seen_with(values: Tensor, *, count: int = 1, grid: Grid | None = None) -> Seen:
    """What terms see of a layer "x" with these (batch, channel, site) values."""
    sites = values.shape[2]
    maps = Maps(values, grid if grid is not None else Grid(values.shape[1], sites, 1))
    return Seen({"x": maps}, {"x": values}, pictures(len(values)), count)


@pytest.mark.parametrize("name", SINGLE)
def test_permuting_the_batch_permutes_the_values(name: str, everything: Network) -> None:
    images, order = pictures(), torch.tensor([3, 0, 5, 1, 4, 2])
    before = values_of(everything, SINGLE[name], images)
    after = values_of(everything, SINGLE[name], images[order])
    torch.testing.assert_close(after, before[order], **EXACT)


@pytest.mark.parametrize("name", SINGLE)
def test_changing_a_picture_changes_its_value_only(name: str, everything: Network) -> None:
    images, other = pictures(), pictures()
    other[2] = pictures(seed=1)[2]
    changed = values_of(everything, SINGLE[name], images) != values_of(
        everything, SINGLE[name], other
    )
    assert changed.tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("name", COUPLED)
def test_coupled_objectives_stay_within_their_recipe(name: str, everything: Network) -> None:
    assert COUPLED[name].is_coupled
    images, other = pictures(), pictures()
    other[4] = pictures(seed=1)[4]
    changed = values_of(everything, COUPLED[name], images, count=3) != values_of(
        everything, COUPLED[name], other, count=3
    )
    assert changed.tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize("name", [*SINGLE, *COUPLED])
def test_one_finite_number_for_each_picture(name: str, everything: Network) -> None:
    objective = {**SINGLE, **COUPLED}[name]
    for images in (pictures(4), torch.zeros(4, 3, ROWS, COLUMNS, dtype=torch.float64)):
        values = values_of(everything, objective, images, count=2)
        assert values.shape == (4,)
        assert values.isfinite().all()


GRIDS = {
    "first/pre": Grid(6, 3, 4),
    "second": Grid(8, 3, 2),
    "third": Grid(5, 6, 5),
    "tokens": Grid(7, 30, 1),
    "head": Grid(4),
}


@pytest.mark.parametrize("name", sorted({*SINGLE, *COUPLED} - {"roughness", "logit"}))
def test_the_gradient_is_that_of_the_value(name: str) -> None:
    """Central differences; roughness holds its blur fixed on purpose, see test_penalties."""
    objective = {**SINGLE, **COUPLED}[name]
    layer = next(iter(objective.layers), None)
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(2, 3, *IMAGE_TARGET.shape[1:], generator=generator, dtype=torch.float64)

    def value(given: Tensor) -> Tensor:
        if layer is None:
            return objective(Seen({}, {}, given, count=2))
        return objective(Seen({layer: Maps(given, GRIDS[layer])}, {}, images, count=2))

    given = images
    if layer is not None:
        grid = GRIDS[layer]
        shape = (2, grid.channels, grid.rows * grid.columns)
        given = torch.randn(shape, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(value, given.requires_grad_(), fast_mode=True)


def test_a_direction_at_zero_activations_has_a_gradient() -> None:
    values = torch.zeros(1, 5, 4, dtype=torch.float64, requires_grad=True)
    Direction("x", VECTOR, 2.0)(seen_with(values)).sum().backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert values.grad.ne(0).any()


def test_rows_and_columns_are_not_exchanged() -> None:
    """The neuron at row 1, column 2 of a 3x4 map is its seventh."""
    values = torch.arange(12.0, dtype=torch.float64).reshape(1, 1, 12)
    seen = seen_with(values, grid=Grid(1, rows=3, columns=4))
    assert Neuron("x", 0, 1, 2)(seen).item() == 6
    assert Neuron("x", 0)(seen).item() == 6  # center: rows // 2, columns // 2
    assert NeuronDirection("x", (2.0,), 2, 1)(seen).item() == 18
    assert TensorDirection("x", (1, 1, 2), (1.0, 0.0))(seen).item() * 2 == 5


@pytest.mark.parametrize(("row", "column"), [(3, 0), (0, 4), (-1, 0), (0, -1)])
def test_a_position_outside_the_map_is_refused(row: int, column: int) -> None:
    values = torch.zeros(1, 1, 12, dtype=torch.float64)
    with pytest.raises(OutOfRange, match=r"(row|column) -?\d is out of range: the map of 'x'"):
        Neuron("x", 0, row, column)(seen_with(values, grid=Grid(1, rows=3, columns=4)))


def layer_with(sites: tuple[int, ...], channel_dim: int) -> Layer:
    return Layer(
        name="x", kind="conv", is_view=False, channels=5, sites=sites, positions=1,
        channel_dim=channel_dim, post=0, pre=None, parameters=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "sites", "channel_dim", "here"),
    [
        ((2, 5, 3, 4), (3, 4), 1, lambda v: v[:, 1, 2, 3]),
        ((2, 3, 4, 5), (3, 4), 3, lambda v: v[:, 2, 3, 1]),
        ((2, 7, 5), (7,), 2, lambda v: v[:, 2, 1]),
        ((2, 5), (), 1, lambda v: v[:, 1]),
    ],
)
def test_layouts(
    shape: tuple[int, ...],
    sites: tuple[int, ...],
    channel_dim: int,
    here: Callable[[Tensor], Tensor],
) -> None:
    values = torch.randn(shape, dtype=torch.float64)
    seen = see({"x": values}, {"x": layer_with(sites, channel_dim)}, pictures(2))
    places = (2, 3)[: len(sites)] + (0, 0)[len(sites) :]
    assert torch.equal(Neuron("x", 1, *places)(seen), here(values))
    others = [axis for axis in range(1, values.ndim) if axis != channel_dim]
    means = values.mean(dim=others) if others else values
    torch.testing.assert_close(Channel("x", 1)(seen), means[:, 1], **EXACT)


def test_other_layouts_are_refused() -> None:
    with pytest.raises(DoesNotFit, match=r"'x': got 5 dimensions, expected \(batch, channel, row"):
        grid_of(layer_with((2, 3, 4), 1))


def test_low_precision_activations_are_summed_in_float32() -> None:
    values = torch.full((1, 5, 64, 64), 1.0).bfloat16()
    values[0, 1, 0, 0] = 3
    seen = see({"x": values}, {"x": layer_with((64, 64), 1)}, pictures(1).float())
    assert Channel("x", 1)(seen).item() == 1 + 2 / 4096


ROWS_OF_PROGRAM: list[Objective] = [
    Channel("third", 1),
    Channel("third", 4) - 2 * Channel("third", 0) + 0.5 * Channel("third", 4),
    Neuron("third", 2, 1, 3) / 3,
    -Direction("third", VECTOR) + 0.25 * TotalVariation(),
    Direction("third", VECTOR[::-1], 1.0) - Direction("third", VECTOR, 1.0),
    L2(0.1) + L2(0.2) - L2(0.1, "second") - L1(),
    0.5 * DeepDream("tokens") - NeuronDirection("third", VECTOR, 0, 4),
    TensorDirection("third", (5, 2, 3), TENSOR),
    Channel("first/pre", 0) - Channel("first", 0),
    Logit(3) - 0.1 * ImageDistance.to(IMAGE_TARGET) + 0.2 * ImageDistance.to(1 - IMAGE_TARGET),
]


@given(order=st.permutations(range(len(ROWS_OF_PROGRAM))))
def test_a_program_is_each_rows_own_objective(order: list[int], everything: Network) -> None:
    objectives = [ROWS_OF_PROGRAM[index].resolve(everything) for index in order]
    values, seen = program_values(everything, objectives, pictures(len(order)))
    for row, objective in enumerate(objectives):
        torch.testing.assert_close(values[row], objective(seen)[row], **EXACT)


def test_a_program_of_coupled_rows(everything: Network) -> None:
    recipes = [
        Channel("third", 2) - Likeness("third"),
        0.5 * Channel("second", 2) - 3 * Misalignment("second") - Likeness("third"),
    ]
    rows = [each for each in recipes for _ in range(3)]
    values, seen = program_values(everything, rows, pictures(6), count=3)
    for row, objective in enumerate(rows):
        torch.testing.assert_close(values[row], objective(seen)[row], **EXACT)


def test_a_mates_term_cannot_make_a_rows_gradient_nan() -> None:
    """L2 without epsilon has an infinite slope at its constant, where the other row is."""
    images = torch.full((2, 3, 4, 4), 0.5, dtype=torch.float64)
    images[1] = 0.7
    images.requires_grad_()
    program = Program([L1(), L2(0.5, epsilon=0.0)], {}, like=images)
    program(Seen({}, {}, images)).sum().backward()
    assert images.grad is not None
    torch.testing.assert_close(images.grad[0], torch.full_like(images[0], 1 / 48), **EXACT)


def test_a_mates_term_cannot_make_a_rows_value_infinite() -> None:
    """The square of row 0's second channel is infinite, but nobody asked row 0 for it."""
    values = torch.ones(2, 2, 3, dtype=torch.float64)
    values[0, 1] = 1e200
    values.requires_grad_()
    seen = seen_with(values)
    program = Program([Channel("x", 0), DeepDream("x")], {"x": Grid(2, 3)}, like=seen.images)
    result = program(seen)
    assert result.tolist() == [1, 1]
    result.sum().backward()
    assert values.grad is not None
    assert values.grad[0].tolist() == [[1 / 3] * 3, [0] * 3]


def graph_size(values: Tensor) -> int:
    found, waiting = set(), [values.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return len(found)


def test_the_work_of_a_program_does_not_grow_with_its_rows(everything: Network) -> None:
    """Lucent's sum of per-image objectives takes O(batch**2)."""
    sizes = []
    for count in (4, 32):
        images = pictures(count).requires_grad_()
        objectives = [Channel("third", row % 5) - Neuron("second", row % 8) for row in range(count)]
        sizes.append(graph_size(program_values(everything, objectives, images)[0]))
    assert sizes[0] == sizes[1]


def test_an_interpolation_goes_from_first_to_second(everything: Network) -> None:
    first, second = Channel("third", 1), 2 * Neuron("second", 3)
    images = pictures(5)
    seen = seen_of(everything, ["third", "second"], images, count=5)
    share = torch.linspace(0, 1, 5, dtype=images.dtype)
    expected = (1 - share) * first(seen) + share * second(seen)
    found = interpolation(first, second)(seen)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)  # float64 rounding
    assert interpolation(first, second).is_coupled


def test_the_objective_of_an_address() -> None:
    assert of_unit(parse_unit("conv/pre:3")) == Channel("conv/pre", 3)
    assert of_unit(parse_unit("conv:3@1,2")) == Neuron("conv", 3, 1, 2)
    assert of_unit(parse_unit("conv:3@center")) == Neuron("conv", 3, "center", "center")


def test_resolving_checks_every_name_and_number(everything: Network) -> None:
    with pytest.raises(UnknownName, match="nearest: third"):
        (Channel("first", 0) - Channel("thrid", 0)).resolve(everything)
    with pytest.raises(OutOfRange, match=r"channel 5 .*'third' has 0 to 4"):
        Channel("third", 5).resolve(everything)
    with pytest.raises(OutOfRange, match="channel -1"):
        Neuron("third", -1).resolve(everything)
    with pytest.raises(DoesNotFit, match="got 2 values, expected 5"):
        Direction("third", (1.0, 2.0)).resolve(everything)
    with pytest.raises(DoesNotFit, match="got 3 values, expected 30"):
        TensorDirection("third", (5, 2, 3), (1.0, 2.0, 3.0)).resolve(everything)
    with pytest.raises(UnknownName, match="no read point 'head/pre'"):
        Channel("head/pre", 0).resolve(everything)
    with pytest.raises(UnknownName, match="class label 'tench'"):
        Logit("tench").resolve(everything)
    with pytest.raises(DoesNotFit, match=r"got 9x1, expected at most the map's 6x5"):
        values_of(everything, TensorDirection("third", (5, 9, 1), (1.0,) * 45), pictures())
    with pytest.raises(DoesNotFit, match="no network"):
        Logit(3).layers


@pytest.mark.parametrize(
    "vector", [torch.tensor([1.0, -2.0]), np.array([1.0, -2.0]), [1.0, -2.0], (1.0, -2.0)]
)
def test_a_direction_takes_any_kind_of_vector(vector: Any) -> None:
    assert Direction("x", vector) == Direction("x", (1.0, -2.0))
    assert hash(NeuronDirection("x", vector)) == hash(NeuronDirection("x", (1.0, -2.0)))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: Direction("third", [math.nan, 1.0]), OutOfRange, "value nan"),
        (lambda: NeuronDirection("third", [math.inf]), OutOfRange, "value inf"),
        (lambda: Direction("third", [1.0], -1.0), OutOfRange, r"cosine_power -1\.0 .* 0 to any"),
        (lambda: Direction("third", [1.0], math.nan), OutOfRange, "cosine_power nan"),
        (lambda: TensorDirection("third", (0, 1, 1), []), OutOfRange, r"shape \(0, 1, 1\)"),
        (lambda: TensorDirection("third", (1, 1, 1), [math.nan]), OutOfRange, "value nan"),
        (lambda: Misalignment("third", 0.0), OutOfRange, r"decay 0\.0 .* above 0 to any"),
        (lambda: Misalignment("third", math.nan), OutOfRange, "decay nan"),
        (lambda: Channel("third", -1), OutOfRange, "channel -1"),
        (lambda: Neuron("third", -1), OutOfRange, "channel -1"),
    ],
)
def test_terms_are_checked_when_they_are_made(
    build: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build()


OTHER_KINDS = """
import numpy as np
from featviz import Channel, Direction, FeatvizError, Jitter, Neuron, Noise, Stack, TensorDirection

assert Channel("third", np.int64(3)) == Channel("third", 3)
assert type(Channel("third", np.int64(3)).channel) is int
assert TensorDirection("a", [1, 2, 1], [1, 2]) == TensorDirection("a", (1, 2, 1), (1.0, 2.0))
assert Stack([Jitter(4), Noise(0.1)]) == Stack((Jitter(4), Noise(0.1)))
for build in (
    lambda: Channel("third", "3"),
    lambda: Channel("third", True),
    lambda: Neuron("third", 1, "middle", 0),
    lambda: Direction("third", ["a"]),
    lambda: Direction("third", [1.0], "2"),
    lambda: TensorDirection("third", (1.5, 1, 1), [1.0]),
    lambda: Stack(["jitter"]),
):
    try:
        build()
    except FeatvizError as error:
        print(error)
"""


def test_other_kinds_are_taken_or_refused_where_nothing_checks_types() -> None:
    """In a process of its own: in this one every annotation is checked first."""
    done = subprocess.run(
        [sys.executable, "-c", OTHER_KINDS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "the channel of a channel's objective: got '3', expected a whole number",
        "the channel of a channel's objective: got True, expected a whole number",
        "the row of a neuron, 'center' or a number: got 'middle', expected a whole number",
        "a vector: got ['a'], expected numbers",
        "cosine_power of a direction: got '2', expected a number",
        "a tensor direction's shape: got 1.5, expected a whole number",
        "a member of a Stack: got str, expected a transform",
    ]


def test_long_vectors_are_counted_in_titles() -> None:
    assert title(Direction("blocks.4", torch.rand(40))) == "direction(blocks.4, 40 numbers, 0.0)"
    assert title(Direction("blocks.4", (1.0, 2.0))) == "direction(blocks.4, [1.0, 2.0], 0.0)"
    distance = ImageDistance.to(torch.rand(3, 9, 9))
    assert title(distance - Channel("a", 1)) == "image_distance(..., 1e-12) - channel(a, 1)"
    many = sum((Channel("some.layer", each) for each in range(20)), start=0 * Channel("a", 1))
    assert len(title(many)) == 80
    assert title(many)[-1] == "…"
    assert title(Channel("a", 1)) == "a:1"
