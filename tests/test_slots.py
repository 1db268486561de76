"""Continuous batching: neither order, nor slot, nor who leaves early can be seen in a picture."""

import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from networks import Everything, network_of
from torch import nn

from featviz.engine import slots
from featviz.engine.execution import execution
from featviz.engine.objectives import Channel, Likeness, Neuron
from featviz.engine.optimize import optimize
from featviz.engine.picture import Picture
from featviz.engine.recipe import Adam, FactoredAdam, Plateau, Recipe, default_recipe
from featviz.engine.render import render_each
from featviz.engine.slots import Slots, optimize_batch, stream
from featviz.errors import NotAvailable
from featviz.image.parameterizations import Pixel
from featviz.image.transforms import Jitter, Rotate, Stack
from featviz.network.network import Network
from featviz.network.zoo import load

MOVING = Stack((Jitter(2), Rotate(8.0)))


@pytest.fixture(scope="module")
def network() -> Network:
    return network_of(Everything(), dtype=torch.float32)


def recipes(network: Network, count: int, **settings: Any) -> list[Recipe]:
    layers = ("first", "second", "third")
    return [
        default_recipe(
            network, Channel(layers[i % 3], i % 5), seed=i, transforms=MOVING, **settings
        )
        for i in range(count)
    ]


def finished(network: Network, asked: list[Recipe], places: int) -> dict[int, slots.Finished]:
    return dict(each for batch in stream(network, enumerate(asked), places) for each in batch)


def assert_same(one: slots.Finished, other: slots.Finished) -> None:
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.steps, other.steps)
    assert torch.equal(one.course.nan_to_num(-1), other.course.nan_to_num(-1))


def test_order_of_arrival_and_slot_do_not_change_pictures(network: Network) -> None:
    asked = recipes(network, 11, steps=20, stop=Plateau(4, 4, 0.05))
    forwards = finished(network, asked, 3)
    backwards = finished(network, asked[::-1], 3)
    assert sorted(forwards) == list(range(11))
    assert len({int(each.steps[0]) for each in forwards.values()}) > 1, "some leave early"
    for index in range(11):
        assert_same(forwards[index], backwards[10 - index])


@pytest.mark.parametrize("optimizer", [Adam(), FactoredAdam()])
def test_who_comes_late_is_as_the_reference_loop_has_it(optimizer: Adam) -> None:
    """In float64, with refills in the middle of the others' steps."""
    network = network_of(Everything())
    leaving = {"steps": 40, "stop": Plateau(4, 4, 0.08), "wake_sd": 0.0}
    asked = recipes(network, 5, **leaving, optimizer=optimizer)
    done = finished(network, asked, 2)
    for index, recipe in enumerate(asked):
        steps = list(optimize(network, recipe, dtype=torch.float64))
        count = int(done[index].steps[0])
        expected = steps[count].images[0]
        torch.testing.assert_close(done[index].images[0], expected, rtol=0, atol=1e-9)


def test_a_place_is_taken_as_soon_as_it_is_free(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "CHECK_EVERY", 4)
    plain = recipes(network, 1, steps=64, stop=Plateau(4, 4, tolerance=-1e9))[0]
    # A fixed 64 steps beside rows that stop after 8: a stop of its own would be another batch.
    asked = [replace(plain, seed=seed) for seed in range(4)]
    ends: list[list[int]] = []
    steps = 0

    def count(_: int) -> None:
        nonlocal steps
        steps += 1

    for batch in stream(network, enumerate(asked), 3, on_step=count):
        ends += [[steps, *(number for number, _ in batch)]]
    assert ends == [[64, 0, 1, 2], [128, 3]]
    short = [replace(each, stop=Plateau(4, 4, tolerance=1e9)) for each in asked]
    steps, ends = 0, []
    for batch in stream(network, enumerate(short), 3, on_step=count):
        ends += [[steps, *(number for number, _ in batch)]]
    assert ends == [[8, 0, 1, 2], [16, 3]]


def test_recipes_of_several_pictures_take_neighbouring_rows(network: Network) -> None:
    asked = [
        default_recipe(network, Channel("third", i) - Likeness("third"), count=2, steps=6, seed=i)
        for i in range(5)
    ]
    done = finished(network, asked, 2)
    for index, recipe in enumerate(asked):
        assert done[index].images.shape[0] == 2
        assert_same(done[index], finished(network, [recipe, recipe], 2)[0])


