"""The loops: equal to each other, to Adam written out, and to maxima that are known."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import Everything, Rectified, network_of
from reference import adam
from torch import Tensor, nn

from featviz.engine.ascent import ascent
from featviz.engine.custom import objective
from featviz.engine.given import GivenImage
from featviz.engine.objectives import Channel, Likeness, Logit, Misalignment, Neuron
from featviz.engine.optimize import Step, clean_values, optimize
from featviz.engine.penalties import L1, TotalVariation
from featviz.engine.recipe import Adam, Decay, FactoredAdam, Plateau, Recipe, default_recipe
from featviz.engine.slots import CHECK_EVERY, Finished, optimize_batch
from featviz.engine.stopping import Stopping
from featviz.errors import NotFinite
from featviz.image.parameterizations import Fourier, Pixel
from featviz.image.transforms import Jitter, Noise, Pad, Rotate, Scale, Stack
from featviz.kernels.factored import LIMIT
from featviz.kernels.rows import finite
from featviz.network.network import Network

PLAIN = Pixel(color="plain")
MOVING = Stack((Pad(2), Jitter(3), Scale(0.9, 1.1), Rotate(10.0), Noise(0.05)))


def asked(network: Network, what: object, **settings: object) -> Recipe:
    given = {"transforms": Stack(), "parameterization": PLAIN, **settings}
    return default_recipe(network, what, **given)  # type: ignore[arg-type]


def reference_loop(network: Network, recipe: Recipe) -> list[Step]:
    return list(optimize(network, recipe, dtype=torch.float64))


def pictures_of(finished: Finished) -> Tensor:
    assert finished.is_finite.all()
    return finished.images


@pytest.mark.parametrize("kind", [Adam, FactoredAdam])
@pytest.mark.parametrize("decays", ["parabola", "cubic", True, False])
def test_both_loops_are_adam_written_out(kind: type[Adam], decays: Decay, linear: Network) -> None:
    recipe = asked(
        linear, Logit(1), steps=64, optimizer=kind(0.2, decays=decays, beta1=0.8, beta2=0.99)
    )
    weights = linear.module.get_parameter("layer.weight")[1].reshape(3, 4, 5).numpy()
    start = PLAIN.initial(torch.tensor([recipe.seed]), recipe.shape, dtype=torch.float64)
    parameters, values = adam.ascend(
        *(start[0].numpy(), weights),
        steps=64,
        learning_rate=0.2,
        decays=decays,
        betas=(0.8, 0.99),
        is_factored=kind is FactoredAdam,
    )
    expected = 1 / (1 + np.exp(-parameters))
    steps = reference_loop(linear, recipe)
    finished = optimize_batch(linear, [recipe, recipe])
    # Float64 rounding; Adam divides by a root of squares, which amplifies it a little.
    tolerance = {"rtol": 0, "atol": 1e-11}
    np.testing.assert_allclose(steps[-1].images[0].numpy(), expected, **tolerance)
    np.testing.assert_allclose(finished.images[1].numpy(), expected, **tolerance)
    np.testing.assert_allclose([float(each.values) for each in steps[:-1]], values, **tolerance)
    np.testing.assert_allclose(finished.course[:, 0].numpy(), values, **tolerance)


def test_a_step_of_ascent_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    mine = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    theirs = mine.clone().requires_grad_()
    settings = Adam(0.3, beta1=0.8, beta2=0.95, epsilon=1e-3)
    climbing = ascent(settings, mine, steps=5)
    everyone = torch.ones(3, dtype=torch.bool)
    optimizer = torch.optim.Adam([theirs], betas=(0.8, 0.95), eps=1e-3, maximize=True)
    for number in range(5):
        gradient = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        climbing.step(mine, gradient, numbers=torch.full((3,), number), moves=everyone)
        optimizer.param_groups[0]["lr"] = settings.rate(number, 5)
        theirs.grad = gradient
        optimizer.step()
    torch.testing.assert_close(mine, theirs.detach(), rtol=0, atol=1e-12)  # float64 rounding


@pytest.mark.parametrize("settings", [Adam(0.3), FactoredAdam(0.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_that_do_not_move_are_not_touched_by_their_gradient(
    settings: Adam, dtype: torch.dtype
) -> None:
    parameters, apart, gradient = (torch.ones(2, 3, 4, 5, dtype=dtype) for _ in range(3))
    numbers = torch.zeros(2, dtype=torch.int64)
    together, alone = (ascent(settings, parameters, steps=2) for _ in range(2))
    alone.step(apart, gradient, numbers=numbers, moves=torch.tensor([True, True]))
    gradient[1] = torch.nan
    together.step(parameters, gradient, numbers=numbers, moves=torch.tensor([True, False]))
    assert torch.equal(parameters[0], apart[0])
    assert (parameters[0] > 1).all()
    assert (parameters[1] == 1).all()
    assert all(bool(torch.isfinite(each).all()) for each in together.memory)


@pytest.mark.parametrize("settings", [Adam(0.3), FactoredAdam(0.3)])
def test_a_gradient_of_nothing_moves_nothing(settings: Adam) -> None:
    """As where a unit is not stirred yet, or in one color alone."""
    parameters = torch.ones(2, 3, 4, 5)
    gradient = torch.zeros(2, 3, 4, 5)
    gradient[1, 2] = 1
    climbing = ascent(settings, parameters, steps=2)
    moves, numbers = torch.ones(2, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    assert climbing.step(parameters, gradient, numbers=numbers, moves=moves).all()
    assert (parameters[0] == 1).all()
    assert (parameters[1, :2] == 1).all()
    assert (parameters[1, 2] > 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_whose_squares_are_no_numbers_is_none(dtype: torch.dtype) -> None:
    parameters, gradient = (torch.ones(3, 1, 4, 5, dtype=dtype) for _ in range(2))
    gradient[1, 0, 2, 3], gradient[2, 0, 0, 0] = -LIMIT, LIMIT / 2
    climbing = ascent(FactoredAdam(), parameters, steps=2)
    at = torch.zeros(3, dtype=torch.int64)
    told = climbing.step(parameters, gradient, numbers=at, moves=at == 0)
    assert told.tolist() == [True, False, True]
    assert (parameters[1] == 1).all()
    assert torch.isfinite(parameters).all()


def test_a_factored_step_does_not_depend_on_the_size_of_the_gradient() -> None:
    gradient = torch.randn(1, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    ends = []
    for size in (1e-4, 1.0, 1e16):
        parameters = torch.zeros(1, 3, 8, 6)
        climbing = ascent(FactoredAdam(0.3), parameters, steps=2)
        for number in range(2):
            at = torch.full((1,), number)
            climbing.step(parameters, size * gradient, numbers=at, moves=at >= 0)
        ends.append(parameters)
    assert torch.allclose(ends[0], ends[1], rtol=1e-3)  # epsilon is 1e-4 of that gradient
    assert torch.allclose(ends[2], ends[1], rtol=1e-5)  # a hundred roundings of float32
    assert 0.1 < ends[1].square().mean().sqrt() < 1


def test_one_value_that_is_no_number_is_found_in_its_row() -> None:
    values = torch.ones(5, 2, 3)
    for row, value in enumerate((torch.nan, torch.inf, -torch.inf)):
        values[row, 1, row] = value
    values[3] = torch.finfo(torch.float32).max
    assert finite(values).tolist() == [False, False, False, True, True]


def test_the_batched_loop_is_the_reference_loop(everything: Network) -> None:
    wishes = [
        Channel("third", 1) - 0.5 * Channel("first/pre", 2),
        Neuron("second", 3, 1, 4) + 0.1 * TotalVariation(),
        Channel("tokens", 4),
        Logit(2) - L1(0.5),
    ]
    recipes = [
        asked(everything, wish, transforms=MOVING, steps=64, seed=7 * index, size=(13, 11))
        for index, wish in enumerate(wishes)
    ]
    finished = optimize_batch(everything, recipes)
    for row, recipe in enumerate(recipes):
        steps = reference_loop(everything, recipe)
        expected = steps[-1].images[0]
        torch.testing.assert_close(finished.images[row], expected, rtol=0, atol=1e-9)  # 64 steps
        course = torch.cat([each.values for each in steps[:-1]])
        torch.testing.assert_close(finished.course[:, row], course, rtol=0, atol=1e-9)
        assert (expected - steps[0].images[0]).abs().max() > 0.1  # it did move


def test_a_picture_begins_where_it_is_told(everything: Network) -> None:
    image = torch.rand(3, 12, 10).mul(255).round().div(255).clamp(0.01, 0.99)
    noisy = asked(everything, Channel("third", 1), parameterization=Fourier(), steps=16)
    given = replace(noisy, start=GivenImage.of(image))
    steps = reference_loop(everything, given)
    expected = given.start.decoded(given.shape) if given.start else image
    torch.testing.assert_close(steps[0].images[0], expected, rtol=0, atol=1e-9)  # logit and back
    finished = optimize_batch(everything, [noisy, given])
    torch.testing.assert_close(finished.images[1], steps[-1].images[0], rtol=0, atol=1e-9)
    alone = reference_loop(everything, noisy)[-1].images[0]
    torch.testing.assert_close(finished.images[0], alone, rtol=0, atol=1e-9)


def test_the_loops_agree_about_coupled_pictures(everything: Network) -> None:
    recipes = [
        asked(everything, Channel("third", 1) - Likeness("third"), count=3, steps=40),
        asked(everything, Channel("first", 1) - Misalignment("second"), count=3, steps=40, seed=9),
    ]
    images = pictures_of(optimize_batch(everything, recipes))
    for index, recipe in enumerate(recipes):
        expected = reference_loop(everything, recipe)[-1].images
        torch.testing.assert_close(images[3 * index : 3 * index + 3], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("parameterization", "share"),
    [(PLAIN, 0.99), (Pixel(), 0.95), (Fourier(color="plain"), 0.95), (Fourier(), 0.85)],
)
def test_a_linear_unit_reaches_its_known_maximum(
    parameterization: Pixel | Fourier, share: float, linear: Network
) -> None:
    """Pixels lie in (0, 1): no value is above the sum of the positive weights.

    White weights of three colors are the hardest for 1/f and natural colors: the coarse and grey
    coefficients saturate pixels that the fine ones should turn.
    """
    recipes = [
        asked(
            linear, Logit(unit), parameterization=parameterization, steps=400, optimizer=Adam(1.0)
        )
        for unit in range(3)
    ]
    images = pictures_of(optimize_batch(linear, recipes))
    weights = linear.module.get_parameter("layer.weight")
    for unit in range(3):
        maximum = weights[unit].clamp(min=0).sum()
        value = linear(images)[unit, unit]
        assert share * maximum < value <= maximum


def test_every_term_is_maximized_with_its_sign(linear: Network) -> None:
    recipe = asked(linear, -Logit(0), steps=300, optimizer=Adam(0.3))
    value = linear(pictures_of(optimize_batch(linear, [recipe])))[0, 0]
    minimum = linear.module.get_parameter("layer.weight")[0].clamp(max=0).sum()
    assert minimum <= value < 0.95 * minimum


def test_the_same_recipe_is_the_same_bits_and_another_seed_other_ones(everything: Network) -> None:
    recipe = asked(everything, Channel("third", 1), transforms=MOVING, steps=5)
    first, again = (optimize_batch(everything, [recipe]).images for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, optimize_batch(everything, [replace(recipe, seed=1)]).images)


def test_the_global_generators_play_no_part_and_are_left_alone(everything: Network) -> None:
    """Lucent's seed does not reach the generator that draws its transforms."""
    recipe = asked(everything, Channel("third", 1), transforms=MOVING, steps=3)
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 the global generator is the point
        before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
        results.append(optimize_batch(everything, [recipe]).images)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert str(np.random.get_state()) == before[1]  # noqa: NPY002
    assert torch.equal(*results)


