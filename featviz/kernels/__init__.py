"""Kernels: in one pass over memory what torch takes many for.

Each stands in for operations of torch that are named beside it, which run everywhere else and are
what it is tested against. Those for CUDA are in Triton (`featviz.kernels.cuda`), those for a CPU in
C (`featviz.kernels.host`), with the same names where both have one. Sums have a fixed order: no
kernel adds to memory that another adds to. The modules of both rooms are imported where it is
known that they run.
"""

from functools import cache
from importlib import import_module
from typing import Any

from torch import Tensor

from featviz.kernels import cuda, host

_Module = Any
"""Kernels by name; the rooms' modules of one name have the same functions."""


def kernels(name: str, values: Tensor) -> _Module | None:
    """The kernels of this name for the tensor's device and type; None where torch does the work."""
    if cuda.usable(values):
        return _module(f"featviz.kernels.cuda.{name}")
    return _module(f"featviz.kernels.host.{name}") if host.runs_on(values) else None


def release(device: str, dtype: str) -> str:
    """What compiles the kernels that a network of this dtype on this device is beside, "none" where
    none run."""
    kind = device.partition(":")[0]
    if dtype == "float64" or kind not in ("cpu", "cuda"):
        return "none"
    return cuda.release() if kind == "cuda" else host.release()


@cache
def _module(name: str) -> _Module:
    return import_module(name)
