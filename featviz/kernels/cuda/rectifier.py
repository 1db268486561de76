"""A rectifier that adds a bias first, and its gradient, redirected where a row's is all zero."""

# pyright: reportCallIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from featviz.kernels.layout import (
    BACK,
    FORTH,
    by_pixel,
    is_by_pixel,
    like_by_pixel,
    pixel_stride,
    tile,
    tiles,
)
from featviz.shapes import Flags

_SHARES = 8
"""Programs that redirect a picture's gradient; most pictures need none of them."""


def rectify_(values: Tensor, bias: Tensor, bounds: tuple[float, float]) -> None:
    """Adds to maps, which are `is_by_pixel`, a channel's bias and holds them between bounds.

    The sum is rounded to the values' dtype before it is held.
    """
    assert is_by_pixel(values)
    assert bias.is_contiguous()
    images, channels, rows, columns = values.shape
    _hold[tiles(images, rows * columns, channels, FORTH)](
        *(values, bias, values.stride(0), pixel_stride(values), rows * columns, channels),
        *(*bounds, *tile(channels, FORTH)),
    )


def rectified_gradient(
    gradient: Tensor,
    result: Tensor,
    bounds: tuple[float, float],
    rows: Flags | None,
    *,
    overwrites: bool,
) -> Tensor:
    """The gradient, but 0 where the result is at a bound (and not a NaN).

    In `rows` where that is 0 everywhere it passes, except where it points out of bounds (see
    `featviz.engine.redirect`). `overwrites`: into the gradient itself, where its order in memory
    is the result's.
    """
    shape = result.shape
    if result.ndim != 4 or result[0, 0].numel() == 1:  # as pixels of one channel
        result, gradient = (
            each.reshape(len(each), 1, -1, 1).contiguous() for each in (result, gradient)
        )
    result, gradient = by_pixel(result), by_pixel(gradient)
    images, channels, height, width = result.shape
    is_mine = overwrites and rows is None and gradient.stride() == result.stride()
    passed = gradient if is_mine else like_by_pixel(result, height, width)
    stirs = result.new_zeros(images, dtype=torch.int32)
    maps = gradient, result, passed, stirs
    strides = [each for one in maps[:3] for each in (one.stride(0), pixel_stride(one))]
    sizes = *strides, height * width, channels
    where, shape_of = tiles(images, height * width, channels, BACK), tile(channels, BACK)
    _rectify[where](*maps, *sizes, *bounds, rows is not None, *shape_of)
    if rows is not None:
        _redirect[(_SHARES, images)](*maps, rows, *sizes, *bounds, *shape_of)
    return passed.reshape(shape)


@triton.jit
@no_type_check
def _hold(
    values,
    bias,
    image_stride,
    stride,
    pixels,
    channels,
    low,
    high,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    channel = tl.program_id(1) * WIDE + tl.arange(0, WIDE)[None, :]
    is_there = (pixel < pixels) & (channel < channels)
    at = values + image * image_stride + pixel * stride + channel
    shift = tl.load(bias + channel, mask=channel < channels, other=0.0).to(tl.float32)
    value = tl.load(at, mask=is_there, other=0.0)
    value = (value.to(tl.float32) + shift).to(value.dtype).to(tl.float32)
    held = tl.where(value < low, low, tl.where(value > high, high, value))  # NaN stays
    tl.store(at, held.to(values.dtype.element_ty), mask=is_there)


@triton.jit
@no_type_check
def _rectify(
    gradient,
    result,
    passed,
    stirs,
    gradient_image,
    gradient_stride,
    result_image,
    result_stride,
    passed_image,
    passed_stride,
    pixels,
    channels,
    low,
    high,
    LOOKS: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    channel = tl.program_id(1) * WIDE + tl.arange(0, WIDE)[None, :]
    is_there = (pixel < pixels) & (channel < channels)
    at = result + image * result_image + pixel * result_stride + channel
    value = tl.load(at, mask=is_there, other=0.0).to(tl.float32)
    at = gradient + image * gradient_image + pixel * gradient_stride + channel
    coming = tl.load(at, mask=is_there, other=0.0)
    going = tl.where((value <= low) | (value >= high), 0.0, coming)
    at = passed + image * passed_image + pixel * passed_stride + channel
    tl.store(at, going, mask=is_there)
    if LOOKS:
        some = tl.max(tl.max((going != 0).to(tl.int32), axis=1), axis=0)
        tl.store(stirs + image, some, mask=some > 0)


@triton.jit
@no_type_check
def _redirect(
    gradient,
    result,
    passed,
    stirs,
    rows,
    gradient_image,
    gradient_stride,
    result_image,
    result_stride,
    passed_image,
    passed_stride,
    pixels,
    channels,
    low,
    high,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    is_blocked = (tl.load(stirs + image) == 0) & tl.load(rows + image).to(tl.int1)
    if is_blocked:
        across = (channels + WIDE - 1) // WIDE
        blocks = across * ((pixels + TALL - 1) // TALL)
        for block in range(tl.program_id(0), blocks, tl.num_programs(0)):
            pixel = block // across * TALL + tl.arange(0, TALL)[:, None]
            channel = block % across * WIDE + tl.arange(0, WIDE)[None, :]
            is_there = (pixel < pixels) & (channel < channels)
            at = result + image * result_image + pixel * result_stride + channel
            value = tl.load(at, mask=is_there, other=0.0).to(tl.float32)
            at = gradient + image * gradient_image + pixel * gradient_stride + channel
            coming = tl.load(at, mask=is_there, other=0.0)
            is_outward = ((value <= low) & (coming < 0)) | ((value >= high) & (coming > 0))
            at = passed + image * passed_image + pixel * passed_stride + channel
            tl.store(at, tl.where(is_outward, 0.0, coming), mask=is_there)
