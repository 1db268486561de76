"""Bilinear sampling by affine maps, and its gradient, in one pass each."""

import torch
from torch import Tensor

from featviz.kernels.host.library import call

_LANES = 4
"""Channels whose values lie side by side in the room that a picture takes."""


def sampled(images: Tensor, affine: Tensor, rows: int, columns: int, *, reflects: bool) -> Tensor:
    """What grid_sample reads of pictures where the maps say; see `featviz.image.warp`."""
    images, size = images.contiguous(), images.shape[2:]
    result = images.new_empty((*images.shape[:2], rows, columns))
    call(
        *("sample", images, affine.to(images.dtype).contiguous(), _room(images, *size), result),
        *(*images.shape, rows, columns, reflects),
    )
    return result


def gathered(gradient: Tensor, affine: Tensor, size: tuple[int, int], *, reflects: bool) -> Tensor:
    """The gradient at pictures of this size that `sampled` read: each pixel's sum, in the order
    of the output's pixels."""
    gradient = gradient.contiguous()
    result = gradient.new_empty((*gradient.shape[:2], *size))
    call(
        *(
            "gather",
            gradient,
            affine.to(gradient.dtype).contiguous(),
            _room(gradient, *size),
            result,
        ),
        *(*result.shape, *gradient.shape[2:], reflects),
    )
    return result


def _room(like: Tensor, rows: int, columns: int) -> Tensor:
    return torch.empty((len(like), rows * columns, _LANES), dtype=like.dtype)
