"""Local response normalization and its gradient, a pixel's channels in one program."""

# pyright: reportCallIssue=false

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from featviz.kernels.layout import by_pixel, like_by_pixel, pixel_stride, whole_pixels


def normalized(maps: Tensor, size: int, weight: float, beta: float, k: float) -> tuple[Tensor, ...]:
    """x * base ** -beta and base ** -(beta + 1), where base is k + weight * the sum of x ** 2 over
    `size` channels around each."""
    maps = by_pixel(maps)
    images, channels, rows, columns = maps.shape
    result, slopes = like_by_pixel(maps, rows, columns), like_by_pixel(maps, rows, columns)
    where, tall, wide = whole_pixels(images, rows * columns, channels)
    _normalize[where](
        *(maps, result, slopes, maps.stride(0), pixel_stride(maps), rows * columns, channels),
        *(weight, beta, k, size, tall, wide),
    )
    return result, slopes


def normalized_gradient(
    gradient: Tensor, maps: Tensor, slopes: Tensor, size: int, weight: float, beta: float
) -> Tensor:
    """The gradient at the maps; `slopes` is the second result of `normalized`, which also tells
    the base."""
    gradient, maps = by_pixel(gradient), by_pixel(maps)
    images, channels, rows, columns = maps.shape
    result = like_by_pixel(maps, rows, columns)
    where, tall, wide = whole_pixels(images, rows * columns, channels)
    _back[where](
        *(gradient, maps, slopes, result, gradient.stride(0), pixel_stride(gradient)),
        *(maps.stride(0), pixel_stride(maps), rows * columns, channels),
        *(weight, beta, size, tall, wide),
    )
    return result


@triton.jit
@no_type_check
def _normalize(
    maps,
    result,
    slopes,
    image_stride,
    stride,
    pixels,
    channels,
    weight,
    beta,
    k,
    SIZE: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    channel = tl.arange(0, WIDE)[None, :]
    is_there = (pixel < pixels) & (channel < channels)
    start = maps + image * image_stride + pixel * stride
    value = tl.load(start + channel, mask=is_there, other=0.0).to(tl.float32)
    total = tl.zeros((TALL, WIDE), tl.float32)
    for step in tl.static_range(SIZE):
        near = channel + step - SIZE // 2
        is_inside = is_there & (near >= 0) & (near < channels)
        beside = tl.load(start + near, mask=is_inside, other=0.0).to(tl.float32)
        total += beside * beside
    base = k + weight * total
    slope = tl.exp2(-(beta + 1) * tl.log2(base))
    at = (image * pixels + pixel) * channels + channel
    tl.store(result + at, (value * slope * base).to(result.dtype.element_ty), mask=is_there)
    tl.store(slopes + at, slope.to(slopes.dtype.element_ty), mask=is_there)


@triton.jit
@no_type_check
def _back(
    gradient,
    maps,
    slopes,
    result,
    gradient_image,
    gradient_stride,
    image_stride,
    stride,
    pixels,
    channels,
    weight,
    beta,
    SIZE: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * TALL + tl.arange(0, TALL)[:, None]
    channel = tl.arange(0, WIDE)[None, :]
    is_there = (pixel < pixels) & (channel < channels)
    start = maps + image * image_stride + pixel * stride
    from_above = gradient + image * gradient_image + pixel * gradient_stride
    dense = (image * pixels + pixel) * channels
    value = tl.load(start + channel, mask=is_there, other=0.0).to(tl.float32)
    coming = tl.load(from_above + channel, mask=is_there, other=0.0).to(tl.float32)
    slope = tl.load(slopes + dense + channel, mask=is_there, other=1.0).to(tl.float32)
    direct = coming * tl.exp2(tl.log2(slope) * (beta / (beta + 1)))
    through = coming * value * slope
    for step in tl.static_range(SIZE):
        if step != SIZE // 2:
            reader = channel - step + SIZE // 2  # whose window has this channel
            is_inside = is_there & (reader >= 0) & (reader < channels)
            coming = tl.load(from_above + reader, mask=is_inside, other=0.0).to(tl.float32)
            beside = tl.load(start + reader, mask=is_inside, other=0.0).to(tl.float32)
            slope = tl.load(slopes + dense + reader, mask=is_inside, other=0.0).to(tl.float32)
            through += coming * beside * slope
    going = direct - 2 * beta * weight * value * through
    tl.store(result + dense + channel, going.to(result.dtype.element_ty), mask=is_there)
