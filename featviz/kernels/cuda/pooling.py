"""Maximum over windows, remembering in a byte where in the window it was."""

# pyright: reportCallIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from featviz.kernels.layout import (
    BACK,
    FORTH,
    Window,
    by_pixel,
    like_by_pixel,
    pixel_stride,
    tile,
    tiles,
)


def pooled(maps: Tensor, window: Window, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The largest value of each window, and its place in it; `size` is the result's.

    As torch's max_pool2d: the first of equals, NaN before all numbers.
    """
    maps = by_pixel(maps)
    images, channels, rows, columns = maps.shape
    result = like_by_pixel(maps, *size)
    places = torch.empty_like(result, dtype=torch.uint8)
    _pool[tiles(images, size[0] * size[1], channels, FORTH)](
        *(maps, result, places, maps.stride(0), pixel_stride(maps)),
        *(channels, rows, columns, *size),
        *(*window.size, *window.stride, *window.padding, *tile(channels, FORTH)),
    )
    return result, places


def unpooled(gradient: Tensor, places: Tensor, window: Window, size: tuple[int, int]) -> Tensor:
    """The gradient at the input, whose rows and columns are `size`: sums over windows in order."""
    gradient = by_pixel(gradient)
    images, channels, rows, columns = gradient.shape
    result = like_by_pixel(gradient, *size)
    _unpool[tiles(images, size[0] * size[1], channels, BACK)](
        *(gradient, places, result, gradient.stride(0), pixel_stride(gradient)),
        *(channels, *size, rows, columns),
        *(*window.size, *window.stride, *window.padding, *window.over, *tile(channels, BACK)),
    )
    return result


@triton.jit
@no_type_check
def _pool(
    maps,
    result,
    places,
    image_stride,
    stride,
    channels,
    rows,
    columns,
    out_rows,
    out_columns,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    DOWN: tl.constexpr,
    RIGHT: tl.constexpr,
    ABOVE: tl.constexpr,
    LEFT: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    channel = tl.program_id(1) * WIDE + tl.arange(0, WIDE)[None, :]
    is_there = (pixel < out_rows * out_columns) & (channel < channels)
    top = (pixel // out_columns) * DOWN - ABOVE
    left = (pixel % out_columns) * RIGHT - LEFT
    best = tl.full((TALL, WIDE), float("-inf"), maps.dtype.element_ty)
    first = tl.maximum(-top, 0) * WIDTH + tl.maximum(-left, 0)  # inside
    place = tl.zeros((TALL, WIDE), tl.int32) + first
    for row in tl.static_range(HEIGHT):
        for column in tl.static_range(WIDTH):
            y, x = top + row, left + column
            is_inside = is_there & (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            offset = image * image_stride + (y * columns + x) * stride + channel
            value = tl.load(maps + offset, mask=is_inside, other=float("-inf"))
            is_more = is_inside & ((value > best) | (value != value))
            best = tl.where(is_more, value, best)
            place = tl.where(is_more, row * WIDTH + column, place)
    at = (image * out_rows * out_columns + pixel) * channels + channel
    tl.store(result + at, best, mask=is_there)
    tl.store(places + at, place.to(tl.uint8), mask=is_there)


@triton.jit
@no_type_check
def _unpool(
    gradient,
    places,
    result,
    image_stride,
    stride,
    channels,
    rows,
    columns,
    out_rows,
    out_columns,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    DOWN: tl.constexpr,
    RIGHT: tl.constexpr,
    ABOVE: tl.constexpr,
    LEFT: tl.constexpr,
    OVER_ROWS: tl.constexpr,
    OVER_COLUMNS: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    channel = tl.program_id(1) * WIDE + tl.arange(0, WIDE)[None, :]
    is_there = (pixel < rows * columns) & (channel < channels)
    row, column = pixel // columns + ABOVE, pixel % columns + LEFT
    total = tl.zeros((TALL, WIDE), tl.float32)
    for up in tl.static_range(OVER_ROWS):
        for back in tl.static_range(OVER_COLUMNS):
            y, x = row // DOWN - up, column // RIGHT - back
            down, right = row - y * DOWN, column - x * RIGHT
            is_inside = is_there & (y >= 0) & (y < out_rows) & (x >= 0) & (x < out_columns)
            is_inside = is_inside & (down < HEIGHT) & (right < WIDTH)
            reader = y * out_columns + x
            at = (image * out_rows * out_columns + reader) * channels + channel
            chosen = tl.load(places + at, mask=is_inside, other=0).to(tl.int32)
            offset = image * image_stride + reader * stride + channel
            value = tl.load(gradient + offset, mask=is_inside, other=0.0).to(tl.float32)
            total += tl.where(is_inside & (chosen == down * WIDTH + right), value, 0.0)
    at = (image * rows * columns + pixel) * channels + channel
    tl.store(result + at, total.to(result.dtype.element_ty), mask=is_there)
