"""What is asked of each row of numbers, whose memory is one piece."""

import torch
from torch import Tensor

from featviz.kernels.host.library import call
from featviz.shapes import Flags


def finite(values: Tensor) -> Flags:
    """Rows in which every value is a number."""
    return _asked("finite_rows", values)


def stirred(values: Tensor) -> Flags:
    """Rows in which anything is not zero."""
    return _asked("stirred_rows", values)


def _asked(kernel: str, values: Tensor) -> Flags:
    if not values.is_contiguous():
        layout = torch.channels_last if values.ndim == 4 else torch.contiguous_format
        values = values.contiguous(memory_format=layout)
    rows = len(values)
    result = torch.empty(rows, dtype=torch.bool, device=values.device)
    call(kernel, values, result, rows, values.numel() // max(1, rows))
    return result
