"""Decorrelated color <-> RGB, on values before the sigmoid; the spectrum is not in here."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Planes = Float[Tensor, "*batch 3 row column"]
Matrix = tuple[tuple[float, ...], ...]

# Square root of the correlation of ImageNet's RGB values. Source: tensorflow/lucid v0.3.10,
# lucid/optvis/param/color.py, "color_correlation_svd_sqrt".
_CORRELATION_ROOT: Matrix = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


def _column_norms(matrix: Matrix) -> list[float]:
    return [sum(value**2 for value in column) ** 0.5 for column in zip(*matrix, strict=True)]


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _inverted(matrix: Matrix) -> Matrix:
    inverse = torch.linalg.inv(torch.tensor(matrix, dtype=torch.float64))
    return tuple(tuple(row) for row in inverse.tolist())


RGB_FROM_DECORRELATED: Matrix = tuple(
    tuple(value / max(_column_norms(_CORRELATION_ROOT)) for value in row)
    for row in _CORRELATION_ROOT
)
"""Row = R, G, B; column = decorrelated channel. Divided by the largest column norm, as Lucid does,
so the first decorrelated channel (close to grey) keeps its length."""

_DECORRELATED_FROM_RGB = _inverted(RGB_FROM_DECORRELATED)


def rgb_from_decorrelated(planes: Planes) -> Planes:
    """RGB before the sigmoid, from channels in which natural colors are uncorrelated.

    Each pixel is the same sum of three products, in the same order, whatever the batch: a matrix
    product leaves order and precision to the device (TF32 would cost three decimal digits).
    """
    return _Mix.apply(planes, RGB_FROM_DECORRELATED)


def decorrelated_from_rgb(planes: Planes) -> Planes:
    """The inverse of `rgb_from_decorrelated`."""
    return _Mix.apply(planes, _DECORRELATED_FROM_RGB)


class _Mix(torch.autograd.Function):
    """Each plane of the result is a weighted sum of the three planes.

    A Function, because autograd of the written-out sum takes 2.3 times as long.
    """

    @staticmethod
    def forward(ctx: Any, planes: Planes, matrix: Matrix) -> Planes:
        ctx.matrix = matrix
        first, second, third = planes.unbind(-3)
        return torch.stack(
            [
                first.mul(row[0]).add_(second, alpha=row[1]).add_(third, alpha=row[2])
                for row in matrix
            ],
            dim=-3,
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Planes) -> tuple[Planes, None]:
        return _Mix.apply(gradients[0], _transposed(ctx.matrix)), None
