"""Slots and threads are planned from what there is, and sizes are read as people write them."""

import os
import warnings
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import Everything, network_of

from featviz.engine import memory
from featviz.engine.execution import available_cores
from featviz.engine.memory import (
    ROOM,
    _Held,
    bytes_of_a_place,
    free_bytes,
    parse_bytes,
    slots_within,
)
from featviz.engine.objectives import Channel, Likeness
from featviz.engine.recipe import default_recipe
from featviz.engine.render import default_slots, fitting_slots, render
from featviz.engine.slots import Slots
from featviz.errors import Malformed, OutOfRange
from featviz.network.network import Network
from featviz.network.zoo import load


@pytest.fixture(scope="module")
def network() -> Network:
    return network_of(Everything(), dtype=torch.float32)


def test_a_row_costs_more_the_larger_and_the_deeper(network: Network) -> None:
    small = default_recipe(network, Channel("first", 0), size=32)
    large = default_recipe(network, Channel("first", 0), size=64)
    costs = [bytes_of_a_place(network, each) for each in (small, large)]
    assert 3 < costs[1] / costs[0] < 5
    # At least the picture's parameters, Adam's two moments and the first maps.
    assert costs[1] > 4 * 64 * 64 * (3 * 3 + 6)
    real = load()
    layers = ("blocks.0", "blocks.1", "blocks.3")
    recipes = [default_recipe(real, Channel(each, 0), size=64) for each in layers]
    costs = [bytes_of_a_place(real, each) for each in recipes]
    assert costs == sorted(set(costs))


def test_what_is_held_is_counted_while_it_is_there() -> None:
    before = torch.ones(500)
    with _Held() as held:
        first = torch.ones(1000)
        first.view(10, 100)[2:].mul_(3)  # makes nothing
        before.add_(1)
        before.view(-1)
        assert held.most == 4000
        del first
        second = before * 2
        assert held.most == 4000
        both = torch.cat([second, before]) + 1  # and what it is made of, for a moment
        assert held.most == 2000 + 4000 + 4000
        del second
        both.sum()
        torch.ones(100).to_sparse().to_dense()
    assert held.most == 10000
    assert float(both[0]) == 5


def test_what_is_held_is_what_torch_itself_saw(network: Network) -> None:
    recipe = default_recipe(network, Channel("third", 0), size=64)
    slots = Slots(network, recipe, 3, captures=False, presumes=False)
    slots.fill(iter(enumerate([recipe] * 3)))
    slots.step()
    with _Held() as held:
        slots.step()
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        slots.step()
    events: list[Any] = profile.kineto_results.events()  # type: ignore[union-attr]
    seen = [each for each in events if each.name() == "[memory]"]
    changes = [each.nbytes() for each in sorted(seen, key=lambda each: each.start_ns())]
    assert held.most == pytest.approx(max(accumulate(changes)), rel=0.02)


def _doubled(values: torch.Tensor) -> torch.Tensor:
    return torch.relu(values) * 2


class Scripted(torch.nn.Module):
    """What TorchScript runs comes to a count of operations as what torch itself runs does not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.between = torch.jit.script(_doubled)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.between(self.first(images)))


def test_what_a_scripted_function_holds_is_counted() -> None:
    network = network_of(Scripted(), dtype=torch.float32)
    costs = [
        bytes_of_a_place(network, default_recipe(network, Channel(each, 0), size=32))
        for each in ("first", "last")
    ]
    assert 4 * 32 * 32 * 3 * 3 < costs[0] < costs[1]


def test_what_lies_between_steps_counts(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    state = property(lambda self: 10**9 * len(self._parameters))
    monkeypatch.setattr(Slots, "state_bytes", state)
    recipe = default_recipe(network, Channel("third", 0) - Likeness("third"), size=32, count=2)
    assert 0 < bytes_of_a_place(network, recipe) - 2 * 10**9 < 10**8


def test_slots_are_what_fits_into_the_budget(network: Network) -> None:
    recipe = default_recipe(network, Channel("third", 0), size=32)
    cost = bytes_of_a_place(network, recipe) * ROOM
    assert slots_within(network, recipe, 5.5 * cost, most=16) == 5
    assert slots_within(network, recipe, 500 * cost, most=16) == 16
    assert slots_within(network, recipe, 0.1 * cost, most=16) == 1
    pair = default_recipe(network, Channel("third", 0) - Likeness("third"), size=32, count=2)
    cost = bytes_of_a_place(network, pair) * ROOM
    assert slots_within(network, pair, 3.5 * cost, most=16) == 6
    assert slots_within(network, pair, 0.1 * cost, most=16) == 2


def test_a_rendering_takes_no_more_slots_than_memory_has_room_for(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = [default_recipe(network, Channel("third", i), size=32, steps=1) for i in range(5)]
    budget = int(3.2 * bytes_of_a_place(network, recipes[0]) * ROOM)
    assert default_slots(recipes, "cpu") == 5
    assert default_slots(recipes * 40, "cuda:1") == 200
    assert default_slots(recipes * 5, "cpu") == 13  # two batches, alike
    pairs = [
        replace(recipe, objective=recipe.objective - Likeness("third"), count=4)
        for recipe in recipes
    ]
    assert default_slots(pairs, "cpu") == 12  # five fours: three and two
    assert default_slots([], "cpu") == 1
    assert fitting_slots(network, recipes, 5, device="cpu", memory=budget) == 3
    bad = replace(recipes[0], objective=Channel("third", 99))
    with pytest.raises(OutOfRange):
        fitting_slots(network, [*recipes, bad], 5, device="cpu")
    assert render(network, recipes, memory=budget)[0].execution.slots == 3
    assert render(network, recipes)[0].execution.slots == 5
    monkeypatch.setattr(memory, "MOST_OF_FREE", 0.8)
    monkeypatch.setattr("featviz.engine.render.free_bytes", lambda _: budget)
    assert render(network, recipes)[0].execution.slots == 2  # most of what is free


def test_free_memory_is_some_and_not_all() -> None:
    free = free_bytes(torch.device("cpu"))
    assert 2**20 < free < 2**50


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8G", 8 * 2**30), ("500m", 500 * 2**20), ("2.5 GiB", int(2.5 * 2**30)), ("1024", 1024)],
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "lots", "8X", "-1G", "0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="expected a size such as 8G or 500M"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "share"), [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("", None)]
)
def test_threads_are_no_more_than_a_container_may_use(
    tmp_path: Path, text: str, share: int | None
) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    everyone = len(os.sched_getaffinity(0))
    assert available_cores(quota) == (everyone if share is None else share)
    assert available_cores(tmp_path / "nothing") == everyone
