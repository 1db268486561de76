"""What is asked of each row of numbers, in torch's own operations: they run everywhere."""

import torch
from torch import Tensor

from featviz.shapes import Flags


def finite(values: Tensor) -> Flags:
    """Rows in which every value is a number: neither NaN nor infinite."""
    flat = values.flatten(1)  # whose extremes are NaN where anything is
    return torch.isfinite(flat.amin(dim=1)) & torch.isfinite(flat.amax(dim=1))
