"""Operations of frozen networks, cheaper than torch's own and equal in value and gradient.

No weight wants a gradient here, and statistics never change; that is what makes them cheaper.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from featviz.kernels import usable
from featviz.kernels.layout import Window, is_by_pixel
from featviz.shapes import Flags

_FEW_CHANNELS = 4
"""Of a stem's input: colors."""
_EVEN, _WIDE = 8, 64
"""Channels come in such numbers where tensor cores take them, and where they are quick."""
_QUICK = ((3, 3), (5, 5))
"""Kernels for which cuDNN has a quick depthwise convolution, but no quick gradient."""
_QUICK_OUTPUTS = 128
"""Multiples of it are quick: of 64 inputs a 3x3 kernel makes 256 in half the time of 192."""
_SPARSE = 8
"""Of so many columns one is looked at first."""
_MOST_ADDED = 1
"""Rows or columns of zeros by which a kernel may grow to take in a padding."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """A two-dimensional convolution with everything but its input decided."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    until_held: tuple[int, ...] = ()
    """The operations from this one up to a rectifier that adds the bias where nobody reads them."""

    def __call__(self, values: Tensor) -> Tensor:
        if self._folded(*values.shape[2:]) is None:
            return self.applied(values)
        result = _Stem.apply(values, self)
        assert isinstance(result, Tensor)
        return result

    @property
    def has_kernel_bias(self) -> bool:
        """Whether it has a bias that a rectifier's kernel could add."""
        return self.bias is not None and usable(self.bias)

    @cached_property
    def without_bias(self) -> "Convolution":
        """The convolution for a rectifier that adds the bias."""
        return replace(self, bias=None)

    def applied(self, values: Tensor) -> Tensor:
        """The convolution as torch has it, by our own kernels where each channel has its own."""
        way = _Depthwise if self._by_place is not None else _Wider if self._is_slow else None
        if way is None or not usable(values):
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

    @cached_property
    def _window(self) -> Window:
        height, width = self.weight.shape[2:]
        return Window((height, width), self.stride, self.padding)

    @cached_property
    def _by_place(self) -> Tensor | None:
        """The kernels of a convolution with one for each channel: (place, channel)."""
        channels, together, *size = self.weight.shape
        is_own = together == 1 and self.groups == channels and self.dilation == (1, 1)
        if not is_own or math.prod(size) > MaxPool.most_places:
            return None
        return self.weight.flatten(1).T.contiguous()

    @property
    def _is_slow(self) -> bool:
        """Whether cuDNN takes twice as long for it as for one with more outputs."""
        outputs, inputs, *size = self.weight.shape
        is_between = outputs > _QUICK_OUTPUTS and outputs % _QUICK_OUTPUTS == _QUICK_OUTPUTS // 2
        is_plain = self.groups == 1 and math.prod(size) > 1 and inputs <= _QUICK_OUTPUTS // 2
        return self._is_half and is_between and is_plain

    @cached_property
    def wider(self) -> "Convolution":
        """The convolution with outputs of zero up to a number that cuDNN is quick with."""
        more = -len(self.weight) % _QUICK_OUTPUTS
        bias = None if self.bias is None else functional.pad(self.bias, (0, more))
        weight = functional.pad(self.weight, (0, 0, 0, 0, 0, 0, 0, more))
        return replace(self, weight=weight, bias=bias).laid_out()

    def _folded(self, rows: int, columns: int) -> "_Folded | None":
        """For the first layer, whose gradient would be most of its time: on a CPU, and on CUDA in
        half precision; for inputs of even size."""
        is_stem = self.stride == (2, 2) and self.weight.shape[1] <= _FEW_CHANNELS
        is_plain = self.groups == 1 and self.dilation == (1, 1)
        if not (is_stem and is_plain and (self.weight.device.type == "cpu" or self._is_half)):
            return None
        if rows % 2 or columns % 2:
            return None
        if self._is_half and rows % 4 == 0 and columns % 4 == 0:
            return self._folded_by_four
        return self._folded_by_two

    @cached_property
    def _folded_by_two(self) -> "_Folded":
        return _Folded.of(self.weight, self.padding, 2)

    @cached_property
    def _folded_by_four(self) -> "_Folded":
        return _Folded.of(self.weight, self.padding, 4)

    @cached_property
    def _unfolded(self) -> "_Unfolded | None":
        """For the way there of a layer that has `_folded` for the way back."""
        return _Unfolded.of(self.weight, self.bias, self.padding) if self._is_half else None

    @property
    def _is_half(self) -> bool:
        return self.weight.is_cuda and self.weight.itemsize == 2

    def then(self, normalization: "Normalization") -> "Convolution":
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


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, convolution: Convolution) -> Tensor:
        from featviz.kernels.depthwise import convolved

        ctx.convolution, ctx.size = convolution, values.shape[2:]
        own, window = convolution._by_place, convolution._window
        if own is None or window.size in _QUICK:
            return convolution.plain(values)
        return convolved(values, own, convolution.bias, window, window.output_size(*ctx.size))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        from featviz.kernels.depthwise import convolved_gradient

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


