"""Of moments by row and by column: what a step divides by, in torch's own operations."""

import torch
from torch import Tensor

LIMIT = 2.0**56
"""Of a gradient: the sums of larger ones' squares would be no numbers."""


def scales(by_row: Tensor, by_column: Tensor) -> tuple[Tensor, Tensor]:
    """Factors by row and by column whose product a coefficient's step is divided by.

    `by_row` is (picture, channel, row), `by_column` (picture, channel, column). See
    `featviz.engine.recipe.FactoredAdam`.
    """
    means = by_row.mean(dim=2, keepdim=True)
    whole = means.mean(dim=1, keepdim=True)
    shares = by_column / (means + torch.finfo(by_row.dtype).tiny)
    return _lessened(by_row), _lessened(shares) * whole.sqrt().sqrt().sqrt()


def _lessened(moments: Tensor) -> Tensor:
    """Raised to 3/8."""
    fourth = moments.sqrt().sqrt()
    return fourth * fourth.sqrt()
