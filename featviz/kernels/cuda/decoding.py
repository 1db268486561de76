"""Between coefficients, half spectra, planes and colors, each way in as few passes as may be."""

# pyright: reportCallIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from featviz.kernels.layout import BLOCK, grid
from featviz.shapes import Matrix

_IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def takes(rows: int, columns: int) -> bool:  # noqa: ARG001 the other room's question
    """Whether planes of this size can be transformed: all."""
    return True


def images_from_coefficients(coefficients: Tensor, gain: Tensor, matrix: Matrix | None) -> Tensor:
    """The sigmoid of the Hartley transform of planes times the gain, mixed by the rows of a matrix
    before where there is one."""
    half = torch.fft.rfft2(times_gain(coefficients, gain))
    return images_from_half(half, coefficients.shape[-1], matrix)


def coefficients_gradient(
    gradient: Tensor, images: Tensor, gain: Tensor, matrix: Matrix | None
) -> Tensor:
    """The gradient at the coefficients of these images; `matrix` is the one of the way there."""
    half = torch.fft.rfft2(unsquashed(gradient, images, matrix))
    return coefficients_from_half(half, images.shape[-1], gain)


def times_gain(coefficients: Tensor, gain: Tensor) -> Tensor:
    """Planes times one plane, which is float32."""
    coefficients = coefficients.contiguous()
    result = torch.empty_like(coefficients)
    plane = gain.numel()
    _gain[(coefficients.numel() // plane, -(-plane // BLOCK))](
        coefficients, gain.contiguous(), result, plane, BLOCK
    )
    return result


def coefficients_from_half(half: Tensor, columns: int, gain: Tensor) -> Tensor:
    """The gain times the Hartley transform of planes whose rfft2 is given: real minus imaginary
    part of the full spectrum, over the root of its size."""
    half = torch.view_as_real(half.contiguous())
    *batch, rows, kept, _ = half.shape
    result = half.new_empty(*batch, rows, columns)
    planes, scale = result[..., 0, 0].numel(), (rows * columns) ** -0.5
    _coefficients[(planes, -(-rows * columns // BLOCK))](
        *(half, gain.contiguous(), result, scale, rows, columns, kept, BLOCK)
    )
    return result


def images_from_half(half: Tensor, columns: int, matrix: Matrix | None) -> Tensor:
    """`squashed` of the Hartley transform of planes whose rfft2 is given."""
    half = torch.view_as_real(half.contiguous())
    *batch, rows, kept, _ = half.shape
    result = half.new_empty(*batch, rows, columns)
    scale, images = (rows * columns) ** -0.5, result[..., 0, 0].numel()
    images //= 1 if matrix is None else 3
    _images[(images, -(-rows * columns // BLOCK))](
        *(half, result, scale, rows, columns, kept),
        *(*_weights(matrix), matrix is not None, BLOCK),
    )
    return result


def squashed(planes: Tensor, matrix: Matrix | None) -> Tensor:
    """1 / (1 + exp(-x)) of the planes, mixed by the rows of a matrix first where there is one."""
    planes = planes.contiguous()
    images = torch.empty_like(planes)
    return _colors(planes, planes, images, matrix, is_back=False)


def unsquashed(gradient: Tensor, images: Tensor, matrix: Matrix | None) -> Tensor:
    """The gradient at the planes; `matrix` is the one of the way there."""
    result = torch.empty_like(images)
    transposed = None if matrix is None else tuple(zip(*matrix, strict=True))
    return _colors(gradient.contiguous(), images, result, transposed, is_back=True)


def _colors(
    given: Tensor, images: Tensor, result: Tensor, matrix: Matrix | None, *, is_back: bool
) -> Tensor:
    if matrix is None:  # channels are alike, and as many as there may be
        batch, plane = 1, given.numel()
    else:
        batch, plane = given.shape[:-3].numel(), given.shape[-2:].numel()
    _color[grid(batch, plane)](
        *(given, images, result, plane, *_weights(matrix), matrix is not None, is_back, BLOCK)
    )
    return result


def _weights(matrix: Matrix | None) -> list[float]:
    return [value for row in matrix or _IDENTITY for value in row]


@triton.jit
@no_type_check
def _gain(coefficients, gain, result, plane, BLOCK: tl.constexpr):
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_there = place < plane
    at = tl.program_id(0).to(tl.int64) * plane + place
    value = tl.load(coefficients + at, mask=is_there, other=0.0)
    value *= tl.load(gain + place, mask=is_there, other=0.0)
    tl.store(result + at, value, mask=is_there)


@triton.jit
@no_type_check
def _place(at, rows, columns, kept):
    """Where in half a spectrum the numbers of the full one's places lie, and whether they are
    conjugates: F(-k) is that of F(k)."""
    row, column = at // columns, at % columns
    is_mirrored = column >= kept
    row = tl.where(is_mirrored & (row > 0), rows - row, row)
    column = tl.where(is_mirrored, columns - column, column)
    return 2 * (row * kept + column), is_mirrored


@triton.jit
@no_type_check
def _hartley(half, place, is_mirrored, is_there):
    real = tl.load(half + place, mask=is_there, other=0.0)
    imaginary = tl.load(half + place + 1, mask=is_there, other=0.0)
    return tl.where(is_mirrored, real + imaginary, real - imaginary)


@triton.jit
@no_type_check
def _coefficients(half, gain, result, scale, rows, columns, kept, BLOCK: tl.constexpr):
    plane = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    is_there = at < rows * columns
    place, is_mirrored = _place(at, rows, columns, kept)
    value = _hartley(half + 2 * plane * rows * kept, place, is_mirrored, is_there)
    value *= scale * tl.load(gain + at, mask=is_there, other=0.0)
    tl.store(result + plane * rows * columns + at, value, mask=is_there)


@triton.jit
@no_type_check
def _images(
    half,
    result,
    scale,
    rows,
    columns,
    kept,
    a,
    b,
    c,
    d,
    e,
    f,
    g,
    h,
    i,
    MIXES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    plane, size = rows * columns, 2 * rows * kept
    is_there = at < plane
    place, is_mirrored = _place(at, rows, columns, kept)
    if MIXES:
        half += image * 3 * size
        first = scale * _hartley(half, place, is_mirrored, is_there)
        second = scale * _hartley(half + size, place, is_mirrored, is_there)
        third = scale * _hartley(half + 2 * size, place, is_mirrored, is_there)
        red = first * a + second * b + third * c
        green = first * d + second * e + third * f
        blue = first * g + second * h + third * i
        at += image * 3 * plane
        tl.store(result + at, 1 / (1 + tl.exp(-red)), mask=is_there)
        tl.store(result + at + plane, 1 / (1 + tl.exp(-green)), mask=is_there)
        tl.store(result + at + 2 * plane, 1 / (1 + tl.exp(-blue)), mask=is_there)
    else:
        value = scale * _hartley(half + image * size, place, is_mirrored, is_there)
        tl.store(result + image * plane + at, 1 / (1 + tl.exp(-value)), mask=is_there)


@triton.jit
@no_type_check
def _color(
    given,
    images,
    result,
    plane,
    a,
    b,
    c,
    d,
    e,
    f,
    g,
    h,
    i,
    MIXES: tl.constexpr,
    IS_BACK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    is_there = place < plane
    if MIXES:
        at = tl.program_id(1).to(tl.int64) * 3 * plane + place
        first = tl.load(given + at, mask=is_there, other=0.0).to(tl.float32)
        second = tl.load(given + at + plane, mask=is_there, other=0.0).to(tl.float32)
        third = tl.load(given + at + 2 * plane, mask=is_there, other=0.0).to(tl.float32)
        if IS_BACK:
            red = tl.load(images + at, mask=is_there, other=0.0).to(tl.float32)
            green = tl.load(images + at + plane, mask=is_there, other=0.0).to(tl.float32)
            blue = tl.load(images + at + 2 * plane, mask=is_there, other=0.0).to(tl.float32)
            first *= (1 - red) * red
            second *= (1 - green) * green
            third *= (1 - blue) * blue
        red = first * a + second * b + third * c
        green = first * d + second * e + third * f
        blue = first * g + second * h + third * i
        if not IS_BACK:
            red, green = 1 / (1 + tl.exp(-red)), 1 / (1 + tl.exp(-green))
            blue = 1 / (1 + tl.exp(-blue))
        tl.store(result + at, red.to(result.dtype.element_ty), mask=is_there)
        tl.store(result + at + plane, green.to(result.dtype.element_ty), mask=is_there)
        tl.store(result + at + 2 * plane, blue.to(result.dtype.element_ty), mask=is_there)
    else:
        value = tl.load(given + place, mask=is_there, other=0.0).to(tl.float32)
        if IS_BACK:
            image = tl.load(images + place, mask=is_there, other=0.0).to(tl.float32)
            value *= (1 - image) * image
        else:
            value = 1 / (1 + tl.exp(-value))
        tl.store(result + place, value.to(result.dtype.element_ty), mask=is_there)
