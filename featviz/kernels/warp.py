"""Bilinear resampling, and its adjoint, gathered: each pixel of the input adds up, in a fixed
order, what the pixels of the output that read it send back."""

# pyright: reportCallIssue=false

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

PIXELS, CHANNELS = 128, 4
"""Of a picture, that a program handles."""
SLACK_PX = 0.01
"""By which rounding might move a position."""


def sampled(images: Tensor, affine: Tensor, rows: int, columns: int, *, reflects: bool) -> Tensor:
    """Pictures of the given size read where `affine` says; `reflects` as in `gathered`."""
    count, channels, in_rows, in_columns = images.shape
    result = images.new_empty(count, channels, rows, columns)
    _sample[(-(-rows * columns // PIXELS), -(-channels // CHANNELS), count)](
        *(images.contiguous(), affine.contiguous(), result, channels),
        *(rows, columns, in_rows, in_columns, reflects, PIXELS, CHANNELS),
    )
    return result


def gathered(gradient: Tensor, affine: Tensor, size: tuple[int, int], *, reflects: bool) -> Tensor:
    """The gradient at pictures of `size` that were read where `affine` says.

    `reflects`: outside lies the mirror image (see `featviz.image.warp.Reflect`), else nothing.
    """
    images, channels, rows, columns = gradient.shape
    result = gradient.new_empty(images, channels, *size)
    blocks = -(-size[0] * size[1] // PIXELS)
    _gather[(blocks, -(-channels // CHANNELS), images)](
        *(gradient.contiguous(), affine.contiguous(), result, channels),
        *(rows, columns, *size, reflects, SLACK_PX, PIXELS, CHANNELS),
        num_warps=1,
    )
    return result


@triton.jit
@no_type_check
def _sample(
    images,
    affine,
    result,
    channels,
    rows,
    columns,
    in_rows,
    in_columns,
    REFLECTS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    at = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    is_there = at < rows * columns
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    plane = image * channels + channel
    row, column = at // columns, at % columns
    numbers = affine + image * 6
    y = tl.load(numbers) * row + tl.load(numbers + 1) * column + tl.load(numbers + 2)
    x = tl.load(numbers + 3) * row + tl.load(numbers + 4) * column + tl.load(numbers + 5)
    if REFLECTS:
        y = y + 0.5 - tl.floor((y + 0.5) / (2 * in_rows)) * (2 * in_rows)
        x = x + 0.5 - tl.floor((x + 0.5) / (2 * in_columns)) * (2 * in_columns)
        y = tl.minimum(tl.maximum(tl.minimum(y, 2 * in_rows - y) - 0.5, 0.0), in_rows - 1.0)
        x = tl.minimum(tl.maximum(tl.minimum(x, 2 * in_columns - x) - 0.5, 0.0), in_columns - 1.0)
    top, left = tl.floor(y), tl.floor(x)
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for down in tl.static_range(2):
        for right in tl.static_range(2):
            in_row, in_column = top + down, left + right
            weight = (1 - tl.abs(y - in_row)) * (1 - tl.abs(x - in_column))
            is_inside = is_there & (in_row >= 0) & (in_row < in_rows)
            is_inside = is_inside & (in_column >= 0) & (in_column < in_columns)
            pixel = in_row.to(tl.int32) * in_columns + in_column.to(tl.int32)
            value = tl.load(
                images + plane * in_rows * in_columns + pixel[:, None],
                mask=is_inside[:, None] & (channel < channels),
                other=0.0,
            )
            total += weight[:, None] * value
    offset = plane * rows * columns + at[:, None]
    tl.store(result + offset, total, mask=is_there[:, None] & (channel < channels))


@triton.jit
@no_type_check
def _gather(
    gradient,
    affine,
    result,
    channels,
    rows,
    columns,
    in_rows,
    in_columns,
    REFLECTS: tl.constexpr,
    SLACK: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    a = tl.load(affine + image * 6)
    b = tl.load(affine + image * 6 + 1)
    down = tl.load(affine + image * 6 + 2)
    c = tl.load(affine + image * 6 + 3)
    d = tl.load(affine + image * 6 + 4)
    right = tl.load(affine + image * 6 + 5)
    determinant = a * d - b * c
    at = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    is_there = at < in_rows * in_columns
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    plane = image * channels + channel
    # An input pixel is read from within one pixel around it: a parallelogram of the output.
    row_reach = (tl.abs(d) + tl.abs(b)) / tl.abs(determinant)
    column_reach = (tl.abs(c) + tl.abs(a)) / tl.abs(determinant)
    high = tl.minimum(tl.floor(2 * row_reach + 2 * SLACK) + 1, rows + 1.0).to(tl.int32)
    wide = tl.minimum(tl.floor(2 * column_reach + 2 * SLACK) + 1, columns + 1.0).to(tl.int32)
    # Copies of the picture side by side, every other one mirrored, as far as positions go.
    top = down + tl.minimum(a * (rows - 1), 0.0) + tl.minimum(b * (columns - 1), 0.0)
    bottom = down + tl.maximum(a * (rows - 1), 0.0) + tl.maximum(b * (columns - 1), 0.0)
    left = right + tl.minimum(c * (rows - 1), 0.0) + tl.minimum(d * (columns - 1), 0.0)
    far = right + tl.maximum(c * (rows - 1), 0.0) + tl.maximum(d * (columns - 1), 0.0)
    first_row, last_row, first_column, last_column = 0, 0, 0, 0
    if REFLECTS:
        first_row = tl.floor((top - 1) / in_rows).to(tl.int32)
        last_row = tl.floor((bottom + 1) / in_rows).to(tl.int32)
        first_column = tl.floor((left - 1) / in_columns).to(tl.int32)
        last_column = tl.floor((far + 1) / in_columns).to(tl.int32)
    row, column = at // in_columns, at % in_columns
    total = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for copy_row in range(first_row, last_row + 1):
        y = tl.where(copy_row % 2 == 0, row, in_rows - 1 - row) + copy_row * in_rows
        for copy_column in range(first_column, last_column + 1):
            x = tl.where(copy_column % 2 == 0, column, in_columns - 1 - column)
            x = x + copy_column * in_columns
            across, along = y - down, x - right
            from_row = tl.ceil((d * across - b * along) / determinant - row_reach - SLACK)
            from_column = tl.ceil((a * along - c * across) / determinant - column_reach - SLACK)
            is_near = is_there & (from_row + high > 0) & (from_row < rows)
            is_near = is_near & (from_column + wide > 0) & (from_column < columns)
            if tl.max(is_near.to(tl.int32), axis=0) > 0:
                for i in range(high):
                    out_row = from_row + i
                    for j in range(wide):
                        out_column = from_column + j
                        tall = 1 - tl.abs(a * out_row + b * out_column + down - y)
                        broad = 1 - tl.abs(c * out_row + d * out_column + right - x)
                        weight = tl.maximum(tall, 0.0) * tl.maximum(broad, 0.0)
                        is_read = is_near & (out_row >= 0) & (out_row < rows)
                        is_read = is_read & (out_column >= 0) & (out_column < columns)
                        pixel = out_row.to(tl.int32) * columns + out_column.to(tl.int32)
                        value = tl.load(
                            gradient + plane * rows * columns + pixel[:, None],
                            mask=is_read[:, None] & (channel < channels),
                            other=0.0,
                        )
                        total += weight[:, None] * value
    offset = plane * in_rows * in_columns + at[:, None]
    tl.store(result + offset, total, mask=is_there[:, None] & (channel < channels))
