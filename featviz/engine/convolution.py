"""Convolutions of frozen networks, with what stands around them taken in, by the quickest way.

No weight wants a gradient here, and statistics never change.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from featviz.engine.once import once
from featviz.engine.presumed import Presumed
from featviz.engine.stem import Folded, Unfolded
from featviz.engine.ways import Depthwise, Direct, FewProducts, First, Way, taken
from featviz.kernels.cuda import usable
from featviz.kernels.host import runs_on
from featviz.kernels.host.rectifying import Bounds
from featviz.kernels.host.winograd import PRODUCTS, TILES
from featviz.kernels.layout import MOST_PLACES, PANEL, Window

_FEW_CHANNELS = 4
"""Of a stem's input: colors."""
_LARGEST_FIRST = 16
"""Rows and columns of a stem's kernel, which the kernel keeps as many rows of the pictures for."""
_QUICK = ((3, 3), (5, 5))
"""Kernels for which cuDNN has a quick depthwise convolution, but no quick gradient."""
_QUICK_OUTPUTS = 128
"""Multiples of it are quick: of 64 inputs a 3x3 kernel makes 256 in half the time of 192."""
_MOST_ADDED = 1
"""Rows or columns of zeros by which a kernel may grow to take in a padding."""


class Beside(NamedTuple):
    """A rectifier beside a convolution."""

    bounds: Bounds
    between: tuple[int, ...]
    """The operations whose results the two of them keep to themselves."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """BatchNorm in eval mode: times `scale`, plus `shift`, per channel."""

    scale: Tensor
    shift: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (values.ndim - 2))
        return torch.addcmul(self.shift.view(shape), values, self.scale.view(shape))


@dataclass(frozen=True, eq=False)
class Convolution:
    """A two-dimensional convolution with everything but its input decided."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    held: Beside | None = None
    """The rectifier after it, with which it may share its work."""
    within: Beside | None = None
    """The rectifier before it, whose result nobody else reads."""

    def __call__(
        self,
        values: Tensor,
        *,
        holds: bool = False,
        passes: bool = False,
        presumed: Presumed | None = None,
        in_pairs: bool = False,
    ) -> Tensor:
        """`holds`: it does its part for the rectifier after it (`can_hold`); `passes`: the gradient
        passes where the rectifier before it lets it (`can_pass`), which `presumed` is told of;
        `in_pairs`: where its way is `direct`, it is `paired` instead."""
        way = self._way(values)
        if in_pairs and isinstance(way, Direct):
            way = self.paired
        if way is not None:
            held = None if self.held is None or not holds else self.held.bounds
            within = None if self.within is None or not passes else self.within.bounds
            return taken(way, values, held, within, presumed)
        if values.ndim != 4:
            return self.plain(values)
        if holds and self.leaves_bias:
            return self._without_bias(values)
        if self._way_back(values) is None:
            return self.applied(values)
        result = _Stem.apply(values, self)
        assert isinstance(result, Tensor)
        return result

    def is_like(self, other: "Convolution") -> bool:
        """Whether they are the same to the bit."""
        pairs = ((self.weight, other.weight), (self.bias, other.bias))
        settings = ("stride", "padding", "dilation", "groups", "held", "within")
        return all(getattr(self, name) == getattr(other, name) for name in settings) and all(
            mine is theirs
            or (mine is not None and theirs is not None and torch.equal(mine, theirs))
            for mine, theirs in pairs
        )

    def can_hold(self, values: Tensor) -> bool:
        """Whether of maps such as these it makes a rectifier's work less: on a CPU its kernels hold
        their results themselves, on CUDA the rectifier's kernel adds the bias."""
        return values.ndim == 4 if self.leaves_bias else self._way(values) is not None

    @property
    def leaves_bias(self) -> bool:
        """Whether what it holds for a rectifier is its bias, for the rectifier's kernel to add."""
        return self.bias is not None and usable(self.bias)

    def can_pass(self, values: Tensor) -> bool:
        """Whether its gradient at maps such as these can be that of the rectifier before it."""
        way = self._way(values)
        return way is not None and not isinstance(way, First)

    def _way(self, values: Tensor) -> Way | None:
        """A CPU's way for maps such as these, or None where torch has its own."""
        if values.ndim != 4 or not runs_on(values):
            return None
        if self._by_place is not None:
            return self.depthwise
        if self.groups > 1 or self.dilation != (1, 1):
            return None
        if self.weight.shape[1] <= _FEW_CHANNELS and max(self.weight.shape[2:]) <= _LARGEST_FIRST:
            return self._first
        if self._has_few_products(values):
            return self._few_products
        is_direct = self.stride == (1, 1) and all(
            pad < size for pad, size in zip(self.padding, self.weight.shape[2:], strict=True)
        )
        return self.direct if is_direct else None

    @cached_property
    def depthwise(self) -> Depthwise:
        """A CPU's way for a convolution with one kernel for each channel."""
        assert self._by_place is not None
        return Depthwise.of(self.weight, self.bias, self._window)

    @cached_property
    def _first(self) -> First:
        return First.of(self.weight, self.bias, self._window)

    @cached_property
    def _few_products(self) -> FewProducts:
        return FewProducts.of(self.weight, self.bias)

    @cached_property
    def direct(self) -> Direct:
        """A CPU's way for all others."""
        return Direct.of(self.weight, self.bias, self._window)

    @cached_property
    def paired(self) -> Direct:
        """The same with the factors of products rounded to bfloat16."""
        return Direct.of(self.weight, self.bias, self._window, in_pairs=True)

    @cached_property
    def _without_bias(self) -> "Convolution":
        return replace(self, bias=None)

    def applied(self, values: Tensor) -> Tensor:
        """The convolution as torch has it, on CUDA by our own kernels where they are quicker."""
        if not usable(values):
            return self.plain(values)
        way = _Depthwise if self._by_place is not None else _Wider if self._is_slow else None
        if way is None:
            return self.plain(values)
        result = way.apply(values, self)
        assert isinstance(result, Tensor)
        return result

    def plain(self, values: Tensor) -> Tensor:
        """The convolution as torch has it."""
        return functional.conv2d(
            values,
            *(self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups),
        )

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel has a kernel of its own, of no more than MOST_PLACES places."""
        return self._by_place is not None

    @property
    def is_pointwise(self) -> bool:
        """Whether each pixel is seen on its own, of more channels than a first layer has."""
        plain = (1, 1), (1, 1), (0, 0), (1, 1), 1
        settings = self.stride, self.padding, self.dilation, self.groups
        is_one = (tuple(self.weight.shape[2:]), *settings) == plain
        return is_one and self.weight.shape[1] > _FEW_CHANNELS

    @cached_property
    def _window(self) -> Window:
        height, width = self.weight.shape[2:]
        return Window((height, width), self.stride, self.padding)

    @cached_property
    def _by_place(self) -> Tensor | None:
        """The kernels of a convolution with one for each channel: (place, channel)."""
        channels, together, *size = self.weight.shape
        is_own = together == 1 and self.groups == channels and self.dilation == (1, 1)
        if not is_own or math.prod(size) > MOST_PLACES:
            return None
        return self.weight.flatten(1).T.contiguous()

    @property
    def _is_slow(self) -> bool:
        """Whether cuDNN takes twice as long for it as for one with more outputs."""
        outputs, inputs, *size = self.weight.shape
        is_between = outputs > _QUICK_OUTPUTS and outputs % _QUICK_OUTPUTS == _QUICK_OUTPUTS // 2
        is_plain = self.groups == 1 and math.prod(size) > 1 and inputs <= _QUICK_OUTPUTS // 2
        return self._is_half and is_between and is_plain

    def _has_few_products(self, values: Tensor) -> bool:
        """Whether no more products make it than results have terms; how many maps there are has no
        say, so that no picture can tell, nor has how wide the processor's vectors are."""
        outputs, inputs, *size = self.weight.shape
        tile, within = TILES.get(size[0]), size[0] // 2
        settings = self.stride, self.padding, self.dilation, self.groups
        is_plain = size[0] == size[1] and settings == ((1, 1), (within, within), (1, 1), 1)
        if tile is None or not is_plain or outputs % PANEL or inputs % PANEL:
            return False
        rows, columns = values.shape[2:]
        tiles = -(-rows // tile) * -(-columns // tile)
        return PRODUCTS * tiles <= math.prod(size) * rows * columns

    @cached_property
    def wider(self) -> "Convolution":
        """The convolution with outputs of zero up to a number that cuDNN is quick with."""
        more = -len(self.weight) % _QUICK_OUTPUTS
        bias = None if self.bias is None else functional.pad(self.bias, (0, more))
        weight = functional.pad(self.weight, (0, 0, 0, 0, 0, 0, 0, more))
        return replace(self, weight=weight, bias=bias).laid_out()

    def _way_back(self, values: Tensor) -> Folded | None:
        """For few channels, as a first layer has, whose gradient would be most of its time: on
        CUDA in half precision, and on a CPU without kernels, for a stride of 2 and inputs of even
        size."""
        is_plain = self.groups == 1 and self.dilation == (1, 1)
        if self.weight.shape[1] > _FEW_CHANNELS or not is_plain:
            return None
        rows, columns = values.shape[2:]
        is_quick = self.weight.device.type == "cpu" or self._is_half
        if self.stride != (2, 2) or rows % 2 or columns % 2 or not is_quick:
            return None
        if self._is_half and rows % 4 == 0 and columns % 4 == 0:
            return self._folded_by_four
        return self._folded_by_two

    @cached_property
    def _folded_by_two(self) -> Folded:
        return Folded.of(self.weight, self.padding, 2)

    @cached_property
    def _folded_by_four(self) -> Folded:
        return Folded.of(self.weight, self.padding, 4)

    @cached_property
    def _unfolded(self) -> Unfolded | None:
        """For the way there of a layer that has `_way_back`."""
        return Unfolded.of(self.weight, self.bias, self.padding) if self._is_half else None

    @property
    def _is_half(self) -> bool:
        return self.weight.is_cuda and self.weight.itemsize == 2

    def then(self, normalization: Normalization) -> "Convolution":
        """The convolution with a normalization of its result taken in."""
        scale, shift = normalization.scale, normalization.shift
        bias = shift if self.bias is None else torch.addcmul(shift, self.bias, scale)
        return replace(self, weight=self.weight * scale.view(-1, 1, 1, 1), bias=bias)

    def after(self, padding: tuple[int, int, int, int]) -> "Convolution | None":
        """The convolution with a padding by zeros (left, right, top, bottom) taken in.

        Where the sides differ the kernel grows by zeros, which the larger padding on the other
        side makes up for. None where the kernel would grow by more than a row or column.
        """
        left, right, top, bottom = padding
        rows, columns = max(top, bottom), max(left, right)
        growth = (columns - left, columns - right, rows - top, rows - bottom)
        is_plain = self.padding == (0, 0) and self.dilation == (1, 1)
        if not is_plain or min(padding) < 0 or max(growth) > _MOST_ADDED:
            return None
        return replace(self, weight=functional.pad(self.weight, growth), padding=(rows, columns))

    def laid_out(self) -> "Convolution":
        """The convolution with its kernel in the order that pictures have: channels last."""
        weight = self.weight.contiguous(memory_format=torch.channels_last)
        bias = None if self.bias is None else self.bias.contiguous()
        return replace(self, weight=weight, bias=bias)


class _Stem(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, convolution: Convolution) -> Tensor:
        ctx.way_back, ctx.size = convolution._way_back(values), values.shape[2:]
        unfolded = convolution._unfolded
        return convolution.applied(values) if unfolded is None else unfolded(values)

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.way_back(gradients[0], *ctx.size), None


class _Depthwise(torch.autograd.Function):
    """On CUDA; cuDNN has a quick way there for some kernels."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, convolution: Convolution) -> Tensor:
        from featviz.kernels.cuda.depthwise import convolved

        ctx.convolution, ctx.size = convolution, values.shape[2:]
        own, window = convolution._by_place, convolution._window
        if window.size in _QUICK:
            return convolution.plain(values)
        assert own is not None
        return convolved(values, own, convolution.bias, window, window.output_size(*ctx.size))

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        from featviz.kernels.cuda.depthwise import convolved_gradient

        weight, window = ctx.convolution._by_place, ctx.convolution._window
        return convolved_gradient(gradients[0], weight, window, tuple(ctx.size)), None


class _Wider(torch.autograd.Function):
    """The first outputs of a convolution's `wider`, where they lie; the gradient is its own."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, convolution: Convolution) -> Tensor:
        ctx.convolution = convolution
        ctx.save_for_backward(values)
        whole = convolution.wider.plain(values)
        shape = (len(whole), len(convolution.weight), *whole.shape[2:])
        kept = whole.new_empty(0)  # no view: a rectifier may overwrite it
        return kept.set_(whole.untyped_storage(), 0, shape, whole.stride())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (values,), own = ctx.saved_tensors, ctx.convolution
        settings = own.stride, own.padding, own.dilation, False, (0, 0), own.groups
        back, _, _ = torch.ops.aten.convolution_backward(
            gradients[0], values, own.weight, None, *settings, (True, False, False)
        )
        return back, None
