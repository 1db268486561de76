"""From pictures to what a network is given, and back: scaled, ordered, laid out."""

import torch
from torch import Tensor

from featviz.kernels.host.library import call


def given(
    images: Tensor, scale: Tensor, offset: Tensor, dtype: torch.dtype, *, is_reversed: bool
) -> Tensor:
    """scale * value + offset per channel, in a network's dtype, by pixel; `is_reversed`: the last
    channel first."""
    images = images.contiguous()
    result = torch.empty_like(images, memory_format=torch.channels_last)
    call("given", images, scale, offset, result, *_sizes(images), is_reversed)
    return result.to(dtype)


def taken(gradient: Tensor, scale: Tensor, dtype: torch.dtype, *, is_reversed: bool) -> Tensor:
    """The gradient at the pictures, in their dtype."""
    gradient = gradient.to(dtype, memory_format=torch.channels_last)
    result = torch.empty(gradient.shape, dtype=dtype)
    call("taken", gradient, scale, result, *_sizes(gradient), is_reversed)
    return result


def _sizes(maps: Tensor) -> tuple[int, int, int]:
    return maps.shape[0], maps.shape[1], maps.shape[2:].numel()
