"""Decorrelated color <-> RGB, on values before the sigmoid; the spectrum is not in here."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.kernels import kernels
from featviz.shapes import Matrix

Planes = Float[Tensor, "*batch 3 row column"]
AnyPlanes = Float[Tensor, "*batch channel row column"]

# Square root of the correlation of ImageNet's RGB values. Source: tensorflow/lucid v0.3.10,
# lucid/optvis/param/color.py, "color_correlation_svd_sqrt".
_CORRELATION_ROOT: Matrix = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


def _column_norms(matrix: Matrix) -> list[float]:
    return [sum(value**2 for value in column) ** 0.5 for column in zip(*matrix, strict=True)]


def _negative(matrix: Matrix) -> Matrix:
    return tuple(tuple(-value for value in row) for row in matrix)


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


def images_from_planes(planes: AnyPlanes, *, is_decorrelated: bool) -> AnyPlanes:
    """The sigmoid of the planes, mixed to RGB first where they are decorrelated colors.

    Through exp: torch's own sigmoid rounds the last few values of a CPU tensor otherwise than the
    rest, so that a picture of odd size would depend on its slot; tanh takes three times as long.
    """
    return _Squash.apply(planes, RGB_FROM_DECORRELATED if is_decorrelated else None)


class _Squash(torch.autograd.Function):
    """1 / (1 + exp(-x)) of mixed planes; a Function, for fewer passes over the pictures."""

    @staticmethod
    def forward(ctx: Any, planes: AnyPlanes, matrix: Matrix | None) -> AnyPlanes:
        decoding = kernels("decoding", planes)
        if decoding is not None:
            images = decoding.squashed(planes, matrix)
        else:
            negative = planes.neg() if matrix is None else _mixed(planes, _negative(matrix))
            images = negative.exp_().add_(1).reciprocal_()
        ctx.save_for_backward(images)
        ctx.matrix = matrix
        return images

    @staticmethod
    def backward(ctx: Any, *gradients: AnyPlanes) -> tuple[AnyPlanes, None]:
        (images,) = ctx.saved_tensors
        decoding = None if torch.is_grad_enabled() else kernels("decoding", images)
        if decoding is not None:
            return decoding.unsquashed(gradients[0], images, ctx.matrix), None
        return planes_gradient(gradients[0], images, ctx.matrix), None


def planes_gradient(gradient: AnyPlanes, images: AnyPlanes, matrix: Matrix | None) -> AnyPlanes:
    """The gradient at what the sigmoid made these images of, mixed by the rows of a matrix."""
    through = torch.ops.aten.sigmoid_backward(gradient, images)
    return through if matrix is None else _Mix.apply(through, _transposed(matrix))


def _mixed(planes: Planes, matrix: Matrix) -> Planes:
    """Each plane of the result is a weighted sum of the three planes."""
    first, second, third = planes.unbind(-3)
    result = torch.empty_like(planes)
    for plane, row in zip(result.unbind(-3), matrix, strict=True):
        torch.mul(first, row[0], out=plane)
        plane.add_(second, alpha=row[1]).add_(third, alpha=row[2])
    return result


class _Mix(torch.autograd.Function):
    """A Function, because autograd of the written-out sum takes 2.3 times as long."""

    @staticmethod
    def forward(ctx: Any, planes: Planes, matrix: Matrix) -> Planes:
        ctx.matrix = matrix
        return _mixed(planes, matrix)

    @staticmethod
    def backward(ctx: Any, *gradients: Planes) -> tuple[Planes, None]:
        return _Mix.apply(gradients[0], _transposed(ctx.matrix)), None