def stopped(values: Sequence[Sequence[float]], stop: Plateau) -> list[int]:
    """After how many steps each row stops that has these values, one list a step."""
    count = len(values[0])
    stopping = Stopping(stop, count, device=torch.device("cpu"), dtype=torch.float64)
    stopping.begin(torch.arange(count))
    for row in values:
        said = torch.tensor(row, dtype=torch.float64)
        stopping.see(said, torch.ones(count, dtype=torch.bool))
    return stopping.numbers.tolist()


def test_each_row_stops_on_its_own_plateau() -> None:
    rising = [1.0 + number for number in range(24)]
    flat = [1.0] * 24
    late = [*rising[:11], *([12.0] * 13)]
    negative = [-100.0 + 3 * number for number in range(24)]
    values = list(zip(rising, flat, late, negative, strict=True))
    # Windows of 4 end after 4, 8, 12, ...; the first flat one that follows another is at 8, and
    # for `late` the one at 20 is the first that is as high as the one before.
    assert stopped(values, Plateau(minimum=1, window=4, tolerance=0.01)) == [24, 8, 20, 24]
    assert stopped(values, Plateau(minimum=12, window=4, tolerance=0.01)) == [24, 12, 20, 24]


def test_a_stopped_row_stays_as_it_was(everything: Network) -> None:
    stop = Plateau(minimum=4, window=4, tolerance=0.02)
    plain = asked(everything, Channel("third", 1), steps=96)
    recipes = [replace(plain, stop=stop), asked(everything, Logit(0), steps=96, stop=stop)]
    finished = optimize_batch(everything, recipes)
    count = int(finished.steps[0])
    assert 4 <= count < 96
    assert count % 4 == 0
    assert finished.course[:count, 0].isfinite().all()
    assert finished.course[count:, 0].isnan().all()
    steps = reference_loop(everything, plain)
    # Its last move was made by the step before the one that saw the plateau.
    torch.testing.assert_close(finished.images[0], steps[count].images[0], rtol=0, atol=1e-9)


