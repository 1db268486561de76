"""Redirected gradients for rectifiers: a way out for a picture whose gradient is all zero.

Source: Lucid's redirected ReLU and ReLU6 (tensorflow/lucid, misc/redirected_relu_grad.py), for
gradients of what is maximized: where the true gradient of a picture at one rectifier is zero
everywhere, the gradient passes through, except where it would push a value further out of
range (below 0 and down, or above 6 and up). Each picture on its own; nothing leaves the device.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from featviz.network.recording import Substitute
from featviz.network.trace import Operation
from featviz.shapes import Flags

RECTIFIERS = {"relu": (0.0, math.inf), "relu_": (0.0, math.inf), "relu6": (0.0, 6.0)}
CLAMPS = ("hardtanh", "hardtanh_")


def redirected(
    index: int,  # noqa: ARG001
    name: str,
    args: tuple[Any, ...],
    options: dict[str, Any],
    *,
    rows: Flags | None = None,
) -> Tensor | None:
    """The rectifier `name` with a redirected gradient, or None for any other operation.

    In-place rectifiers write their result into their argument, as the network expects. `rows`:
    which pictures may be redirected, all where it is None.
    """
    bounds = bounds_of(name, args, options)
    if bounds is None:
        return None
    values = args[0] if args else options["input"]
    result = _Redirected.apply(values, *bounds, rows)
    assert isinstance(result, Tensor)
    if options.get("inplace") or name.endswith("_"):
        return values.copy_(result)
    return result


def pictures_first(operations: Iterable[Operation]) -> frozenset[int]:
    """Operations of a trace (of one picture) whose first axis is the picture; in others, such as
    tokens that come before the batch, one picture's gradient cannot be told from the others'."""
    return frozenset(each.index for each in operations if each.shape[:1] == (1,))


def redirecting(operations: Iterable[Operation]) -> Substitute:
    """A `Substitute` that redirects every rectifier whose first axis is the picture."""
    known = pictures_first(operations)

    def substitute(
        index: int, name: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Tensor | None:
        return redirected(index, name, args, options) if index in known else None

    return substitute


def bounds_of(
    name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[float, float] | None:
    """The lowest and highest result of a rectifier; None for any other operation."""
    if name in RECTIFIERS:
        return RECTIFIERS[name]
    if name in CLAMPS:
        low = args[1] if len(args) > 1 else options.get("min_val", -1.0)
        high = args[2] if len(args) > 2 else options.get("max_val", 1.0)
        return float(low), float(high)
    return None


class _Redirected(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, low: float, high: float, rows: Flags | None) -> Tensor:
        is_below = values <= low
        is_above = values >= high
        ctx.save_for_backward(is_below, is_above, rows)
        return values.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        is_below, is_above, rows = ctx.saved_tensors
        true = gradient.masked_fill(is_below | is_above, 0)
        is_outward = (is_below & (gradient < 0)) | (is_above & (gradient > 0))
        is_blocked = (true == 0).flatten(1).all(dim=1)
        if rows is not None:
            is_blocked &= rows
        mask = is_blocked.view(-1, *[1] * (gradient.ndim - 1))
        return torch.where(mask, gradient.masked_fill(is_outward, 0), true), None, None, None
