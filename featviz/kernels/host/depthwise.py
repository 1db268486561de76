"""Convolutions of each channel with a kernel of its own, and their gradient at the input."""

from torch import Tensor

from featviz.kernels.host.library import call
from featviz.kernels.host.rectifying import NOTHING, Rectifying
from featviz.kernels.layout import Window, by_pixel, like_by_pixel, pixel_stride


def convolved(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    size: tuple[int, int],
    rectifying: Rectifying = NOTHING,
) -> Tensor:
    """The convolution; `weight` is (place in the window, channel), `size` the result's."""
    return _summed(maps, weight, bias, window, size, rectifying, is_back=False)


def convolved_gradient(
    gradient: Tensor,
    weight: Tensor,
    window: Window,
    size: tuple[int, int],
    rectifying: Rectifying = NOTHING,
) -> Tensor:
    """The gradient at an input of `size`: of each pixel a sum over the windows that have it."""
    return _summed(gradient, weight, None, window, size, rectifying, is_back=True)


def _summed(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    window: Window,
    size: tuple[int, int],
    rectifying: Rectifying,
    *,
    is_back: bool,
) -> Tensor:
    maps = by_pixel(maps)
    result = like_by_pixel(maps, *size)
    call(
        *("depthwise", maps, weight, bias, *rectifying.told(result)),
        *(*window.size, *window.stride, *window.padding),
        *(*maps.shape, maps.stride(0), pixel_stride(maps), *size, is_back),
    )
    return result
