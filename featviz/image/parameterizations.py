"""What a picture is made of: parameters -> images in (0, 1) and back; no networks, no steps."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import DoesNotFit, OutOfRange
from featviz.image.color import (
    RGB_FROM_DECORRELATED,
    decorrelated_from_rgb,
    images_from_planes,
)
from featviz.image.fourier import images_from_coefficients, is_decoded
from featviz.image.seeds import normal
from featviz.image.spectrum import hartley, pink_gain
from featviz.shapes import Images, Seeds

Color = Literal["decorrelated", "plain"]

Parameters = Float[Tensor, "batch channel row column"]
"""What the optimizer moves: one row a picture, as many numbers as the picture has."""

_DARKEST = 1 / 512  # under half a grey level of 8 bits, and its logit is finite


MOST_PX = 4096
"""Of a picture's side."""


@dataclass(frozen=True)
class Shape:
    """The size of one picture."""

    channels: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        """Raises OutOfRange when there would be no pixel, or more than MOST_PX on a side."""
        for name, most in (("channels", None), ("rows", MOST_PX), ("columns", MOST_PX)):
            value = getattr(self, name)
            if value < 1 or (most is not None and value > most):
                raise OutOfRange(name, value, low=1, high=most or "any", where="a picture")


class Parameterization(ABC):
    """How parameters, batch first, stand for images."""

    @abstractmethod
    def initial(self, seeds: Seeds, shape: Shape, *, dtype: torch.dtype) -> Parameters:
        """Random parameters on the seeds' device, a pure function of each row's seed."""

    @abstractmethod
    def decode(self, parameters: Parameters) -> Images:
        """The images in (0, 1) that the parameters stand for."""

    @abstractmethod
    def encode(self, images: Images) -> Parameters:
        """Parameters that decode to these images, clipped to [1/512, 1 - 1/512]."""


@dataclass(frozen=True)
class Pixel(Parameterization):
    """Each parameter is one pixel, before color and sigmoid."""

    sd: float = 0.01
    """Standard deviation of the initial image, after color and sigmoid; in (0, 0.5)."""
    color: Color = "decorrelated"

    def __post_init__(self) -> None:
        """Raises OutOfRange when no image has this standard deviation."""
        _check_sd(self.sd)

    def initial(self, seeds: Seeds, shape: Shape, *, dtype: torch.dtype) -> Parameters:
        """Independent normal pixels around grey."""
        return _initial(seeds, shape, dtype=dtype, sd=self.sd, color=self.color)

    def decode(self, parameters: Parameters) -> Images:
        """Color and sigmoid of the parameters."""
        return _images_from_planes(parameters, self.color)

    def encode(self, images: Images) -> Parameters:
        """The inverse of `decode`."""
        return _planes_from_images(images, self.color)


@dataclass(frozen=True)
class Fourier(Parameterization):
    """Each parameter is one Hartley coefficient, weighted so that a unit change is 1/f in space.

    With unit normal parameters the picture, before color and sigmoid, has a standard deviation
    of 1 at every size, so one step size serves them all.

    Source: Olah et al. 2017, "Feature Visualization", section "Preconditioning".
    Deviation: Hartley coefficients in place of half of a complex spectrum (see `hartley`).
    """

    sd: float = 0.05
    """Standard deviation of the initial image, after color and sigmoid; in (0, 0.5)."""
    color: Color = "decorrelated"
    decay_power: float = 1.0
    """The spectrum of unit parameters falls as frequency to the minus this; in [0, 4]."""

    def __post_init__(self) -> None:
        """Raises OutOfRange when no image has this standard deviation, or the decay is absurd."""
        _check_sd(self.sd)
        if not 0 <= self.decay_power <= 4:
            raise OutOfRange(
                "decay_power", self.decay_power, low=0, high=4, where="a Fourier image"
            )

    def initial(self, seeds: Seeds, shape: Shape, *, dtype: torch.dtype) -> Parameters:
        """Independent normal coefficients: 1/f noise around grey."""
        return _initial(seeds, shape, dtype=dtype, sd=self.sd, color=self.color)

    def decode(self, parameters: Parameters) -> Images:
        """Gain, transform, color and sigmoid; one transform for the whole batch."""
        gain = self._gain(parameters)
        if not is_decoded(parameters):
            return _images_from_planes(hartley(parameters * gain), self.color)
        _check_channels(parameters.shape[1], self.color)
        return images_from_coefficients(
            parameters, gain, RGB_FROM_DECORRELATED if self.color == "decorrelated" else None
        )

    def encode(self, images: Images) -> Parameters:
        """The inverse of `decode`."""
        return hartley(_planes_from_images(images, self.color)) / self._gain(images)

    def _gain(self, like: Tensor) -> Float[Tensor, "row column"]:
        rows, columns = like.shape[-2:]
        return _gain(rows, columns, self.decay_power, like.device, like.dtype)