def test_the_batch_ends_when_every_row_has_stopped(everything: Network) -> None:
    recipe = asked(everything, Channel("third", 1), steps=512, stop=Plateau(4, 4, tolerance=1e9))
    finished = optimize_batch(everything, [recipe])
    assert finished.steps.tolist() == [8]
    assert int(finished.course.isfinite().sum()) == 8
    looked = []
    optimize_batch(everything, [recipe], on_step=lambda _: looked.append(1))
    assert len(looked) == CHECK_EVERY


def rectified(bias: float) -> Network:
    """Channel 0 is relu(w . pixels + bias) with weights 1; pixels reach from -2 to 2."""
    module = Rectified(nn.ReLU(inplace=True))
    module.conv.weight.data[:] = 1.0
    module.conv.bias.data[:] = bias  # type: ignore[union-attr]
    return network_of(module)


def test_a_unit_that_starts_blocked_is_led_out() -> None:
    network = rectified(bias=-1.0)
    recipe = asked(network, Channel("conv", 0), steps=32, optimizer=Adam(0.3))
    led = optimize_batch(network, [recipe])
    assert led.course[0].item() == 0
    assert led.course[-1].item() > 1
    assert led.moved.all()
    without = optimize_batch(network, [replace(recipe, redirected_steps=0)])
    assert not without.course.any()
    assert not without.moved.any()
    assert torch.equal(without.images, PLAIN.decode(initial(recipe)))


