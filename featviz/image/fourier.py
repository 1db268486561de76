"""Spectral coefficients to images in CUDA kernels: gain, Hartley transform, color and sigmoid."""

from typing import Any

import torch
from torch import Tensor

from featviz.image.spectrum import Planes
from featviz.shapes import Images, Matrix


def images_from_coefficients(coefficients: Planes, gain: Tensor, matrix: Matrix | None) -> Images:
    """What `hartley` and `images_from_planes` make of coefficients times the gain, for those that
    `featviz.kernels.usable` admits; `matrix`: of the colors, if they are mixed."""
    return _Decoded.apply(coefficients, gain, matrix)


class _Decoded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, coefficients: Planes, gain: Tensor, matrix: Matrix | None) -> Images:
        from featviz.kernels.decoding import images_from_half, times_gain

        half = torch.fft.rfft2(times_gain(coefficients, gain))
        images = images_from_half(half, coefficients.shape[-1], matrix)
        ctx.save_for_backward(images, gain)
        ctx.matrix = matrix
        return images

    @staticmethod
    def backward(ctx: Any, *gradients: Images) -> tuple[Planes, None, None]:
        from featviz.kernels.decoding import coefficients_from_half, unsquashed

        images, gain = ctx.saved_tensors
        half = torch.fft.rfft2(unsquashed(gradients[0], images, ctx.matrix))
        return coefficients_from_half(half, images.shape[-1], gain), None, None
