"""Operations of frozen networks, cheaper than torch's own and equal in value and gradient.

Nothing in them but their input changes; that is what makes them cheaper.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from featviz.engine.convolution import Convolution
from featviz.engine.once import once
from featviz.engine.presumed import stirs_by_row
from featviz.kernels import kernels
from featviz.kernels.cuda import usable
from featviz.kernels.host.rectifying import Bounds
from featviz.kernels.layout import Window, is_by_pixel
from featviz.shapes import Flags

Key = tuple[int, str]
"""An operation's index and name."""


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
        if kernels("response", values) is not None:
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
        ctx.response, ctx.settings = kernels("response", values), (size, weight, beta)
        assert ctx.response is not None
        result, slopes = ctx.response.normalized(values, size, weight, beta, k)
        ctx.save_for_backward(values, slopes)
        return result

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        values, slopes = ctx.saved_tensors
        gradient = ctx.response.normalized_gradient(gradients[0], values, slopes, *ctx.settings)
        return gradient, None, None, None, None


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

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    is_ceil: bool

    def __call__(self, values: Tensor) -> Tensor:
        result = _MaxPooled.apply(values, self)
        assert isinstance(result, Tensor)
        return result


@lru_cache(maxsize=64)
def _pooled_size(pool: MaxPool, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a pool's result, as torch has them."""
    empty = torch.empty((1, rows, columns), device="meta")
    pooled = functional.max_pool2d(
        empty, pool.size, pool.stride, pool.padding, ceil_mode=pool.is_ceil
    )
    return pooled.shape[1], pooled.shape[2]


class _MaxPooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, pool: MaxPool) -> Tensor:
        ctx.pooling = kernels("pooling", values)
        assert ctx.pooling is not None
        window = Window(pool.size, pool.stride, pool.padding)
        rows, columns = values.shape[2], values.shape[3]
        result, places = ctx.pooling.pooled(values, window, _pooled_size(pool, rows, columns))
        ctx.save_for_backward(places)
        ctx.window, ctx.size = window, (rows, columns)
        return result

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return ctx.pooling.unpooled(gradients[0], places, ctx.window, ctx.size), None


@dataclass(frozen=True)
class Rectifier:
    """Values held between `low` and `high`."""

    low: float
    high: float
    overwrites: bool
    """Nothing else reads what it is given."""
    has_own_gradient: bool = False
    """One convolution reads its result, whose gradient nobody else has, then."""
    before: Key | None = None
    """The convolution before it, with which it may share its work: one pass over memory for two."""
    after: Key | None = None
    """The convolution that alone reads its result, and may do its work on the way back."""

    @property
    def bounds(self) -> Bounds:
        """Of its results."""
        return self.low, self.high

    def __call__(
        self,
        values: Tensor,
        redirects: Flags | None = None,
        *,
        is_read: bool = True,
        before: Convolution | None = None,
        passing: "Passing | None" = None,
    ) -> Tensor:
        """`redirects`: rows that get a redirected gradient where theirs is all zero. `is_read`:
        someone outside the network may read the result. `before`: a convolution that has done its
        part of the work. `passing`: where the convolution after it says that it does this one's.
        """
        bias = before.bias if before is not None and before.leaves_bias else None
        known = _Known(
            values_are_mine=self.overwrites,
            gradient_is_mine=self.has_own_gradient and not is_read,
            is_held=before is not None and bias is None,
        )
        result = _Rectified.apply(values, bias, self.bounds, known, redirects, passing)
        assert isinstance(result, Tensor)
        return result


@dataclass
class Passing:
    """Whether a rectifier's gradient is that at its own input already: the convolution that reads
    its result has made it so."""

    is_done: bool = False


class _Known(NamedTuple):
    """What is known of a rectifier's values and of their gradient."""

    values_are_mine: bool
    gradient_is_mine: bool
    is_held: bool
    """The values are within the bounds already."""


_NONE = (None,) * 5
"""For what has no gradient."""


class _Rectified(torch.autograd.Function):
    """Remembers its result alone, from which the gradient can be told as well."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        bias: Tensor | None,
        bounds: Bounds,
        known: _Known,
        redirects: Flags | None,
        passing: Passing | None,
    ) -> Tensor:
        assert known.values_are_mine or not known.is_held
        ctx.known, ctx.passing = known, passing
        if bias is not None and is_by_pixel(values):
            from featviz.kernels.cuda.rectifier import rectify_

            rectify_(values, bias, bounds)
        elif bias is not None:
            values.add_(bias.view(1, -1, 1, 1)).clamp_(*bounds)
        elif known.values_are_mine and not known.is_held:
            values.clamp_(*bounds)
        is_mine = known.values_are_mine or bias is not None
        result = values if is_mine else values.clamp(*bounds)
        if is_mine:
            ctx.mark_dirty(values)
        ctx.save_for_backward(result, redirects)
        ctx.bounds = bounds
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        if ctx.passing is not None and ctx.passing.is_done:
            return gradient, *_NONE
        result, redirects = ctx.saved_tensors
        low, high = ctx.bounds
        if usable(result) and result.ndim > 1:
            from featviz.kernels.cuda.rectifier import rectified_gradient

            return rectified_gradient(
                *(gradient, result, ctx.bounds, redirects), overwrites=ctx.known.gradient_is_mine
            ), *_NONE
        backward = torch.ops.aten.hardtanh_backward
        if (
            redirects is None
            and ctx.known.gradient_is_mine
            and gradient.stride() == result.stride()
        ):
            true = backward.grad_input(gradient, result, low, high, grad_input=gradient)
            return true, *_NONE
        true = backward(gradient, result, low, high)
        if redirects is not None:
            true = redirected_gradient(gradient, result, true, (low, high), redirects)
        return true, *_NONE


def redirected_gradient(
    gradient: Tensor, result: Tensor, true: Tensor, bounds: tuple[float, float], rows: Flags
) -> Tensor:
    """See `featviz.engine.redirect`; `true` itself where no row's gradient is blocked."""
    low, high = bounds
    is_blocked = rows & ~stirs_by_row(true)
    if not true.is_cuda and not bool(is_blocked.any()):
        return true
    is_outward = ((result <= low) & (gradient < 0)) | ((result >= high) & (gradient > 0))
    passed = gradient.masked_fill(is_outward, 0)
    return torch.where(is_blocked.view(-1, *[1] * (true.ndim - 1)), passed, true)
