"""From pictures in [0, 1] to what a network was trained on."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featviz.errors import DoesNotFit, OutOfRange
from featviz.kernels import kernels
from featviz.shapes import Images


@dataclass(frozen=True)
class Preprocessing:
    """Value range, mean and standard deviation of a network's input, and the size it was made for.

    A picture value v in [0, 1] becomes (low + v * (high - low) - mean) / sd, per channel;
    `mean` and `sd` are in the units of `value_range`. `is_bgr`: the channels are read last first,
    and `mean` and `sd` are in that reversed order too. `is_fixed_size`: no other size runs.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    sd: tuple[float, ...] = (0.5, 0.5, 0.5)
    rows: int = 224
    columns: int = 224
    value_range: tuple[float, float] = (0.0, 1.0)
    is_bgr: bool = False
    is_fixed_size: bool = False

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.sd) or not self.mean:
            raise DoesNotFit(
                "a preprocessing",
                got=f"{len(self.mean)} means and {len(self.sd)} sds",
                expected="one of each per channel",
            )
        for value in self.sd:
            if not (math.isfinite(value) and value > 0):
                raise OutOfRange(
                    "sd", value, low="above 0", high="any", where="a network's preprocessing"
                )

    @property
    def channels(self) -> int:
        return len(self.mean)

    def scale_and_offset(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of input = scale * value + offset, per channel in the picture's own order."""
        low, high = self.value_range
        scale = tuple((high - low) / sd for sd in self.sd)
        offset = tuple((low - mean) / sd for mean, sd in zip(self.mean, self.sd, strict=True))
        return (scale[::-1], offset[::-1]) if self.is_bgr else (scale, offset)

    def constants(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and offset as (1, channel, 1, 1) tensors of the device and dtype of `like`."""
        scale, offset = self.scale_and_offset()
        shape = (1, self.channels, 1, 1)
        options = {"dtype": like.dtype, "device": like.device}
        return torch.tensor(scale, **options).view(shape), torch.tensor(offset, **options).view(
            shape
        )

    def apply(self, images: Images, constants: tuple[Tensor, Tensor]) -> Tensor:
        """The network's input for pictures in [0, 1]; `constants` from `constants`."""
        scale, offset = constants
        seen = torch.addcmul(offset, images, scale)
        return seen.flip(1) if self.is_bgr else seen


class Given(torch.autograd.Function):
    """`Preprocessing.apply`, rounding and layout in one kernel, each way."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Images,
        constants: tuple[Tensor, Tensor],
        dtype: torch.dtype,
        is_reversed: bool,  # noqa: FBT001
    ) -> Tensor:
        ctx.scale, ctx.dtype, ctx.is_reversed = constants[0], images.dtype, is_reversed
        ctx.input = kernels("input", images)
        assert ctx.input is not None
        return ctx.input.given(images, *constants, dtype, is_reversed=is_reversed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Images, None, None, None]:
        (gradient,) = gradients
        if torch.is_grad_enabled():  # somebody wants the gradient's gradient
            seen = gradient.to(ctx.dtype)
            back = (seen.flip(1) if ctx.is_reversed else seen) * ctx.scale
        else:
            back = ctx.input.taken(gradient, ctx.scale, ctx.dtype, is_reversed=ctx.is_reversed)
        return back, None, None, None
