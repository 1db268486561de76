"""Between coefficients, half spectra, planes and colors, each way in as few passes as may be."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from featviz.kernels.host.library import Argument, call
from featviz.shapes import Matrix

_PRIMES = (2, 3, 5, 7, 11, 13)
_SIDE_BY_SIDE = 8
"""Lines that are transformed together."""


def takes(rows: int, columns: int) -> bool:
    """Whether planes of this size can be transformed."""
    return all(_left_of(side) == 1 for side in (rows, columns))


def images_from_coefficients(coefficients: Tensor, gain: Tensor, matrix: Matrix | None) -> Tensor:
    """The sigmoid of the Hartley transform of planes times the gain, mixed by the rows of a matrix
    before where there is one."""
    coefficients = coefficients.contiguous()
    result = torch.empty_like(coefficients)
    call(
        *("images_from_coefficients", coefficients, gain.contiguous(), _weights(matrix)),
        *_transform(result),
    )
    return result


def coefficients_gradient(
    gradient: Tensor, images: Tensor, gain: Tensor, matrix: Matrix | None
) -> Tensor:
    """The gradient at the coefficients of these images; `matrix` is the one of the way there."""
    gradient, images = gradient.contiguous(), images.contiguous()
    result = torch.empty_like(images)
    call(
        *("coefficients_gradient", gradient, images, gain.contiguous(), _weights(matrix)),
        *_transform(result),
    )
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
    return None if matrix is None else torch.tensor(matrix, dtype=torch.float32, device="cpu")


def _transform(result: Tensor) -> tuple[Argument, ...]:
    """What a transform's kernels are told beside what they read: circles, room, where to, sizes."""
    planes, rows, columns = _planes(result)
    width = -(-columns // (2 * _SIDE_BY_SIDE)) * 2 * _SIDE_BY_SIDE + 2 * _SIDE_BY_SIDE
    height = -(-(rows // 2 + 1) // _SIDE_BY_SIDE) * _SIDE_BY_SIDE
    lines = 4 * _SIDE_BY_SIDE * (max(rows, columns) + _SIDE_BY_SIDE)
    pictures = -(-3 * rows * columns // _SIDE_BY_SIDE) * _SIDE_BY_SIDE
    share = 2 * height * width + lines + pictures
    room = result.new_empty((torch.get_num_threads(), share))
    return (_circle(rows), _circle(columns), room, result, planes, rows, columns, share)


@lru_cache(maxsize=64)
def _circle(size: int) -> Tensor:
    """exp(-2 pi i k / size) for each k, in float32: real and imaginary part."""
    angles = torch.arange(size, dtype=torch.float64, device="cpu") * (-2 * math.pi / size)
    return torch.stack([angles.cos(), angles.sin()], dim=1).float()


def _left_of(side: int) -> int:
    """What is no product of the primes."""
    for prime in _PRIMES:
        while side % prime == 0:
            side //= prime
    return side
