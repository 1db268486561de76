"""Convolutions of each channel with a kernel of its own, and their gradient at the input."""

# pyright: reportCallIssue=false

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from featviz.kernels.layout import BACK, Window, by_pixel, like_by_pixel, pixel_stride, tile, tiles


def convolved(
    maps: Tensor, weight: Tensor, bias: Tensor | None, window: Window, size: tuple[int, int]
) -> Tensor:
    """The convolution; `weight` is (place in the window, channel), `size` the result's."""
    maps = by_pixel(maps)
    images, channels, rows, columns = maps.shape
    result = like_by_pixel(maps, *size)
    _convolve[tiles(images, size[0] * size[1], channels, BACK)](
        *(maps, weight, weight if bias is None else bias, result),
        *(maps.stride(0), pixel_stride(maps), channels, rows, columns, *size),
        *(bias is not None, *window.size, *window.stride, *window.padding, *tile(channels, BACK)),
    )
    return result


def convolved_gradient(
    gradient: Tensor, weight: Tensor, window: Window, size: tuple[int, int]
) -> Tensor:
    """The gradient at an input of `size`: of each pixel a sum over the windows that have it."""
    gradient = by_pixel(gradient)
    images, channels, rows, columns = gradient.shape
    result = like_by_pixel(gradient, *size)
    _back[tiles(images, size[0] * size[1], channels, BACK)](
        *(gradient, weight, result, gradient.stride(0), pixel_stride(gradient)),
        *(channels, *size, rows, columns),
        *(*window.size, *window.stride, *window.padding, *window.over, *tile(channels, BACK)),
    )
    return result


@triton.jit
@no_type_check
def _convolve(
    maps,
    weight,
    bias,
    result,
    image_stride,
    stride,
    channels,
    rows,
    columns,
    out_rows,
    out_columns,
    HAS_BIAS: tl.constexpr,
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
    is_channel = channel < channels
    is_there = (pixel < out_rows * out_columns) & is_channel
    top = (pixel // out_columns) * DOWN - ABOVE
    left = (pixel % out_columns) * RIGHT - LEFT
    total = tl.zeros((TALL, WIDE), tl.float32)
    for row in tl.static_range(HEIGHT):
        for column in tl.static_range(WIDTH):
            y, x = top + row, left + column
            is_inside = is_there & (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
            at = maps + image * image_stride + (y * columns + x) * stride + channel
            value = tl.load(at, mask=is_inside, other=0.0).to(tl.float32)
            at = weight + (row * WIDTH + column) * channels + channel
            total += value * tl.load(at, mask=is_channel, other=0.0).to(tl.float32)
    total = total.to(result.dtype.element_ty)
    if HAS_BIAS:  # after rounding, as a rectifier adds it
        shift = tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32)
        total = (total.to(tl.float32) + shift).to(result.dtype.element_ty)
    at = result + (image * out_rows * out_columns + pixel) * channels + channel
    tl.store(at, total, mask=is_there)


@triton.jit
@no_type_check
def _back(
    gradient,
    weight,
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
    is_channel = channel < channels
    is_there = (pixel < rows * columns) & is_channel
    row, column = pixel // columns + ABOVE, pixel % columns + LEFT
    total = tl.zeros((TALL, WIDE), tl.float32)
    for up in tl.static_range(OVER_ROWS):
        for back in tl.static_range(OVER_COLUMNS):
            y, x = row // DOWN - up, column // RIGHT - back
            is_inside = is_there & (y >= 0) & (y < out_rows) & (x >= 0) & (x < out_columns)
            if DOWN == 1 and RIGHT == 1:
                at = weight + (up * WIDTH + back) * channels + channel
                factor = tl.load(at, mask=is_channel, other=0.0)
            else:
                down, right = row - y * DOWN, column - x * RIGHT
                is_inside = is_inside & (down < HEIGHT) & (right < WIDTH)
                at = weight + (down * WIDTH + right) * channels + channel
                factor = tl.load(at, mask=is_inside, other=0.0)
            at = gradient + image * image_stride + (y * out_columns + x) * stride + channel
            coming = tl.load(at, mask=is_inside, other=0.0).to(tl.float32)
            total += coming * factor.to(tl.float32)
    at = result + (image * rows * columns + pixel) * channels + channel
    tl.store(at, total.to(result.dtype.element_ty), mask=is_there)
