"""What a build tells of itself while it is at work."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable


@runtime_checkable
class Tally(Protocol):
    """Is told how a build goes on."""

    def advance(self, pictures: float) -> None:
        """So many pictures' worth of work is done."""

    def finished(self, layer: str, *, is_good: bool) -> None:
        """A picture of this layer has ended."""


Progress = Callable[[str, int], AbstractContextManager[Tally]]
"""Given what is made and how many pictures: a context whose value is told of the work."""
