"""What is asked of each row of numbers, in torch's own operations: they run everywhere."""

import math

from torch import Tensor

from featviz.shapes import Flags


def finite(values: Tensor, *, limit: float = math.inf) -> Flags:
    """Rows in which every value is a number of a size below the limit."""
    flat = values.flatten(1)  # whose extremes are NaN where anything is
    return (flat.amin(dim=1) > -limit) & (flat.amax(dim=1) < limit)
