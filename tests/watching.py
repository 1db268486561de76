"""Seeing which operations run, from outside of whoever runs them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from featviz.network.watch import Watch


class Timeline(Watch):
    """The names of all torch functions, in order; `count` of those that returned numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def run(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        self.names.append(name)
        return function(*args, **options)

    def seen(
        self, index: int, name: str, args: tuple[Any, ...], options: dict[str, Any], result: Tensor
    ) -> None:
        pass
