"""The gradient, at the pictures, of a convolution of few colors."""

from jaxtyping import Float
from torch import Tensor

from featviz.kernels.host.convolution import Packed
from featviz.kernels.host.convolution import packed as packed_matrix
from featviz.kernels.host.library import call
from featviz.kernels.layout import Window, by_pixel, like_by_pixel, pixel_stride


def packed(weight: Float[Tensor, "outputs colors height width"]) -> Packed:
    """The kernel's places (row, column, color) as `gradient_at` takes them."""
    return packed_matrix(weight.permute(0, 2, 3, 1).flatten(1).T)


def gradient_at(
    gradient: Tensor, places: Packed, window: Window, colors: int, size: tuple[int, int]
) -> Tensor:
    """The gradient at pictures of `size`."""
    gradient = by_pixel(gradient)
    result = like_by_pixel(gradient, *size, channels=colors)
    (height, width), (down, right), (above, left) = window.size, window.stride, window.padding
    call(
        *("stem_gradient", gradient, places, result, *gradient.shape),
        *(gradient.stride(0), pixel_stride(gradient), len(places)),
        *(height, width * colors, down, right * colors, above, left * colors),
        *(size[0], size[1] * colors),
    )
    return result