def initial(recipe: Recipe) -> Tensor:
    return PLAIN.initial(torch.tensor([recipe.seed]), recipe.shape, dtype=torch.float64)


def test_redirection_ends_after_its_steps() -> None:
    network = rectified(bias=-100.0)  # never reached
    recipe = asked(network, Channel("conv", 0), steps=6, redirected_steps=2)
    images = [step.images for step in reference_loop(network, recipe)]
    assert not torch.equal(images[0], images[1])
    finished = optimize_batch(network, [recipe])
    torch.testing.assert_close(finished.images, images[-1], rtol=0, atol=1e-9)
    assert finished.moved.tolist() == [False]


@objective("third")
def undefined_above(recorded: dict[str, Tensor], limit: float) -> Tensor:
    """The mean of a channel, until it passes a limit."""
    mean = recorded["third"][:, 1].mean(dim=(1, 2))
    return mean * torch.where(mean > limit, torch.nan, 1.0)


@objective("third")
def undefined_slope(recorded: dict[str, Tensor]) -> Tensor:
    """A value that is finite and whose gradient is not."""
    mean = recorded["third"].mean(dim=(1, 2, 3))
    return (mean - mean.detach()).abs().sqrt()


def test_a_picture_that_is_not_finite_stops_alone() -> None:
    network = network_of(Everything(), dtype=torch.float32)
    mate = asked(network, Channel("third", 1), transforms=MOVING, steps=24)
    healthy = optimize_batch(network, [mate] * 4)
    course = healthy.course[:, 0].tolist()
    limit = max(course[:8]) + 1e-5  # more than rounding
    sick = [
        asked(network, wish, transforms=MOVING, steps=24)
        for wish in (
            undefined_above(limit=limit),
            undefined_slope(),
            1e38 * L1(0.0) + 1e39 * Channel("third", 0),
        )
    ]
    finished = optimize_batch(network, [mate, *sick])
    assert finished.is_finite.tolist() == [True, False, False, False]
    passed = next(number for number, value in enumerate(course) if value > limit)
    assert finished.steps.tolist() == [24, passed, 0, 0]
    assert finished.images.isfinite().all()
    assert torch.equal(finished.images[0], healthy.images[0])
    assert torch.equal(finished.course[:, 0], healthy.course[:, 0])


def test_weights_that_are_not_finite_are_named_at_once() -> None:
    module = Everything()
    module.second.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(NotFinite, match=r"weight 'second.weight' of network 'tiny'"):
        network_of(module)
    broken = Everything()
    assert broken.norm.running_var is not None
    broken.norm.running_var[0] = torch.inf
    with pytest.raises(NotFinite, match=r"'norm.running_var'"):
        network_of(broken)


def test_the_last_step_is_the_clean_picture(everything: Network) -> None:
    recipe = asked(everything, Channel("third", 1), transforms=MOVING, steps=3)
    steps = reference_loop(everything, recipe)
    assert [each.number for each in steps] == [0, 1, 2, 3]
    clean = clean_values(everything, recipe, steps[-1].images)
    assert torch.equal(steps[-1].values, clean)
    still = clean_values(everything, replace(recipe, transforms=Stack()), steps[-1].images)
    assert torch.equal(clean, still)
