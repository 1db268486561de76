"""The gradient, at the pictures, of a convolution of few colors."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from featviz.kernels.host.library import call
from featviz.kernels.layout import Window, by_pixel, like_by_pixel, pixel_stride

_PANEL = 16
"""Places that are made together: BROAD * WIDE of stem.c."""

Panels = Float[Tensor, "panels outputs 16"]
"""A kernel's places (row, column, color), by panel."""


def packed(weight: Float[Tensor, "outputs colors height width"]) -> Panels:
    """The kernel as `gradient_at` takes it."""
    flat = weight.permute(0, 2, 3, 1).flatten(1)
    whole = functional.pad(flat, (0, -flat.shape[1] % _PANEL))
    return whole.unflatten(1, (-1, _PANEL)).movedim(0, 1).contiguous()


def gradient_at(
    gradient: Tensor, panels: Panels, window: Window, colors: int, size: tuple[int, int]
) -> Tensor:
    """The gradient at pictures of `size`."""
    gradient = by_pixel(gradient)
    result = like_by_pixel(gradient, *size, channels=colors)
    (height, width), (down, right), (above, left) = window.size, window.stride, window.padding
    call(
        *("stem_gradient", gradient, panels, result, *gradient.shape),
        *(gradient.stride(0), pixel_stride(gradient), len(panels) * _PANEL),
        *(height, width * colors, down, right * colors, above, left * colors),
        *(size[0], size[1] * colors),
    )
    return result
