"""Between coefficients, half spectra, planes and colors, each way in as few passes as may be."""

from functools import lru_cache

import torch
from torch import Tensor

from featviz.kernels.host.library import call
from featviz.shapes import Matrix


def times_gain(coefficients: Tensor, gain: Tensor) -> Tensor:
    """Planes times one plane."""
    coefficients = coefficients.contiguous()
    result, plane = torch.empty_like(coefficients), gain.numel()
    call(
        *("times_gain", coefficients, gain.contiguous(), result),
        *(coefficients.numel() // plane, plane),
    )
    return result


def coefficients_from_half(half: Tensor, columns: int, gain: Tensor) -> Tensor:
    """The gain times the Hartley transform of planes whose rfft2 is given: real minus imaginary
    part of the full spectrum, over the root of its size."""
    half = half.contiguous()
    result = gain.new_empty((*half.shape[:-1], columns))
    call("coefficients_from_half", half, gain.contiguous(), result, *_planes(result))
    return result


def images_from_half(half: Tensor, columns: int, matrix: Matrix | None) -> Tensor:
    """The sigmoid of the Hartley transform of planes whose rfft2 is given, mixed by the rows of a
    matrix before where there is one."""
    half = half.contiguous()
    result = torch.empty((*half.shape[:-1], columns), dtype=half.real.dtype)
    call("images_from_half", half, _weights(matrix), result, *_planes(result))
    return result


def squashed(planes: Tensor, matrix: Matrix | None) -> Tensor:
    """1 / (1 + exp(-x)) of the planes, mixed by the rows of a matrix first where there is one."""
    planes = planes.contiguous()
    result = torch.empty_like(planes)
    number, rows, columns = _planes(planes)
    call("squashed", planes, _weights(matrix), result, number, rows * columns)
    return result


def unsquashed(gradient: Tensor, images: Tensor, matrix: Matrix | None) -> Tensor:
    """The gradient at the planes; `matrix` is the one of the way there."""
    gradient, images = gradient.contiguous(), images.contiguous()
    result = torch.empty_like(images)
    planes, rows, columns = _planes(result)
    call("unsquashed", gradient, images, _weights(matrix), result, planes, rows * columns)
    return result


def _planes(values: Tensor) -> tuple[int, int, int]:
    return values.shape[:-2].numel(), values.shape[-2], values.shape[-1]


@lru_cache(maxsize=8)
def _weights(matrix: Matrix | None) -> Tensor | None:
    return None if matrix is None else torch.tensor(matrix, dtype=torch.float32)
