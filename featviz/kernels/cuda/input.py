"""From pictures to what a network is given, and back: scaled, ordered, rounded, laid out."""

# pyright: reportCallIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from featviz.kernels.layout import by_pixel, pixel_stride, whole_pixels


def given(
    images: Tensor, scale: Tensor, offset: Tensor, dtype: torch.dtype, *, is_reversed: bool
) -> Tensor:
    """scale * value + offset per channel, in a network's dtype, by pixel; `is_reversed`: the last
    channel first."""
    images = images.contiguous()
    result = torch.empty_like(images, dtype=dtype, memory_format=torch.channels_last)
    count, channels, rows, columns = images.shape
    where, tall, wide = whole_pixels(count, rows * columns, channels)
    _give[where](
        *(images, scale, offset, result, rows * columns, channels, is_reversed, tall, wide)
    )
    return result


def taken(gradient: Tensor, scale: Tensor, dtype: torch.dtype, *, is_reversed: bool) -> Tensor:
    """The gradient at the pictures, in their dtype."""
    gradient = by_pixel(gradient)
    result = torch.empty(gradient.shape, dtype=dtype, device=gradient.device)
    count, channels, rows, columns = gradient.shape
    where, tall, wide = whole_pixels(count, rows * columns, channels)
    _take[where](
        *(gradient, scale, result, gradient.stride(0), pixel_stride(gradient)),
        *(rows * columns, channels, is_reversed, tall, wide),
    )
    return result


@triton.jit
@no_type_check
def _give(
    images,
    scale,
    offset,
    result,
    pixels,
    channels,
    REVERSED: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    channel = tl.arange(0, WIDE)[None, :]
    is_channel = channel < channels
    is_there = (pixel < pixels) & is_channel
    source = channels - 1 - channel if REVERSED else channel
    at = images + (image * channels + source) * pixels + pixel
    value = tl.load(at, mask=is_there, other=0.0)
    value = value * tl.load(scale + source, mask=is_channel, other=0.0)
    value += tl.load(offset + source, mask=is_channel, other=0.0)
    at = result + (image * pixels + pixel) * channels + channel
    tl.store(at, value.to(result.dtype.element_ty), mask=is_there)


@triton.jit
@no_type_check
def _take(
    gradient,
    scale,
    result,
    image_stride,
    stride,
    pixels,
    channels,
    REVERSED: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    channel = tl.arange(0, WIDE)[None, :]
    is_channel = channel < channels
    is_there = (pixel < pixels) & is_channel
    at = gradient + image * image_stride + pixel * stride + channel
    value = tl.load(at, mask=is_there, other=0.0).to(tl.float32)
    target = channels - 1 - channel if REVERSED else channel
    value = value * tl.load(scale + target, mask=is_channel, other=0.0)
    at = result + (image * channels + target) * pixels + pixel
    tl.store(at, value.to(result.dtype.element_ty), mask=is_there)
