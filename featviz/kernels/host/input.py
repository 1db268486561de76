"""From pictures to what a network is given, and back: scaled, ordered, laid out."""

import torch
from torch import Tensor

from featviz.kernels.host.library import call

_LAST = torch.channels_last


def given(
    images: Tensor, scale: Tensor, offset: Tensor, dtype: torch.dtype, *, is_reversed: bool
) -> Tensor:
    """scale * value + offset per channel, in a network's dtype, by pixel; `is_reversed`: the last
    channel first."""
    is_by_pixel = images.is_contiguous(memory_format=_LAST)
    images = images if is_by_pixel else images.contiguous()
    result = torch.empty_like(images, memory_format=_LAST)
    call("given", images, scale, offset, result, *_sizes(images), is_by_pixel, is_reversed)
    return result.to(dtype)


def taken(gradient: Tensor, scale: Tensor, dtype: torch.dtype, *, is_reversed: bool) -> Tensor:
    """The gradient at the pictures, in their dtype, by pixel."""
    gradient = gradient.to(dtype).contiguous(memory_format=_LAST)
    result = torch.empty_like(gradient, memory_format=_LAST)
    call("taken", gradient, scale, result, *_sizes(gradient), 1, is_reversed)
    return result


def _sizes(maps: Tensor) -> tuple[int, int, int]:
    return maps.shape[0], maps.shape[1], maps.shape[2:].numel()
