"""Kernels for CUDA, in Triton. Modules of this room import it, so they wait for `usable`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from subprocess import CalledProcessError

import torch
from torch import Tensor

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Triton rounds a kernel's numbers to float32, which would spoil float64."""


def usable(values: Tensor) -> bool:
    """Whether kernels run on a tensor: up to float32, on the current CUDA device, with Triton.

    Triton launches on the current device whatever its arguments; see `on_device`.
    """
    if not (values.is_cuda and values.dtype in _DTYPES):
        return False
    return values.device.index == torch.cuda.current_device() and _runs()


@contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """A context in which a CUDA device is the current one; nothing happens for others."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield


def release() -> str:
    """Triton and its version, or "none" where it does not run."""
    return f"triton {import_module('triton').__version__}" if _runs() else "none"


@cache
def _runs() -> bool:
    """Whether Triton is there and can compile: it wants a C compiler when it first launches."""
    if find_spec("triton") is None:
        return False
    try:
        import_module("featviz.kernels.cuda.trial").launch()
    except (RuntimeError, OSError, CalledProcessError, ImportError):
        return False
    return True
