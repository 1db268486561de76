"""What is asked of each row of numbers, whose memory is one piece."""

import torch
from torch import Tensor

from featviz.kernels.host.library import call
from featviz.shapes import Flags


def stirred(values: Tensor) -> Flags:
    """Rows in which anything is not zero."""
    if not values.is_contiguous():
        layout = torch.channels_last if values.ndim == 4 else torch.contiguous_format
        values = values.contiguous(memory_format=layout)
    rows = len(values)
    result = torch.empty(rows, dtype=torch.bool, device=values.device)
    call("stirred_rows", values, result, rows, values.numel() // max(1, rows))
    return result