def _initial(
    seeds: Seeds, shape: Shape, *, dtype: torch.dtype, sd: float, color: Color
) -> Parameters:
    _check_channels(shape.channels, color)
    count = shape.channels * shape.rows * shape.columns
    steps = torch.zeros_like(seeds)
    values = normal(seeds, steps, purpose="parameters", count=count, dtype=dtype)
    values = values.reshape(-1, shape.channels, shape.rows, shape.columns)
    return values * _sd_before_sigmoid(sd, color)


def _images_from_planes(planes: Parameters, color: Color) -> Images:
    _check_channels(planes.shape[1], color)
    return images_from_planes(planes, is_decorrelated=color == "decorrelated")


def _planes_from_images(images: Images, color: Color) -> Parameters:
    _check_channels(images.shape[1], color)
    planes = images.clamp(_DARKEST, 1 - _DARKEST).logit()
    return decorrelated_from_rgb(planes) if color == "decorrelated" else planes


def _check_channels(channels: int, color: Color) -> None:
    if color == "decorrelated" and channels != 3:
        raise DoesNotFit(
            "channels of an image with decorrelated color",
            got=channels,
            expected=3,
            hint='use color="plain"',
        )


def _check_sd(sd: float) -> None:
    if not 0 < sd < 0.5:
        raise OutOfRange("sd", sd, low="above 0", high="below 0.5", where="an image in (0, 1)")


def _gain(
    rows: int, columns: int, decay_power: float, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "{rows} {columns}"]:
    return _cached_gain(rows, columns, decay_power, device, dtype)


@lru_cache(maxsize=32)
def _cached_gain(
    rows: int, columns: int, decay_power: float, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "{rows} {columns}"]:
    """The gain where it is needed, so that no step copies it from the host."""
    with torch.inference_mode(mode=False):  # else training could not use what a preview made
        return pink_gain(rows, columns, decay_power=decay_power).to(device, dtype)


@lru_cache(maxsize=256)
def _sd_before_sigmoid(sd: float, color: Color) -> float:
    """Standard deviation of the parameters whose image has standard deviation `sd`.

    Every channel has mean 1/2, so variances of the channels average. Raises OutOfRange when only
    pictures of pure black and white would reach `sd`.
    """
    matrix = RGB_FROM_DECORRELATED if color == "decorrelated" else ((1.0,),)
    lengths = [math.hypot(*row) for row in matrix]

    def image_sd(scale: float) -> float:
        variances = [_sigmoid_variance(scale * length) for length in lengths]
        return math.sqrt(sum(variances) / len(variances))

    low, high = 0.0, 512.0
    if image_sd(high) < sd:
        raise OutOfRange(
            "sd", sd, low="above 0", high=round(image_sd(high), 4), where="a normal image"
        )
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if image_sd(middle) < sd else (low, middle)
    return high


def _sigmoid_variance(scale: float) -> float:
    """Variance of sigmoid(scale * z) for a standard normal z.

    By the trapezoidal rule on [-9, 9], whose error falls as exp(-2 pi (pi / scale) / step): below
    1e-15 up to a scale of 600, where Gauss-Hermite nodes would lie too far apart.
    """
    z = torch.linspace(-9, 9, 18001, dtype=torch.float64)
    weights = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * 1e-3
    return float((weights * (torch.tanh(scale * z / 2) / 2).square()).sum())
