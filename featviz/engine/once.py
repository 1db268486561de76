"""Gradients that have no gradient of their own, and say so."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

from featviz.errors import NotAvailable

_Backward = TypeVar("_Backward", bound=Callable[..., Any])


def once(backward: _Backward) -> _Backward:
    """A Function's backward whose result cannot be differentiated.

    torch's own once_differentiable leaves such a term out without a word where the rest of a sum
    can be differentiated. Raises NotAvailable where a graph of the gradient is asked for.
    """

    @wraps(backward)
    def told(ctx: Any, *gradients: Any) -> Any:
        if torch.is_grad_enabled():
            raise NotAvailable(
                "the gradient of a gradient",
                there="the accelerated network has first derivatives alone",
            )
        return backward(ctx, *gradients)

    return told  # pyright: ignore[reportReturnType]
