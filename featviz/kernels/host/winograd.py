"""Convolutions with 3 x 3 and 5 x 5 kernels in a quarter or about a third of the products.

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(4x4, 3x3) and
F(2x2, 5x5), with the points 0, 1, -1, 2, -2: 36 products for 144, or for 100.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.kernels.host.convolution import packed
from featviz.kernels.host.library import call
from featviz.kernels.host.rectifying import NOTHING, Rectifying
from featviz.kernels.layout import PANEL, by_pixel, like_by_pixel, pixel_stride

TILES = {3: 4, 5: 2}
"""By the size of a kernel: rows and columns of results that are made together."""
PRODUCTS = 36
"""Of a tile, for each input and output."""
_POINTS = ((0, 6), (1, -4), (-1, -4), (2, 1), (-2, 1))
"""Each with 24 times its factor in G of the paper; the last row of G is for infinity."""
_TOGETHER = 16
"""Tiles of which a thread has at hand what they see and a panel of what they make."""
_ROWS, _WIDEST = 8, 3 * PANEL
"""So many tiles are multiplied at once (TOGETHER of products.h), and channels in a panel (PANEL
vectors there), at most."""
_LINE = 16
"""Numbers, or fewer, that part the planes of products, so that they are no multiple of a page apart
(LINE of common.h)."""

Entered = Float[Tensor, "36 whole inputs"]
"""A kernel in the products' terms, packed."""


def entered(weight: Float[Tensor, "outputs inputs size size"]) -> Entered:
    """The kernel as `convolved` takes it."""
    size = weight.shape[2]
    rows = [[factor * point**power for power in range(size)] for point, factor in _POINTS]
    rows.append([0] * (size - 1) + [24])
    entry = torch.tensor(rows, dtype=torch.float64, device=weight.device) / 24
    planes = torch.einsum("ai,bj,ocij->aboc", entry, entry, weight.to(torch.float64))
    return torch.stack([packed(each) for each in planes.flatten(0, 1).to(weight.dtype)])


def convolved(
    maps: Tensor,
    kernel: Entered,
    bias: Tensor | None,
    *,
    outputs: int,
    size: int,
    rectifying: Rectifying = NOTHING,
) -> Tensor:
    """conv2d with stride 1 and a padding that keeps the maps' size; `outputs`: the result's
    channels, `size`: the kernel's. Channels of maps and results are multiples of PANEL."""
    maps = by_pixel(maps)
    images, inputs, rows, columns = maps.shape
    assert inputs % PANEL == 0
    assert outputs % PANEL == 0
    tile, threads = TILES[size], torch.get_num_threads()
    tiles = images * -(-rows // tile) * -(-columns // tile)
    each = -(-tiles // threads // _ROWS) * _ROWS
    together = min(_TOGETHER, max(_ROWS, each))
    share = PRODUCTS * (together * (inputs + _WIDEST) + 2 * _LINE)
    result = like_by_pixel(maps, rows, columns, outputs)
    call(
        *("few_products", maps, kernel, bias, *rectifying.told(result)),
        *(maps.new_empty(threads * share), *maps.shape, maps.stride(0), pixel_stride(maps)),
        *(outputs, tile, together, share),
    )
    return result
