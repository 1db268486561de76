"""Frequencies, the 1/f gain and the Hartley transform; what parameters mean is elsewhere."""

import math
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

Spectrum = Float64[Tensor, "row column"]
"""One number for each frequency of the full plane, numpy's fftfreq order, on the host."""

Planes = Float[Tensor, "*batch row column"]


def frequencies(rows: int, columns: int) -> Spectrum:
    """Distance from zero frequency, in cycles per pixel; the corner [0, 0] is the constant."""
    vertical = torch.fft.fftfreq(rows, dtype=torch.float64)
    horizontal = torch.fft.fftfreq(columns, dtype=torch.float64)
    return torch.hypot(vertical[:, None], horizontal[None, :])


def pink_gain(rows: int, columns: int, *, decay_power: float) -> Spectrum:
    """Gain that turns unit white noise into a 1/f**decay_power image of unit standard deviation.

    The constant term gets the gain of the lowest frequency on the longer side.

    Source: Olah et al. 2017, "Feature Visualization", section "Preconditioning";
    tensorflow/lucid v0.3.10, lucid/optvis/param/spatial.py.
    Deviation: Lucid multiplies by sqrt(rows * columns) / 4, so its standard deviation grows with
    the picture (1.72 at 64 px, 2.15 at 512 px); here it is 1 at every size, odd ones included.
    """
    gain = _lucid_shape(frequencies(rows, columns), rows, columns, decay_power)
    # Frequencies k and -k have the same gain and cas(t)**2 + cas(-t)**2 = 2, so every pixel's
    # variance is the mean squared gain, exactly.
    return gain / gain.square().mean().sqrt()


def lucid_gain_sd(rows: int, columns: int, decay_power: float = 1.0) -> float:
    """Pixel standard deviation, before color, that Lucid gives to unit normal parameters.

    Ours is 1, so a step size of Lucid's, in units of its parameters, has to be multiplied by
    this number to change our pictures as much.

    Source: tensorflow/lucid v0.3.10, lucid/optvis/param/spatial.py: a half spectrum with
    independent real and imaginary parts, 1/f gain times sqrt(rows * columns), inverse real
    transform, divided by 4. For an odd number of columns it inverts to one column more and
    crops. A single column it cannot do.
    """
    half = columns // 2 + 1 + columns % 2
    kept = frequencies(rows, columns)[:, :half]
    power = _lucid_shape(kept, rows, columns, decay_power).square().sum(dim=0)
    # The first and last column stand for themselves, the others for their mirror images too.
    variance = power[0] + power[-1] + 4 * power[1:-1].sum()
    pixels = rows * 2 * (half - 1)
    return math.sqrt(float(variance) * rows * columns) / pixels / 4


def hartley(planes: Planes) -> Planes:
    """Orthonormal two-dimensional Hartley transform of each plane; its own inverse.

    Real coefficients, exactly as many as pixels, and every one of them is alive: a half spectrum
    of complex numbers has imaginary parts that no pixel sees and real parts that count twice.

    Source: Bracewell 1983, "Discrete Hartley transform": the sum of x[n] * (cos + sin)(2 pi k n).
    """
    return _Hartley.apply(planes)


class _Hartley(torch.autograd.Function):
    """Symmetric and orthonormal: the gradient's transform is the transform itself."""

    @staticmethod
    def forward(ctx: Any, planes: Planes) -> Planes:  # noqa: ARG004 torch's signature
        columns = planes.shape[-1]
        half = torch.fft.rfft2(planes, norm="ortho")
        kept = columns // 2 + 1
        result = planes.new_empty(half.shape[:-1] + planes.shape[-1:])
        torch.sub(half.real, half.imag, out=result[..., :kept])
        # F(-k) is the conjugate of F(k), so the missing half is real + imaginary part at -k.
        mirrored = half[..., 1 : columns - kept + 1]
        missing = (mirrored.real + mirrored.imag).flip((-2, -1))
        result[..., 0, kept:] = missing[..., -1, :]
        result[..., 1:, kept:] = missing[..., :-1, :]
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Planes) -> Planes:  # noqa: ARG004 torch's signature
        return _Hartley.apply(gradients[0])


def _lucid_shape(frequencies: Spectrum, rows: int, columns: int, decay_power: float) -> Spectrum:
    return frequencies.clamp(min=1 / max(rows, columns)).pow(-decay_power)
