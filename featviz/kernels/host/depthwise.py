"""Convolutions of each channel with a kernel of its own, and their gradient at the input."""

import math

from torch import Tensor

from featviz.kernels.host.library import call
from featviz.kernels.layout import Window, by_pixel, like_by_pixel, pixel_stride

UNBOUNDED = (-math.inf, math.inf)


def convolved(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    size: tuple[int, int],
    bounds: tuple[float, float] = UNBOUNDED,
) -> Tensor:
    """The convolution, held within bounds; `weight` is (place in the window, channel), `size` the
    result's."""
    return _summed(maps, weight, bias, window, size, bounds, is_back=False)


def convolved_gradient(
    gradient: Tensor, weight: Tensor, window: Window, size: tuple[int, int]
) -> Tensor:
    """The gradient at an input of `size`: of each pixel a sum over the windows that have it."""
    return _summed(gradient, weight, None, window, size, UNBOUNDED, is_back=True)


def _summed(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    size: tuple[int, int],
    bounds: tuple[float, float],
    *,
    is_back: bool,
) -> Tensor:
    maps = by_pixel(maps)
    result = like_by_pixel(maps, *size)
    call(
        *("depthwise", maps, weight, bias, result, *bounds),
        *(*window.size, *window.stride, *window.padding),
        *(*maps.shape, maps.stride(0), pixel_stride(maps), *size, is_back),
    )
    return result
