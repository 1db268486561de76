"""Local response normalization and its gradient, in one pass each."""

from torch import Tensor

from featviz.kernels.host.library import call
from featviz.kernels.layout import by_pixel, like_by_pixel, pixel_stride


def normalized(maps: Tensor, size: int, weight: float, beta: float, k: float) -> tuple[Tensor, ...]:
    """x * base ** -beta and base, which is k + weight * the sum of x ** 2 over `size` channels
    around each."""
    maps = by_pixel(maps)
    images, channels, rows, columns = maps.shape
    result, base = like_by_pixel(maps, rows, columns), like_by_pixel(maps, rows, columns)
    call(
        *("normalized", maps, result, base, images, channels, rows * columns),
        *(maps.stride(0), pixel_stride(maps), size, float(weight), float(beta), float(k)),
    )
    return result, base


def normalized_gradient(
    gradient: Tensor, maps: Tensor, base: Tensor, size: int, weight: float, beta: float
) -> Tensor:
    """The gradient at the maps; `base` is the second result of `normalized`."""
    gradient, maps = by_pixel(gradient), by_pixel(maps)
    images, channels, rows, columns = maps.shape
    result = like_by_pixel(maps, rows, columns)
    call(
        *("normalized_gradient", gradient, maps, base, result, images, channels, rows * columns),
        *(gradient.stride(0), pixel_stride(gradient), maps.stride(0), pixel_stride(maps)),
        *(size, float(weight), float(beta)),
    )
    return result
