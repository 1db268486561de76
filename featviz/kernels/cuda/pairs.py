"""Pictures of colors, and pictures of blocks of pixels: as many channels a color as a block has
pixels, in the order of torch's pixel_shuffle."""

# pyright: reportCallIssue=false

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from featviz.kernels.layout import by_pixel, like_by_pixel, pixel_stride, whole_pixels


def paired(
    values: Tensor, channels: int, before: tuple[int, int], after: tuple[int, int]
) -> Tensor:
    """Blocks of 2 x 2 pixels, so many of zeros before and after them, and so many channels, zero
    beyond four a color. Rows and columns are even."""
    values = by_pixel(values)
    images, colors, rows, columns = values.shape
    (top, left), (bottom, right) = before, after
    height, width = top + rows // 2 + bottom, left + columns // 2 + right
    result = like_by_pixel(values, height, width, channels)
    where, tall, wide = whole_pixels(images, height * width, channels)
    _pair[where](
        *(values, result, values.stride(0), pixel_stride(values), colors, rows, columns),
        *(channels, height, width, top, left, tall, wide),
    )
    return result


def unpaired(
    pairs: Tensor, colors: int, side: int, skipped: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """The pixels, by pixel, of `size` // `side` blocks after the skipped ones."""
    pairs = by_pixel(pairs)
    result = like_by_pixel(pairs, *size, colors)
    where, tall, wide = whole_pixels(len(pairs), size[0] * size[1], colors)
    _unpair[where](
        *(pairs, result, pairs.stride(0), pixel_stride(pairs), pairs.shape[3]),
        *(colors, *size, *skipped, side, tall, wide),
    )
    return result


@triton.jit
@no_type_check
def _pair(
    values,
    result,
    image_stride,
    stride,
    colors,
    rows,
    columns,
    channels,
    height,
    width,
    top,
    left,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    channel = tl.arange(0, WIDE)[None, :]
    row = 2 * (pixel // width - top) + channel // 2 % 2
    column = 2 * (pixel % width - left) + channel % 2
    is_inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    is_there = (pixel < height * width) & (channel < channels)
    at = values + image * image_stride + (row * columns + column) * stride + channel // 4
    value = tl.load(at, mask=is_there & is_inside & (channel < 4 * colors), other=0.0)
    tl.store(result + (image * height * width + pixel) * channels + channel, value, mask=is_there)


@triton.jit
@no_type_check
def _unpair(
    pairs,
    result,
    image_stride,
    stride,
    width,
    colors,
    rows,
    columns,
    down,
    right,
    SIDE: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    color = tl.arange(0, WIDE)[None, :]
    is_there = (pixel < rows * columns) & (color < colors)
    row, column = pixel // columns, pixel % columns
    place = (down + row // SIDE) * width + right + column // SIDE
    channel = SIDE * (SIDE * color + row % SIDE) + column % SIDE
    value = tl.load(pairs + image * image_stride + place * stride + channel, mask=is_there)
    tl.store(result + (image * rows * columns + pixel) * colors + color, value, mask=is_there)
