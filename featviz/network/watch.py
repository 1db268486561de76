"""Seeing every tensor operation of a forward pass, whatever the module; to trace and to record.

An operation is known by its index: the how-manieth torch function of the pass that returned a
floating-point tensor. A frozen network in eval mode runs the same operations in the same order
at every input of one shape, so the index found by tracing is the index met when recording.
torch's attention, one function to it, is opened: its linear layers are operations of their own.
"""

from abc import abstractmethod
from collections.abc import Callable
from types import FunctionType, TracebackType
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


def plain_name(name: str) -> str:
    """A torch function's name without ornaments: "relu" for `relu_`, "mul" for `mul.Tensor`."""
    return name.strip("_").partition(".")[0]


def _opened(function: Callable[..., Any]) -> FunctionType:
    """A function of torch as it runs where nobody watches, so that its parts can be watched."""
    assert isinstance(function, FunctionType)
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    opened = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    opened.__kwdefaults__ = function.__kwdefaults__
    return opened


_attention = _opened(functional.multi_head_attention_forward)


class Watch(TorchFunctionMode):
    """A context in which `seen` is called for each operation, in order, with its result."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves the context; an interruption may come while torch has put it aside for a moment,
        and is told as what it is then."""
        try:
            super().__exit__(kind, error, trace)
        except RuntimeError:  # there is no mode to leave
            if not isinstance(error, KeyboardInterrupt):
                raise

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", str(func))
        options = kwargs if kwargs is not None else {}
        if func is functional.multi_head_attention_forward:
            with self:
                return _attention(*args, **options)
        result = self.run(name, func, args, options)
        if isinstance(result, Tensor) and result.is_floating_point():
            index = self.count
            self.count += 1
            replaced = self.seen(index, name, args, options, result)
            if replaced is not None:
                return replaced
        return result

    def run(
        self,
        name: str,  # noqa: ARG002
        function: Callable[..., Any],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """The operation's result, which a subclass may compute in its own way."""
        return function(*args, **options)

    @abstractmethod
    def seen(
        self, index: int, name: str, args: tuple[Any, ...], options: dict[str, Any], result: Tensor
    ) -> Tensor | None:
        """Called after each operation that returned a floating-point tensor; what it returns, if
        anything, the network gets in its place."""
