"""Bilinear resampling, and its adjoint, gathered: each pixel of the input adds up, in a fixed
order, what the pixels of the output that read it send back."""

# pyright: reportCallIssue=false

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

PIXELS = 256
"""Of a picture, that a program of the way there handles."""
TALL, WIDE = 16, 16
"""Rows and columns that a program of the way back handles, of three channels."""
SLACK_PX = 0.01
"""By which rounding might move a position."""


def sampled(images: Tensor, affine: Tensor, rows: int, columns: int, *, reflects: bool) -> Tensor:
    """Pictures of the given size read where `affine` says; `reflects` as in `gathered`."""
    count, channels, in_rows, in_columns = images.shape
    result = images.new_empty(count, channels, rows, columns)
    _sample[(-(-rows * columns // PIXELS), count)](
        *(images.contiguous(), affine.contiguous(), result, channels),
        *(rows, columns, in_rows, in_columns, reflects, PIXELS),
    )
    return result


def gathered(gradient: Tensor, affine: Tensor, size: tuple[int, int], *, reflects: bool) -> Tensor:
    """The gradient at pictures of `size` that were read where `affine` says.

    `reflects`: outside lies the mirror image (see `featviz.image.warp.Reflect`), else nothing.
    """
    images, channels, rows, columns = gradient.shape
    result = gradient.new_empty(images, channels, *size)
    tiles = -(-size[0] // TALL) * -(-size[1] // WIDE)
    _gather[(tiles, -(-channels // 3), images)](
        *(gradient.contiguous(), affine.contiguous(), result, channels),
        *(rows, columns, *size, reflects, SLACK_PX, TALL, WIDE),
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
):
    image = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    is_there = at < rows * columns
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
    below, beyond = y - top, x - left
    is_top = is_there & (top >= 0) & (top < in_rows)
    is_bottom = is_there & (top >= -1) & (top < in_rows - 1)
    is_left = (left >= 0) & (left < in_columns)
    is_right = (left >= -1) & (left < in_columns - 1)
    pixel = top.to(tl.int32) * in_columns + left.to(tl.int32)
    for channel in range(channels):
        plane = images + (image * channels + channel) * in_rows * in_columns
        total = (1 - below) * (1 - beyond) * tl.load(plane + pixel, is_top & is_left, 0.0)
        total += (1 - below) * beyond * tl.load(plane + pixel + 1, is_top & is_right, 0.0)
        plane += in_columns
        total += below * (1 - beyond) * tl.load(plane + pixel, is_bottom & is_left, 0.0)
        total += below * beyond * tl.load(plane + pixel + 1, is_bottom & is_right, 0.0)
        tl.store(result + (image * channels + channel) * rows * columns + at, total, is_there)


@triton.jit
@no_type_check
def _span(per_row, per_column, start, rows, columns):
    """The lowest and highest coordinate from which an output of this size reads."""
    by_row, by_column = per_row * (rows - 1), per_column * (columns - 1)
    low = start + tl.minimum(by_row, 0.0) + tl.minimum(by_column, 0.0)
    high = start + tl.maximum(by_row, 0.0) + tl.maximum(by_column, 0.0)
    return low - 1, high + 1


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
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    a = tl.load(affine + image * 6)
    b = tl.load(affine + image * 6 + 1)
    down = tl.load(affine + image * 6 + 2)
    c = tl.load(affine + image * 6 + 3)
    d = tl.load(affine + image * 6 + 4)
    right = tl.load(affine + image * 6 + 5)
    determinant = a * d - b * c
    across = (in_columns + WIDE - 1) // WIDE
    top, left = (tl.program_id(0) // across) * TALL, (tl.program_id(0) % across) * WIDE
    bottom = tl.minimum(top + TALL, in_rows) - 1
    far = tl.minimum(left + WIDE, in_columns) - 1
    place = tl.arange(0, TALL * WIDE)
    row, column = top + place // WIDE, left + place % WIDE
    is_there = (row < in_rows) & (column < in_columns)
    channel = tl.program_id(1) * 3
    first_plane = gradient + (image * channels + channel) * rows * columns
    second_plane, third_plane = first_plane + rows * columns, first_plane + 2 * rows * columns
    has_second, has_third = channel + 1 < channels, channel + 2 < channels
    # An input pixel is read from within one pixel around it: a parallelogram of the output.
    row_reach = (tl.abs(d) + tl.abs(b)) / tl.abs(determinant) + SLACK
    column_reach = (tl.abs(c) + tl.abs(a)) / tl.abs(determinant) + SLACK
    # It is looked through in squares of 3 x 3: as a rule there is one.
    high = (tl.minimum(tl.floor(2 * row_reach), rows + 1.0) / 3).to(tl.int32) + 1
    wide = (tl.minimum(tl.floor(2 * column_reach), columns + 1.0) / 3).to(tl.int32) + 1
    row_by_y, row_by_x = d / determinant, -b / determinant
    column_by_y, column_by_x = -c / determinant, a / determinant
    # Copies of the picture side by side, every other one mirrored, as far as positions go.
    lowest_y, highest_y = _span(a, b, down, rows, columns)
    lowest_x, highest_x = _span(c, d, right, rows, columns)
    first_row, last_row, first_column, last_column = 0, 0, 0, 0
    if REFLECTS:
        first_row = tl.floor(lowest_y / in_rows).to(tl.int32)
        last_row = tl.floor(highest_y / in_rows).to(tl.int32)
        first_column = tl.floor(lowest_x / in_columns).to(tl.int32)
        last_column = tl.floor(highest_x / in_columns).to(tl.int32)
    first = tl.zeros((TALL * WIDE,), tl.float32)
    second, third = first, first
    for copy_row in range(first_row, last_row + 1):
        is_upright, start = copy_row % 2 == 0, copy_row * in_rows
        y = start + tl.where(is_upright, row, in_rows - 1 - row)
        first_y = start + tl.where(is_upright, top, in_rows - 1 - bottom)
        last_y = start + tl.where(is_upright, bottom, in_rows - 1 - top)
        if (last_y >= lowest_y) & (first_y <= highest_y):
            for copy_column in range(first_column, last_column + 1):
                is_upright, start = copy_column % 2 == 0, copy_column * in_columns
                x = start + tl.where(is_upright, column, in_columns - 1 - column)
                first_x = start + tl.where(is_upright, left, in_columns - 1 - far)
                last_x = start + tl.where(is_upright, far, in_columns - 1 - left)
                if (last_x >= lowest_x) & (first_x <= highest_x):
                    ahead, aside = y - down, x - right
                    from_row = row_by_y * ahead + row_by_x * aside - row_reach
                    from_row = tl.maximum(tl.ceil(from_row), 0.0)
                    from_column = column_by_y * ahead + column_by_x * aside - column_reach
                    from_column = tl.maximum(tl.ceil(from_column), 0.0)
                    above = a * from_row + b * from_column - ahead
                    before = c * from_row + d * from_column - aside
                    for square in range(high * wide):
                        base_row = square // wide * 3
                        base_column = square % wide * 3
                        for step in tl.static_range(9):
                            i, j = base_row + step // 3, base_column + step % 3
                            out_row = from_row.to(tl.int32) + i
                            out_column = from_column.to(tl.int32) + j
                            tall = tl.maximum(1 - tl.abs(above + (a * i + b * j)), 0.0)
                            broad = tl.maximum(1 - tl.abs(before + (c * i + d * j)), 0.0)
                            weight = tall * broad
                            is_read = is_there & (out_row >= 0) & (out_row < rows)
                            is_read = is_read & (out_column >= 0) & (out_column < columns)
                            pixel = out_row * columns + out_column
                            first += weight * tl.load(first_plane + pixel, is_read, 0.0)
                            is_second, is_third = is_read & has_second, is_read & has_third
                            second += weight * tl.load(second_plane + pixel, is_second, 0.0)
                            third += weight * tl.load(third_plane + pixel, is_third, 0.0)
    at = result + (image * channels + channel) * in_rows * in_columns + row * in_columns + column
    tl.store(at, first, is_there)
    tl.store(at + in_rows * in_columns, second, is_there & has_second)
    tl.store(at + 2 * in_rows * in_columns, third, is_there & has_third)
