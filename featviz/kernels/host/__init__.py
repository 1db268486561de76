"""Kernels for a CPU, in C, compiled on the machine that they run on when they are first wanted."""

import torch
from torch import Tensor

from featviz.kernels.host.library import loaded, release

__all__ = ["loaded", "release", "runs_on"]


def runs_on(values: Tensor) -> bool:
    """Whether kernels run on a tensor: float32 on a CPU that has a C compiler with OpenMP."""
    return values.device.type == "cpu" and values.dtype == torch.float32 and loaded() is not None
