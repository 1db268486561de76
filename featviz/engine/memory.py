"""How many rows of a batch a device has room for: what one row keeps for its gradient, measured."""

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from featviz.engine.recipe import Recipe
from featviz.engine.slots import Slots
from featviz.errors import Malformed
from featviz.network.network import Network

MOST_OF_FREE = 0.8
"""Share of the free memory that is planned with where nothing else is said."""
ROOM = 1.5
"""A step takes this many times what it keeps: results on their way, workspaces, fragments."""
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def slots_within(network: Network, recipe: Recipe, budget_bytes: int | float, *, most: int) -> int:
    """How many slots of recipes like this one fit into a budget: at least one recipe's, at most
    `most`."""
    places = int(budget_bytes / (bytes_of_a_place(network, recipe) * ROOM))
    return recipe.count * max(1, min(places, most // recipe.count))


def bytes_of_a_place(network: Network, recipe: Recipe) -> int:
    """What one more recipe keeps until its gradient is known, with its optimizer's state."""
    return _kept(network, recipe, 3) - _kept(network, recipe, 2)


def _kept(network: Network, recipe: Recipe, places: int) -> int:
    """Bytes that a step of so many recipes holds at the end of its forward pass."""
    kept: dict[int, int] = {}

    def keep(values: Tensor) -> Tensor:
        storage = values.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return values

    slots = Slots(network, recipe, places, captures=False, presumes=False)
    slots.fill(iter(enumerate([recipe] * places)))
    slots.step()  # what is made once is not a row's
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        slots.step()
    return sum(kept.values()) + slots.state_bytes


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
