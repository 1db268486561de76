"""Maximum over windows, remembering in a byte where in the window it was."""

import torch
from torch import Tensor

from featviz.kernels.host.library import call
from featviz.kernels.layout import Window, by_pixel, like_by_pixel, pixel_stride


def pooled(maps: Tensor, window: Window, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The largest value of each window, and its place in it; `size` is the result's.

    As torch's max_pool2d: the first of equals, NaN before all numbers.
    """
    maps = by_pixel(maps)
    result = like_by_pixel(maps, *size)
    places = torch.empty_like(result, dtype=torch.uint8)
    call(
        *("pooled", maps, result, places, *window.size, *window.stride, *window.padding),
        *(*maps.shape, maps.stride(0), pixel_stride(maps), *size),
    )
    return result, places


def unpooled(gradient: Tensor, places: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """The gradient at the input, whose rows and columns are `size`: sums over windows in order."""
    gradient = by_pixel(gradient)
    result = like_by_pixel(gradient, *size)
    call(
        *("unpooled", gradient, places, result, *window.size, *window.stride, *window.padding),
        *(*result.shape, gradient.stride(0), pixel_stride(gradient), *gradient.shape[2:]),
    )
    return result
