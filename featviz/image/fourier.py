"""Spectral coefficients to images in kernels: gain, Hartley transform, color and sigmoid."""

from typing import Any

import torch
from torch import Tensor

from featviz.image.spectrum import Planes
from featviz.kernels import kernels
from featviz.shapes import Images, Matrix


def images_from_coefficients(coefficients: Planes, gain: Tensor, matrix: Matrix | None) -> Images:
    """What `hartley` and `images_from_planes` make of coefficients times the gain, for those that
    `featviz.kernels` has kernels for; `matrix`: of the colors, if they are mixed."""
    return _Decoded.apply(coefficients, gain, matrix)


class _Decoded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coefficients: Planes, gain: Tensor, matrix: Matrix | None) -> Images:
        ctx.decoding = decoding = kernels("decoding", coefficients)
        assert decoding is not None
        half = torch.fft.rfft2(decoding.times_gain(coefficients, gain))
        images = decoding.images_from_half(half, coefficients.shape[-1], matrix)
        ctx.save_for_backward(images, gain)
        ctx.matrix = matrix
        return images

    @staticmethod
    def backward(ctx: Any, *gradients: Images) -> tuple[Planes, None, None]:
        images, gain = ctx.saved_tensors
        decoding = ctx.decoding
        half = torch.fft.rfft2(decoding.unsquashed(gradients[0], images, ctx.matrix))
        return decoding.coefficients_from_half(half, images.shape[-1], gain), None, None
