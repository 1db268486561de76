"""CUDA kernels in Triton: in one pass over memory what torch takes many for.

Each stands in for operations of torch that are named beside it, which run everywhere else and are
what it is tested against. Sums have a fixed order: no kernel adds to memory that another adds to.
Modules of this room import Triton, so they are imported where `usable` said yes.
"""

from functools import cache
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Triton rounds a kernel's numbers to float32, which would spoil float64."""


def usable(values: Tensor) -> bool:
    """Whether kernels run on a tensor: on CUDA where Triton is there, up to float32."""
    return values.is_cuda and values.dtype in _DTYPES and _has_triton()


@cache
def release() -> str:
    """Triton's version, or "none"."""
    return str(import_module("triton").__version__) if _has_triton() else "none"


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None
