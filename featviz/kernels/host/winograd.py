"""Convolutions with 3 x 3 and 5 x 5 kernels in a quarter or a third of the multiplications.

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
    shape: tuple[int, int],
    rectifying: Rectifying = NOTHING,
) -> Tensor:
    """conv2d with stride 1 and a padding that keeps the maps' size; `shape`: the result's channels
    and the kernel's size. Channels of maps and results are multiples of PANEL."""
    maps, (outputs, size) = by_pixel(maps), shape
    images, inputs, rows, columns = maps.shape
    assert inputs % PANEL == 0
    assert outputs % PANEL == 0
    tile, threads = TILES[size], torch.get_num_threads()
    tiles = images * -(-rows // tile) * -(-columns // tile)
    together = min(_TOGETHER, max(8, -(-tiles // threads // 8) * 8))
    share = PRODUCTS * (together * (inputs + 3 * PANEL) + 2 * PANEL)
    result = like_by_pixel(maps, rows, columns, outputs)
    call(
        *("few_products", maps, kernel, bias, *rectifying.told(result)),
        *(maps.new_empty(threads * share), *maps.shape, maps.stride(0), pixel_stride(maps)),
        *(outputs, tile, together, share),
    )
    return result
