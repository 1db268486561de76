"""A step of the batched loop taken apart: each piece runs alone, and is timed beside the whole."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import synchronize
from featviz.engine.accelerated import accelerated
from featviz.engine.ascent import ascent
from featviz.engine.batch import program, shown_to, working_dtype
from featviz.engine.capture import Captures
from featviz.engine.heap import kept_heap
from featviz.engine.motion import Motion
from featviz.engine.recipe import Recipe
from featviz.engine.seen import see
from featviz.engine.slots import Slots
from featviz.engine.start import starting_parameters
from featviz.engine.stopping import Stopping
from featviz.network.network import Network
from featviz.network.recording import Prefix

PARTS = ("decode", "transforms", "forward", "backward", "update")
"""Of a step; each with its own share of the gradient's way back. The rest is what they leave."""
WARM_UP = 5
"""Steps of each kind before the timed ones: plans, caches and captures come to be."""
REPEATS = 32

Work = Callable[[], Any]


@dataclass(frozen=True)
class Cost:
    """Median wall seconds of a call, and mean seconds of all cores of this process."""

    wall_s: float
    core_s: float


def part_costs(network: Network, recipes: Sequence[Recipe], prefix: Prefix) -> dict[str, Cost]:
    """What each of PARTS costs, all but the network ("outside"), and the engine's whole "step".

    Parts and step are taken in turn, so that all meet the same machine. On CUDA they are captured
    as the engine captures its steps.
    """
    device = network.device
    works: dict[str, Work] = Pieces(network, recipes, prefix).works()
    if device.type == "cuda":
        works = {name: partial(Captures().run, work) for name, work in works.items()}
    works["step"] = _engine_step(network, recipes)
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    with kept_heap():
        for _ in range(WARM_UP + REPEATS):
            for name, work in works.items():
                spent[name].append(_spent(work, device))
    costs = {name: _cost(each[WARM_UP:]) for name, each in spent.items()}
    there_and_back, there = costs.pop("network"), costs["forward"]
    back_s = (
        max(0.0, there_and_back.wall_s - there.wall_s),
        max(0.0, there_and_back.core_s - there.core_s),
    )
    return {**costs, "backward": Cost(*back_s)}


def _spent(work: Work, device: torch.device) -> tuple[float, float]:
    """Wall and core seconds of a call."""
    synchronize(device)
    start = time.perf_counter(), time.process_time()
    work()
    synchronize(device)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def shares(costs: Mapping[str, Cost]) -> dict[str, float]:
    """The share of each part in the step's time, and of the rest, which makes the sum 1.

    The rest is the objective and bookkeeping; below 0 where a part costs more when it is alone.
    """
    found = {part: costs[part].wall_s / costs["step"].wall_s for part in PARTS}
    return {**found, "rest": 1 - sum(found.values())}


class Pieces:
    """The parts of the engine's step, each on an input that was made once."""

    def __init__(self, network: Network, recipes: Sequence[Recipe], prefix: Prefix) -> None:
        self.network, self.recipe, self.prefix = network, recipes[0], prefix
        dtype, device = working_dtype(network), network.device
        self.seeds = torch.arange(len(recipes), device=device)
        self.numbers = torch.ones_like(self.seeds)
        start = starting_parameters(self.recipe, self.seeds, dtype=dtype)
        self.motion = Motion(self.recipe, len(recipes), device=device, dtype=dtype)
        self.motion.begin(self.seeds, self.seeds)
        self.parameters = start.clone().requires_grad_()
        self.images = self._decoded().detach().requires_grad_()
        self.shown = self._shown(self.images).detach().requires_grad_()
        plan = accelerated(network, self.shown.shape[2], self.shown.shape[3])
        self.substitute = plan.reading(prefix.wanted.operations)
        self.maps = {key: each.detach().clone() for key, each in self._recorded().items()}
        self.objective = program(recipes, prefix, like=self.images)
        self.ascent = ascent(self.recipe.optimizer, start, steps=self.recipe.steps)
        self.stopping = Stopping(self.recipe.stop, len(recipes), device=device, dtype=dtype)
        self.stopping.begin(self.seeds)
        _, self.gradients = self._judged(self.images)

    def works(self) -> dict[str, Work]:
        """PARTS but the way back through the network, which "network" has with the way there."""
        upward = torch.ones_like(self.parameters)
        everyone = torch.ones_like(self.seeds, dtype=torch.bool)
        return {
            "decode": lambda: _back(self._decoded(), self.parameters),
            "transforms": lambda: _back(self._shown(self.images), self.images),
            "forward": self._recorded,
            "network": self._there_and_back,
            "update": lambda: self._update(upward, everyone),
            "outside": self._outside,
        }

    def _there_and_back(self) -> None:
        recorded = self._recorded()
        torch.autograd.grad([recorded[key] for key in self.maps], self.shown, self.gradients)

    def _outside(self) -> None:
        """All but the network: its input gets a made-up gradient, its output is recorded once."""
        images = self._decoded()
        gradient = _back(self._shown(images), self.parameters)
        values, _ = self._judged(images)
        is_finite = torch.isfinite(values)
        is_finite &= self._update(gradient, self.stopping.runs & is_finite)
        self.stopping.hear(values)
        self.stopping.see(values, is_finite)

    def _decoded(self) -> Tensor:
        return self.recipe.parameterization.decode(self.parameters)

    def _shown(self, images: Tensor) -> Tensor:
        moved = self.motion.at(self.numbers)
        return shown_to(self.network, self.recipe.transforms, images, moved)

    def _recorded(self) -> dict[str, Tensor]:
        return self.prefix(self.shown, substitute=self.substitute)

    def _judged(self, images: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The rows' values, and their gradients at the maps."""
        maps = {key: each.detach().requires_grad_() for key, each in self.maps.items()}
        values = self.objective(see(maps, self.prefix.layers, images.detach()))
        return values.detach(), torch.autograd.grad(values.sum(), list(maps.values()))

    def _update(self, gradient: Tensor, moves: Tensor) -> Tensor:
        return self.ascent.step(
            self.parameters.detach(), gradient, numbers=self.numbers, moves=moves
        )


def _engine_step(network: Network, recipes: Sequence[Recipe]) -> Work:
    """A step as the engine does it once no gradient is redirected any more."""
    plain = [replace(each, redirected_steps=0, wake_sd=0.0) for each in recipes]
    lasting = [replace(each, steps=WARM_UP + REPEATS) for each in plain]
    slots = Slots(network, lasting[0], len(lasting))
    slots.fill(iter(enumerate(lasting)))
    return slots.step


def _back(result: Tensor, source: Tensor) -> Tensor:
    return torch.autograd.grad(result, source, _ones(result.shape, result.dtype, result.device))[0]


@cache
def _ones(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A gradient that is there, as a network's would be: made once."""
    ones = torch.ones(shape, dtype=dtype, device=device)
    return ones.contiguous(memory_format=torch.channels_last)


def _cost(spent: Sequence[tuple[float, float]]) -> Cost:
    """The system counts other threads' time by ticks of milliseconds, which only a mean evens out;
    the largest and the smallest are left out."""
    cores = sorted(core for _, core in spent)[1:-1]
    return Cost(statistics.median(wall for wall, _ in spent), statistics.mean(cores))
