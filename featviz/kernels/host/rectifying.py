"""What the kernel of a convolution does for the rectifier beside it, as it stores its results."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from featviz.kernels.host.library import Argument

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Rectifying:
    """Results are held within the bounds; on the way back, where there are `values`, a rectifier's
    results, a gradient passes where these are within its bounds."""

    bounds: Bounds
    values: Tensor | None = None

    def told(self, result: Tensor) -> tuple[Argument, ...]:
        """For a kernel: the values, as they lie in the result, the result, and the bounds."""
        values = self.values
        if values is not None:
            assert values.shape == result.shape
            values = values.contiguous(memory_format=torch.channels_last)
        return values, result, *self.bounds


NOTHING = Rectifying((-math.inf, math.inf))
