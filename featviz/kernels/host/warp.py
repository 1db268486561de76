"""Bilinear sampling by affine maps, and its gradient, in one pass each."""

import torch
from torch import Tensor

from featviz.kernels.host.library import Argument, call
from featviz.kernels.layout import like_by_pixel

LANES = 4
"""Channels whose values lie side by side in the room that a thread has."""
Colors = tuple[Tensor, Tensor, bool]
"""Scale and offset of each channel, and whether the last comes first after that."""
_LAST = torch.channels_last


def sampled(
    images: Tensor,
    affine: Tensor,
    rows: int,
    columns: int,
    *,
    reflects: bool,
    colors: Colors | None = None,
) -> Tensor:
    """What grid_sample reads of pictures where the maps say, by pixel; see `featviz.image.warp`.

    `colors`: scaled and ordered so, of pictures with LANES channels at most.
    """
    images, size = images.contiguous(), images.shape[2:]
    result = like_by_pixel(images, rows, columns)
    call(
        *("sample", images, affine.to(images.dtype).contiguous(), *_told(colors, images)),
        *(_room(images, *size), result, *images.shape, rows, columns, reflects),
    )
    return result


def gathered(
    gradient: Tensor,
    affine: Tensor,
    size: tuple[int, int],
    *,
    reflects: bool,
    colors: Colors | None = None,
) -> Tensor:
    """The gradient at pictures of this size that `sampled` read: each pixel's sum, in one order."""
    gradient = gradient.contiguous(memory_format=_LAST)
    result = gradient.new_empty((*gradient.shape[:2], *size))
    call(
        *("gather", gradient, affine.to(gradient.dtype).contiguous(), *_told(colors, gradient)),
        *(_room(gradient, *size), result, *result.shape, *gradient.shape[2:], reflects),
    )
    return result


def _told(colors: Colors | None, like: Tensor) -> tuple[Argument, ...]:
    if colors is None:
        return None, None, 0
    assert like.shape[1] <= LANES
    scale, offset, is_reversed = colors
    return scale.contiguous(), offset.contiguous(), is_reversed


def _room(like: Tensor, rows: int, columns: int) -> Tensor:
    return like.new_empty((torch.get_num_threads(), rows + 2, columns + 2, LANES))
