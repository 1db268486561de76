"""How many rows of a batch a device has room for: what one more row takes, measured."""

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from featviz.engine.recipe import Recipe
from featviz.engine.slots import Slots
from featviz.errors import Malformed
from featviz.network.network import Network

MOST_OF_FREE = 0.8
"""Share of the free memory that is planned with where nothing else is said."""
ROOM = 1.8
"""A heap takes this many times what a step holds: what is freed leaves holes."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def slots_within(network: Network, recipe: Recipe, budget_bytes: int | float, *, most: int) -> int:
    """How many slots of recipes like this one fit into a budget: at least one recipe's, at most
    `most`."""
    places = int(budget_bytes / (bytes_of_a_place(network, recipe) * ROOM))
    return recipe.count * max(1, min(places, most // recipe.count))


def bytes_of_a_place(network: Network, recipe: Recipe) -> int:
    """What one more recipe holds when a step holds most, with its optimizer's state."""
    return _most_held(network, recipe, 3) - _most_held(network, recipe, 2)


def _most_held(network: Network, recipe: Recipe, places: int) -> int:
    """The most bytes that a step of so many recipes holds at any time."""
    slots = Slots(network, recipe, places, captures=False, presumes=False)
    slots.fill(iter(enumerate([recipe] * places)))
    slots.step()  # what is made once is not a row's
    with _Held() as held:
        slots.step()
    return held.most + slots.state_bytes


class _Held(TorchDispatchMode):
    """Counts the bytes of what operations make for as long as it is there."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        with torch._C.DisableTorchFunction():  # a recording must not take this for the network's
            return self._called(func, args, kwargs or {})

    def _called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = {each._cdata for each in _storages((args, kwargs))}
        result = func(*args, **kwargs)
        self._made = {key: each for key, each in self._made.items() if not each[0].expired()}
        for storage in _storages(result):
            if storage._cdata not in given:
                self._made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.most = max(self.most, sum(size for _, size in self._made.values()))
        return result


def _storages(values: Any) -> list[torch.UntypedStorage]:
    """Of all dense tensors in there."""
    tensors = (each for each in tree_leaves(values) if isinstance(each, Tensor))
    return [each.untyped_storage() for each in tensors if each.layout == torch.strided]


def free_bytes(device: torch.device) -> int | float:
    """Memory that is free on a device, or in the machine and its container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        words = Path("/proc/meminfo").read_text(encoding="ascii")
        machine = int(re.search(r"MemAvailable:\s+(\d+)", words)[1]) * 1024  # type: ignore[index]
    except (OSError, TypeError):
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min(machine, _left_in_container(Path("/sys/fs/cgroup")))


def _left_in_container(folder: Path) -> int | float:
    """What a container's limit leaves; infinite where there is none."""
    try:
        limit, used = ((folder / name).read_text() for name in ("memory.max", "memory.current"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return float("inf")


def parse_bytes(text: str) -> int:
    """Bytes of "8G", "500M" or "2.5G" (powers of 1024). Raises Malformed."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", text.strip().upper())
    if match is None or not float(match[1]):
        raise Malformed("the memory", text, expected="a size such as 8G or 500M")
    return int(float(match[1]) * _UNITS[match[2]])
