"""Kernels for a CPU, in C, compiled on the machine that they run on when they are first wanted."""

import torch
from torch import Tensor
from torch.nn import Parameter

from featviz.kernels.host.library import loaded, release

__all__ = ["loaded", "release", "runs_on"]


def runs_on(values: Tensor) -> bool:
    """Whether kernels run on a tensor: float32 on a CPU that has a C compiler with OpenMP.

    What stands in for a tensor has no memory that they could read, and autocast has a say in what
    torch does between them.
    """
    is_plain = type(values) in (Tensor, Parameter) and not torch.is_autocast_enabled("cpu")
    is_float = values.device.type == "cpu" and values.dtype == torch.float32
    return is_plain and is_float and loaded() is not None
