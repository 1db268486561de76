"""Encoding and writing pictures beside the rendering of the next ones."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")

MOST_WAITING = 64
"""Finished pictures that may wait for the disk; then rendering waits too."""


class Writer(Generic[Item]):
    """A context that hands pictures to `write`, in order, in a thread of its own.

    All that were handed in are written when the context is left, whatever ended it; an error of
    `write` is raised from the next `put` or at the end.
    """

    def __init__(self, write: Callable[[Item], object]) -> None:
        self._write = write
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="featviz-write")
        self._waiting: deque[Future[object]] = deque()

    def __enter__(self) -> "Writer[Item]":
        return self

    def put(self, picture: Item) -> None:
        """Writes a picture soon. Raises what writing an earlier one raised."""
        self._waiting.append(self._thread.submit(self._write, picture))
        while self._waiting and (self._waiting[0].done() or len(self._waiting) > MOST_WAITING):
            self._waiting.popleft().result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=True)
        for written in self._waiting:
            if kind is None:
                written.result()
