"""Convolutions with 3 x 3 kernels in a quarter of the multiplications.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(4x4, 3x3), with
the points 0, 1, -1, 2, -2: 36 products for 144.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.kernels.host.convolution import packed, products
from featviz.kernels.host.library import call
from featviz.kernels.host.rectifying import NOTHING, Rectifying
from featviz.kernels.layout import PANEL, by_pixel, like_by_pixel, pixel_stride

TILE = 4
"""Rows and columns of results that are made together."""
_PRODUCTS = 36
_ENTRY = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))
"""24 times G of the paper."""

Entered = Float[Tensor, "36 whole inputs"]
"""A kernel in the products' terms, packed."""


def entered(weight: Float[Tensor, "outputs inputs 3 3"]) -> Entered:
    """The kernel as `convolved` takes it."""
    entry = torch.tensor(_ENTRY, dtype=torch.float64, device=weight.device) / 24
    planes = torch.einsum("ai,bj,ocij->aboc", entry, entry, weight.to(torch.float64))
    return torch.stack([packed(each) for each in planes.flatten(0, 1).to(weight.dtype)])


def convolved(
    maps: Tensor,
    kernel: Entered,
    bias: Tensor | None,
    outputs: int,
    rectifying: Rectifying = NOTHING,
) -> Tensor:
    """conv2d with stride 1 and padding 1. Channels of maps and results are multiples of PANEL."""
    maps = by_pixel(maps)
    images, inputs, rows, columns = maps.shape
    assert inputs % PANEL == 0
    assert outputs % PANEL == 0
    tiles = images * -(-rows // TILE) * -(-columns // TILE)
    seen = maps.new_empty((_PRODUCTS, tiles, inputs))
    call("winograd_enter", maps, seen, *maps.shape, maps.stride(0), pixel_stride(maps))
    result = like_by_pixel(maps, rows, columns, outputs)
    made = products(seen, kernel, outputs)
    call("winograd_leave", made, bias, *rectifying.told(result), *result.shape)
    return result