def test_memory_does_not_grow_with_the_number_of_recipes(network: Network) -> None:
    """What the slots hold after 3 recipes is what they hold after 40."""

    def held(count: int) -> int:
        made = Slots(network, asked[0], 2)
        queue = iter(enumerate(asked[:count]))
        while made.fill(queue):
            made.step()
            made.ended()
        tensors = [value for value in vars(made).values() if isinstance(value, torch.Tensor)]
        return sum(each.numel() for each in tensors) + len(vars(made))

    asked = recipes(network, 40, steps=1)
    assert held(3) == held(40)


class Exhausted:
    """Makes a step run out of memory where there are more than so many slots."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.raised = 0
        step = Slots.step

        def limited(made: Slots) -> None:
            if made.occupied and made._open > most and made._steps_done == 2:
                self.raised += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            step(made)

        monkeypatch.setattr(Slots, "step", limited)


def rendered(network: Network, asked: list[Recipe], count: int, **more: Any) -> Iterator[Picture]:
    return render_each(network, asked, execution(slots=count), **more)


def test_running_out_of_memory_halves_the_slots_and_loses_nothing(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipes(network, 5, steps=6)
    expected = {p.recipe.digest: p for p in rendered(network, asked, 2)}
    limit = Exhausted(monkeypatch, most=3)
    made = list(rendered(network, asked, 8))
    assert limit.raised == 2
    assert {p.recipe.digest for p in made} == set(expected)
    for picture in made:
        assert picture.execution.slots == 2
        assert np.array_equal(picture.pixels, expected[picture.recipe.digest].pixels)


def test_pictures_finished_before_memory_ran_out_are_kept(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = Slots.step, []

    def limited(made: Slots) -> None:
        steps.append(made._open)
        if len(steps) == 8:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to")
        step(made)

    monkeypatch.setattr(Slots, "step", limited)
    made = list(rendered(network, recipes(network, 6, steps=6), 4))
    assert [picture.execution.slots for picture in made] == [4] * 4 + [2] * 2
    assert len({picture.recipe.digest for picture in made}) == 6


def test_what_keeps_its_slots_refuses(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    Exhausted(monkeypatch, most=3)
    asked = recipes(network, 2, steps=6)
    with pytest.raises(NotAvailable, match="memory for 8 slots at 12 px is not available"):
        list(rendered(network, asked, 8, keeps_slots=True))
    Exhausted(monkeypatch, most=0)
    with pytest.raises(NotAvailable, match="memory for 1 slots"):
        list(rendered(network, asked, 2))


def test_other_errors_are_not_taken_for_lack_of_memory(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Slots) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(Slots, "step", fail)
    with pytest.raises(RuntimeError, match="something else"):
        list(rendered(network, recipes(network, 1, steps=2), 4))


def test_mixed_depths_share_a_batch(network: Network) -> None:
    deep = default_recipe(network, Neuron("third", 2), steps=6)
    shallow = default_recipe(network, Channel("first", 1), steps=6)
    together = optimize_batch(network, [deep, shallow, shallow])
    assert torch.equal(together.images[1], optimize_batch(network, [shallow] * 3).images[2])


def test_a_refill_keeps_the_tensors_where_they_are(network: Network) -> None:
    """So that a captured step can be replayed: only values change, and the pictures are right."""
    asked = [default_recipe(network, Channel("third", i), steps=3, seed=i) for i in range(5)]
    made = Slots(network, asked[0], 2)
    queue = iter(enumerate(asked))
    addresses, programs, done = set(), set(), {}
    while made.fill(queue):
        made.step()
        done |= dict(made.ended())
        assert made._ready is not None
        programs.add(made._ready.program)
        state = [made._parameters, *made._ascent.memory, made._course]
        stopping = [v for v in vars(made._stopping).values() if isinstance(v, torch.Tensor)]
        own = [each for call in made._ready.program._calls for each in call.tensors]
        addresses.add(tuple(each.data_ptr() for each in (*state, *stopping, *own, made._seeds)))
    assert len(addresses) == len(programs) == 1
    for number, recipe in enumerate(asked):
        assert_same(done[number], finished(network, [recipe], 2)[0])


def test_other_calls_are_another_program(network: Network) -> None:
    asked = [
        default_recipe(network, wish, steps=2)
        for wish in (Channel("third", 0), Neuron("third", 1), Channel("second", 1))
    ]
    done = finished(network, asked, 1)
    for number, recipe in enumerate(asked):
        assert_same(done[number], finished(network, [recipe], 1)[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_step_makes_the_same_bits() -> None:
    network = network_of(Everything(), dtype=torch.float32).at("cuda", torch.float32)
    asked = [
        default_recipe(network, Channel("third", i % 5), steps=24, seed=i, transforms=MOVING)
        for i in range(7)
    ]
    assert_captures_change_nothing(network, asked)


def assert_captures_change_nothing(network: Network, asked: list[Recipe]) -> None:
    plain, recorded = (
        dict(
            each
            for batch in stream(network, enumerate(asked), 3, captures=captures)
            for each in batch
        )
        for captures in (False, True)
    )
    for number in plain:
        assert_same(plain[number], recorded[number])


class Looking(nn.Module):
    """Looks at a value on its way: nothing that waits for the device can be recorded."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.a = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scale = 2.0 if float(images.detach().sum()) < torch.inf else 1.0
        return self.a(scale * images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_what_waits_for_the_device_runs_as_it_is() -> None:
    network = network_of(Looking(), dtype=torch.float32).at("cuda", torch.float32)
    asked = [default_recipe(network, Channel("a", i), steps=6, seed=i) for i in range(3)]
    assert_captures_change_nothing(network, asked)


class Fragile(nn.Module):
    """A deeper layer whose gradient is NaN where its input is silent: 0 * infinity."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.a = nn.Conv2d(3, 4, 3, padding=1)
            self.b = nn.Conv2d(4, 2, 1)
        nn.init.constant_(self.a.bias, -0.2)  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.a(images))
        return self.b(maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + 1e-3))


def test_what_only_a_deeper_mate_asks_for_cannot_spoil_a_picture() -> None:
    network = network_of(Fragile(), dtype=torch.float32)
    mine = default_recipe(network, Channel("a", 1), steps=12)
    deep = default_recipe(network, Channel("b", 1), steps=12)
    among = optimize_batch(network, [deep, mine])
    alone = optimize_batch(network, [mine, mine])
    assert among.is_finite.tolist()[1]
    assert torch.equal(among.images[1], alone.images[1])


def test_a_dead_picture_does_not_depend_on_when_it_came() -> None:
    """It stops on its plateau before it would be woken, and waits for the next look."""
    network = load("planted")
    settings = {"size": 48, "steps": 24, "stop": Plateau(12, 4, 1e-6)}
    dead, live = (default_recipe(network, Channel("curve", i), **settings) for i in (25, 3))
    first, later = (finished(network, asked, 1) for asked in ([dead, live], [live, dead]))
    assert_same(first[0], later[1])
    assert_same(first[1], later[0])


def test_each_group_begins_with_the_slots_that_were_asked_for(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    Exhausted(monkeypatch, most=1)
    single = recipes(network, 2, steps=6)
    four = default_recipe(network, Channel("third", 0) - Likeness("third"), count=4, steps=2)
    made = list(rendered(network, [*single, four], 4))
    assert [picture.execution.slots for picture in made] == [1, 1, 4, 4, 4, 4]


def test_a_slot_alone_is_one_of_two_rows(network: Network) -> None:
    """One row would take kernels that round otherwise; the second is given to nobody."""
    asked = recipes(network, 3, steps=2)
    made = Slots(network, asked[0], 1)
    queue = iter(enumerate(asked))
    assert made.fill(queue)
    assert len(made._parameters) == 2
    assert (made.occupied, len(list(queue))) == (1, 2)


def test_parameters_lie_in_order_whatever_the_start(network: Network) -> None:
    """The kernel of the ascent walks through memory; a given image comes color by color."""
    shape = default_recipe(network, Channel("third", 0)).shape
    start = torch.full((shape.channels, shape.rows, shape.columns), 0.25)
    start[0] = 0.75
    recipe = default_recipe(
        network, Channel("third", 0), steps=1, start=start, parameterization=Pixel()
    )
    assert Slots(network, recipe, 2)._parameters.is_contiguous()


def test_a_step_is_not_cut_in_two_by_an_interruption(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch may tell one that comes in its midst as another error, or drop it."""
    told = Slots._told

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return told(*arguments)

    (recipe,) = recipes(network, 1, steps=2)
    made = Slots(network, recipe, 2)
    made.fill(iter([(0, recipe)]))
    monkeypatch.setattr(Slots, "_told", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.step()
    monkeypatch.undo()
    made.step()
    ((_, whole),) = made.ended()
    assert_same(whole, optimize_batch(network, [recipe]))