@dataclass(frozen=True, eq=False)
class _Folded:
    """The gradient of a stride-2 convolution as a convolution that makes a block of pixels at once.

    Of n x n pixels, pixel n m + b is read by the outputs n / 2 m + a through the kernel's place
    b + padding - 2 a: a kernel over a, with n x n results for each color, of stride n / 2.
    """

    kernel: Tensor
    colors: int
    side: int
    padding: tuple[int, int]
    skipped: tuple[int, int]

    @classmethod
    def of(cls, weight: Tensor, padding: tuple[int, int], side: int) -> "_Folded":
        outputs, colors, *sizes = weight.shape
        spans = [
            (-(-(pad - size + 1) // 2), (side - 1 + pad) // 2)
            for size, pad in zip(sizes, padding, strict=True)
        ]
        spread = [highest - lowest + 1 for lowest, highest in spans]
        kernel = weight.new_zeros(colors, side, side, outputs, *spread)
        for (down, row), (right, column) in product(
            _places(side, sizes[0], padding[0]), _places(side, sizes[1], padding[1])
        ):
            place = (down - spans[0][0], right - spans[1][0])
            inside = row + padding[0] - 2 * down, column + padding[1] - 2 * right
            kernel[:, row, column, :, place[0], place[1]] = weight[..., inside[0], inside[1]].T
        flat = kernel.flatten(0, 2)
        if usable(weight):
            flat = functional.pad(flat, (0, 0, 0, 0, 0, 0, 0, -len(flat) % _WIDE))
        # Blocks before the first, so that the padding is enough for the last as well.
        half = side // 2
        least = [
            max(0, highest - half - (2 * pad - size) // 2)
            for size, pad, (_, highest) in zip(sizes, padding, spans, strict=True)
        ]
        skipped = [
            -(-(less + lowest) // half) for less, (lowest, _) in zip(least, spans, strict=True)
        ]
        skipped = [max(0, each) for each in skipped]
        pads = [half * skip - lowest for skip, (lowest, _) in zip(skipped, spans, strict=True)]
        laid_out = flat.contiguous(memory_format=torch.channels_last)
        return cls(laid_out, colors, side, (pads[0], pads[1]), (skipped[0], skipped[1]))

    def __call__(self, gradient: Tensor, rows: int, columns: int) -> Tensor:
        spread = functional.conv2d(
            gradient, self.kernel, stride=self.side // 2, padding=self.padding
        )
        if usable(spread):
            from featviz.kernels.pairs import unpaired

            return unpaired(spread, self.colors, self.side, self.skipped, (rows, columns))
        down, right = self.skipped
        cut = spread[:, :, down : down + rows // self.side, right : right + columns // self.side]
        return functional.pixel_shuffle(cut, self.side)


def _places(side: int, size: int, padding: int) -> list[tuple[int, int]]:
    """The outputs (from that of a block's first) that read each pixel of the block."""
    return [
        (output, pixel)
        for pixel in range(side)
        for output in range(-(-(pixel + padding - size + 1) // 2), (pixel + padding) // 2 + 1)
    ]


@dataclass(frozen=True, eq=False)
class _Unfolded:
    """A stride-2 convolution as one of stride 1 on 2 x 2 pixels at once.

    Output m reads pixel 2 (m + a) + b, b in {0, 1}, through the kernel's place 2 a + b + padding:
    a small kernel over a, with four inputs for each color. Tensor cores want eight channels; three
    colors leave them idle.
    """

    kernel: Tensor
    bias: Tensor | None
    before: tuple[int, int]
    after: tuple[int, int]

    @classmethod
    def of(
        cls, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]
    ) -> "_Unfolded | None":
        outputs, colors, *sizes = weight.shape
        lowest = [(-pad) // 2 for pad in padding]
        highest = [(size - 1 - pad) // 2 for size, pad in zip(sizes, padding, strict=True)]
        # As many outputs as the stride-2 convolution has of an even number of pixels.
        more = [(2 * pad - size) // 2 + 1 for size, pad in zip(sizes, padding, strict=True)]
        after = [high + less for high, less in zip(highest, more, strict=True)]
        if min(*after, *(-low for low in lowest)) < 0:
            return None
        sides = [high - low + 1 for low, high in zip(lowest, highest, strict=True)]
        channels = -(-4 * colors // _EVEN) * _EVEN
        kernel = weight.new_zeros(outputs, channels, *sides)
        spread = kernel[:, : 4 * colors].unflatten(1, (colors, 2, 2))
        for row in range(sizes[0]):
            for column in range(sizes[1]):
                down, odd_row = divmod(row - padding[0], 2)
                right, odd_column = divmod(column - padding[1], 2)
                place = (down - lowest[0], right - lowest[1])
                spread[:, :, odd_row, odd_column, place[0], place[1]] = weight[..., row, column]
        laid_out = kernel.contiguous(memory_format=torch.channels_last)
        return cls(laid_out, bias, (-lowest[0], -lowest[1]), (after[0], after[1]))

    def __call__(self, values: Tensor) -> Tensor:
        batch, colors, rows, columns = values.shape
        if usable(values):
            from featviz.kernels.pairs import paired

            room = paired(values, self.kernel.shape[1], self.before, self.after)
            return functional.conv2d(room, self.kernel, self.bias)
        (top, left), (bottom, right) = self.before, self.after
        rows, columns = rows // 2, columns // 2
        shape = (batch, self.kernel.shape[1], top + rows + bottom, left + columns + right)
        room = values.new_zeros(1).expand(shape).contiguous(memory_format=torch.channels_last)
        inner = room[:, : 4 * colors, top : top + rows, left : left + columns]
        pairs = values.unflatten(3, (columns, 2)).unflatten(2, (rows, 2))
        inner.unflatten(1, (colors, 2, 2)).copy_(pairs.permute(0, 1, 3, 5, 2, 4))
        return functional.conv2d(room, self.kernel, self.bias)


class _Stem(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, convolution: Convolution) -> Tensor:
        ctx.convolution, ctx.size = convolution, values.shape[2:]
        unfolded = convolution._unfolded
        return convolution.applied(values) if unfolded is None else unfolded(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        folded = ctx.convolution._folded(*ctx.size)
        return folded(gradients[0], *ctx.size), None


@dataclass(frozen=True, eq=False)
class Normalization:
    """BatchNorm in eval mode: times `scale`, plus `shift`, per channel."""

    scale: Tensor
    shift: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (values.ndim - 2))
        return torch.addcmul(self.shift.view(shape), values, self.scale.view(shape))


@dataclass(frozen=True)
class ResponseNormalization:
    """Local response normalization: x / (k + alpha * mean of x**2 over `size` channels) ** beta.

    The sum over neighbouring channels is a 1x1 convolution with a band of ones.
    Source: Krizhevsky et al. 2012, section 3.3, with torch's mean for the paper's sum.
    """

    size: int
    alpha: float
    beta: float
    k: float

    def __call__(self, values: Tensor) -> Tensor:
        weight = self.alpha / self.size
        if usable(values):
            result = _FusedResponse.apply(values, self.size, weight, self.beta, self.k)
            assert isinstance(result, Tensor)
            return result
        band = _band(values.shape[1], self.size, weight, values.dtype, values.device)
        result = _Response.apply(values, band, self.beta, self.k)
        assert isinstance(result, Tensor)
        return result


class _Response(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, band: Tensor, beta: float, k: float) -> Tensor:
        squares = values.square()
        base = functional.conv2d(squares, band).add_(k)
        factor = _negative_power(base, beta, spare=squares)
        ctx.save_for_backward(values, base, factor, band)
        ctx.beta = beta
        return torch.mul(values, factor, out=squares)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        values, base, factor, band = ctx.saved_tensors
        direct = gradients[0] * factor
        through = (direct * values).div_(base)
        spread = functional.conv2d(through, band.transpose(0, 1))
        return direct.addcmul_(values, spread, value=-2 * ctx.beta), None, None, None


class _FusedResponse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, size: int, weight: float, beta: float, k: float
    ) -> Tensor:
        from featviz.kernels.response import normalized

        ctx.settings = size, weight, beta
        result, slopes = normalized(values, size, weight, beta, k)
        ctx.save_for_backward(values, slopes)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        from featviz.kernels.response import normalized_gradient

        values, slopes = ctx.saved_tensors
        gradient = normalized_gradient(gradients[0], values, slopes, *ctx.settings)
        return gradient, None, None, None, None


def _is_any(values: Tensor) -> Flags:
    """Rows in which anything is not zero."""
    return (values != 0).any(dim=tuple(range(1, values.ndim)))


def _negative_power(base: Tensor, beta: float, *, spare: Tensor) -> Tensor:
    if beta == 0.75:  # by far the commonest; a general power costs several times as much
        root = torch.rsqrt(base, out=spare)
        return root.sqrt().mul_(root)
    return base.pow(-beta)


@lru_cache(maxsize=16)
def _band(
    channels: int, size: int, weight: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """A 1x1 kernel that sums `size` channels around each, times `weight`."""
    at = torch.arange(channels)
    ahead = at[None] - at[:, None]
    inside = (ahead >= -(size // 2)) & (ahead <= (size - 1) // 2)
    with torch.inference_mode(mode=False):
        return (inside.to(device, dtype) * weight)[:, :, None, None].clone()


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each window, where kernels run: torch keeps eight bytes of index for
    each, and adds gradients up in any order."""

    most_places: ClassVar[int] = 81
    """Of a window: a kernel has a line for each, and a byte tells them apart."""
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    is_ceil: bool

    def __call__(self, values: Tensor) -> Tensor:
        result = _MaxPooled.apply(values, self)
        assert isinstance(result, Tensor)
        return result

    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the result, as torch has them."""
        empty = torch.empty((1, rows, columns), device="meta")
        pooled = functional.max_pool2d(
            empty, self.size, self.stride, self.padding, ceil_mode=self.is_ceil
        )
        return pooled.shape[1], pooled.shape[2]


class _MaxPooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, pool: MaxPool) -> Tensor:
        from featviz.kernels.pooling import pooled

        window = Window(pool.size, pool.stride, pool.padding)
        rows, columns = values.shape[2], values.shape[3]
        result, places = pooled(values, window, pool.output_size(rows, columns))
        ctx.save_for_backward(places)
        ctx.window, ctx.size = window, (rows, columns)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        from featviz.kernels.pooling import unpooled

        (places,) = ctx.saved_tensors
        return unpooled(gradients[0], places, ctx.window, ctx.size), None


@dataclass(frozen=True)
class Rectifier:
    """Values held between `low` and `high`."""

    low: float
    high: float
    overwrites: bool
    """Nothing else reads what it is given."""
    has_own_gradient: bool = False
    """One convolution reads its result, whose gradient nobody else has, then."""
    held: Convolution | None = None
    """The convolution before it, whose bias it may add: one pass over memory for two."""

    def __call__(
        self,
        values: Tensor,
        redirects: Flags | None = None,
        *,
        is_read: bool = True,
        adds_bias: bool = False,
    ) -> Tensor:
        """`redirects`: rows that get a redirected gradient where theirs is all zero. `is_read`:
        someone outside the network may read the result."""
        overwrites = self.overwrites, self.has_own_gradient and not is_read
        bias = self.held.bias if adds_bias and self.held is not None else None
        bounds = self.low, self.high
        result = _Rectified.apply(values, bias, bounds, overwrites, redirects)
        assert isinstance(result, Tensor)
        return result


class _Rectified(torch.autograd.Function):
    """Remembers its result alone, from which the gradient can be told as well."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        bias: Tensor | None,
        bounds: tuple[float, float],
        overwrites: tuple[bool, bool],
        redirects: Flags | None,
    ) -> Tensor:
        values_are_mine, ctx.gradient_is_mine = overwrites
        if bias is not None and is_by_pixel(values):
            from featviz.kernels.rectifier import rectify_

            rectify_(values, bias, bounds)
        elif bias is not None:
            values.add_(bias.view(1, -1, 1, 1)).clamp_(*bounds)
        elif values_are_mine:
            values.clamp_(*bounds)
        is_mine = values_are_mine or bias is not None
        result = values if is_mine else values.clamp(*bounds)
        if is_mine:
            ctx.mark_dirty(values)
        ctx.save_for_backward(result, redirects)
        ctx.bounds = bounds
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = gradients
        result, redirects = ctx.saved_tensors
        low, high = ctx.bounds
        if usable(result) and result.ndim > 1:
            from featviz.kernels.rectifier import rectified_gradient

            return rectified_gradient(
                *(gradient, result, ctx.bounds, redirects), overwrites=ctx.gradient_is_mine
            ), *(None, None, None, None)
        backward = torch.ops.aten.hardtanh_backward
        if redirects is None and ctx.gradient_is_mine and gradient.stride() == result.stride():
            true = backward.grad_input(gradient, result, low, high, grad_input=gradient)
            return true, None, None, None, None
        true = backward(gradient, result, low, high)
        if redirects is not None:
            true = redirected_gradient(gradient, result, true, (low, high), redirects)
        return true, None, None, None, None


def redirected_gradient(
    gradient: Tensor, result: Tensor, true: Tensor, bounds: tuple[float, float], rows: Flags
) -> Tensor:
    """See `featviz.engine.redirect`; `true` itself where no row's gradient is blocked."""
    low, high = bounds
    if not true.is_cuda:
        some = true[..., ::_SPARSE] if true.ndim > 2 else true
        if bool((_is_any(some) | ~rows).all()):  # a few places tell, as a rule
            return true
    is_blocked = rows & ~_is_any(true)
    is_outward = ((result <= low) & (gradient < 0)) | ((result >= high) & (gradient > 0))
    passed = gradient.masked_fill(is_outward, 0)
    return torch.where(is_blocked.view(-1, *[1] * (true.ndim - 1)), passed, true)
