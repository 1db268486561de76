"""Spectral coefficients to images in kernels: gain, Hartley transform, color and sigmoid."""

from typing import Any

import torch
from torch import Tensor

from featviz.image.color import planes_gradient
from featviz.image.spectrum import Planes, hartley
from featviz.kernels import kernels
from featviz.shapes import Images, Matrix


def is_decoded(coefficients: Planes) -> bool:
    """Whether there are kernels for coefficients of this kind and size."""
    decoding = kernels("decoding", coefficients)
    return decoding is not None and decoding.takes(*coefficients.shape[-2:])


def images_from_coefficients(coefficients: Planes, gain: Tensor, matrix: Matrix | None) -> Images:
    """What `hartley` and `images_from_planes` make of coefficients times the gain, for those that
    `is_decoded`; `matrix`: of the colors, if they are mixed."""
    return _Decoded.apply(coefficients, gain, matrix)


class _Decoded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coefficients: Planes, gain: Tensor, matrix: Matrix | None) -> Images:
        ctx.decoding = kernels("decoding", coefficients)
        assert ctx.decoding is not None
        images = ctx.decoding.images_from_coefficients(coefficients, gain, matrix)
        ctx.save_for_backward(images, gain)
        ctx.matrix = matrix
        return images

    @staticmethod
    def backward(ctx: Any, *gradients: Images) -> tuple[Planes, None, None]:
        images, gain = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants the gradient's gradient
            return hartley(planes_gradient(gradients[0], images, ctx.matrix)) * gain, None, None
        back = ctx.decoding.coefficients_gradient(gradients[0], images, gain, ctx.matrix)
        return back, None, None
