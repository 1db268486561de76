"""Ways that a CPU takes for a convolution, there and back: what C kernels make of its weights.

Each has an equal in torch, which is what it is tested against.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featviz.engine.once import once
from featviz.engine.presumed import Presumed, stirs_by_row
from featviz.kernels.host.rectifying import NOTHING, Bounds, Rectifying
from featviz.kernels.layout import Window

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Direct:
    """Products with a matrix, of whatever size the kernel is; back for a stride of 1."""

    forward: Tensor
    backward: Tensor | None
    bias: Tensor | None
    channels: tuple[int, int]
    window: Window
    used: Window
    """The same without rows and columns of zeros at the ends, with which a kernel takes in a
    padding."""
    in_pairs: tuple[bool, bool]
    """There and back."""

    @classmethod
    def of(
        cls,
        weight: Tensor,
        bias: Tensor | None,
        window: Window,
        *,
        has_back: bool = True,
        in_pairs: bool = False,
    ) -> "Direct":
        """`in_pairs`: where the number of what each result sees is even."""
        from featviz.kernels.host.convolution import packed_back, packed_bias, packed_kernel

        weight, used = without_zeros(weight, window)
        outputs, inputs = weight.shape[:2]
        pairs = in_pairs and inputs % 2 == 0, in_pairs and outputs % 2 == 0
        return cls(
            packed_kernel(weight, in_pairs=pairs[0]),
            packed_back(weight, in_pairs=pairs[1]) if has_back else None,
            None if bias is None else packed_bias(bias),
            (inputs, outputs),
            *(window, used, pairs),
        )

    def forth(self, values: Tensor, rectifying: Rectifying) -> Tensor:
        from featviz.kernels.host.convolution import convolved

        shape = (self.channels[1], *self.window.output_size(*values.shape[2:]))
        told = self.used, shape, rectifying
        return convolved(values, self.forward, self.bias, *told, in_pairs=self.in_pairs[0])

    def back(self, gradient: Tensor, size: Size, rectifying: Rectifying) -> Tensor:
        from featviz.kernels.host.convolution import convolved_gradient

        assert self.backward is not None
        told = self.used, (self.channels[0], *size), rectifying
        return convolved_gradient(gradient, self.backward, *told, in_pairs=self.in_pairs[1])


@dataclass(frozen=True, eq=False)
class First:
    """Of few colors: back, all places of the kernel at once, for any stride."""

    there: Direct
    places: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, window: Window) -> "First":
        from featviz.kernels.host.stem import packed

        there = Direct.of(weight, bias, window, has_back=False)
        return cls(there, packed(without_zeros(weight, window)[0]))

    def forth(self, values: Tensor, rectifying: Rectifying) -> Tensor:
        return self.there.forth(values, rectifying)

    def back(self, gradient: Tensor, size: Size, rectifying: Rectifying) -> Tensor:
        from featviz.kernels.host.stem import gradient_at

        assert rectifying is NOTHING
        return gradient_at(gradient, self.places, self.there.used, self.there.channels[0], size)


@dataclass(frozen=True, eq=False)
class FewProducts:
    """3 x 3 kernels in a quarter of the products, 5 x 5 in about a third."""

    forward: Tensor
    backward: Tensor
    bias: Tensor | None
    channels: tuple[int, int]
    size: int

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> "FewProducts":
        from featviz.kernels.host.winograd import entered

        back = weight.transpose(0, 1).flip(2, 3)
        channels = weight.shape[1], weight.shape[0]
        return cls(entered(weight), entered(back), bias, channels, weight.shape[2])

    def forth(self, values: Tensor, rectifying: Rectifying) -> Tensor:
        from featviz.kernels.host.winograd import convolved

        own = {"outputs": self.channels[1], "size": self.size, "rectifying": rectifying}
        return convolved(values, self.forward, self.bias, **own)

    def back(self, gradient: Tensor, size: Size, rectifying: Rectifying) -> Tensor:  # noqa: ARG002
        from featviz.kernels.host.winograd import convolved

        own = {"outputs": self.channels[0], "size": self.size, "rectifying": rectifying}
        return convolved(gradient, self.backward, None, **own)


@dataclass(frozen=True, eq=False)
class Depthwise:
    """A kernel of its own for each channel; `weight` is (place, channel)."""

    weight: Tensor
    bias: Tensor | None
    window: Window
    used: Window
    """As of `Direct`."""

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, window: Window) -> "Depthwise":
        weight, used = without_zeros(weight, window)
        return cls(weight.flatten(1).T.contiguous(), bias, window, used)

    def forth(self, values: Tensor, rectifying: Rectifying) -> Tensor:
        from featviz.kernels.host.depthwise import convolved

        size = self.window.output_size(*values.shape[2:])
        return convolved(values, self.weight, self.bias, self.used, size, rectifying)

    def back(self, gradient: Tensor, size: Size, rectifying: Rectifying) -> Tensor:
        from featviz.kernels.host.depthwise import convolved_gradient

        return convolved_gradient(gradient, self.weight, self.used, size, rectifying)


Way = Direct | First | FewProducts | Depthwise
"""How a convolution is computed: `forth`, and `back` for the gradient at an input of a size. What
rectifiers beside it want is its kernels' work."""


def taken(
    way: Way,
    values: Tensor,
    held: Bounds | None,
    within: Bounds | None,
    presumed: Presumed | None = None,
) -> Tensor:
    """The convolution, `held` within bounds for the rectifier after it; the gradient passes where
    the values are `within` those of the rectifier before it, whose results they are, and `presumed`
    is told of it."""
    result = _Taken.apply(values, way, held, within, presumed)
    assert isinstance(result, Tensor)
    return result


class _Taken(torch.autograd.Function):
    """Its gradient knows nothing of what holds its result: that rectifier has its own."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        way: Way,
        held: Bounds | None,
        within: Bounds | None,
        presumed: Presumed | None,
    ) -> Tensor:
        ctx.way, ctx.within, ctx.size = way, within, tuple(values.shape[2:])
        ctx.presumed = presumed
        if within is not None:
            ctx.save_for_backward(values)
        return way.forth(values, NOTHING if held is None else Rectifying(held))

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        passing = NOTHING
        if ctx.within is not None:
            (values,) = ctx.saved_tensors
            passing = Rectifying(ctx.within, values)
        back = ctx.way.back(gradients[0], ctx.size, passing)
        if ctx.within is not None and ctx.presumed is not None:
            ctx.presumed.look(stirs_by_row(gradients[0]), stirs_by_row(back))
        return back, None, None, None, None


def without_zeros(weight: Tensor, window: Window) -> tuple[Tensor, Window]:
    """The kernel without rows and columns of zeros at its ends, as far as the padding goes, and the
    window that is left; all where there is nothing else."""
    is_used = (weight != 0).flatten(0, 1).any(dim=0)
    down, right = (
        _used(is_used.any(dim=axis), pad) for axis, pad in zip((1, 0), window.padding, strict=True)
    )
    padding = window.padding[0] - down.start, window.padding[1] - right.start
    left = Window((len(down), len(right)), window.stride, padding)
    return weight[:, :, down.start : down.stop, right.start : right.stop], left


def _used(is_used: Tensor, padding: int) -> range:
    """Places of one direction from the first that is used to the last; all where none is."""
    places = is_used.nonzero().flatten().tolist() or [0, len(is_used) - 1]
    return range(min(places[0], padding), places[-1] + 1)
