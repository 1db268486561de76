"""CUDA graphs: a step is recorded once and replayed, so that the host never holds the device up."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_SYNCHRONIZES = ("synchroniz", "captur")
"""In torch's words for work that waits for the device, which no recording may."""


class Captures:
    """One step, run as it is at first, then recorded, then replayed.

    Each time it is the same kernels on the same memory; what differs lies in the tensors. The
    first run makes plans, workspaces and caches. Work that waits for the device (a network or an
    objective that looks at a value) cannot be recorded, and runs as it is for good: it must not
    have changed anything before it waits.
    """

    def __init__(self) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        self._has_run = False
        self._is_plain = False
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, work: Callable[[], None]) -> None:
        """Does the work, once."""
        if self._is_plain:
            work()
        elif self._graph is not None:
            self._graph.replay()
        elif self._has_run:
            self._record(work)
        else:
            self._has_run = True
            try:
                with _no_waiting():
                    work()
            except RuntimeError as error:
                if not _is_waiting(error):
                    raise
                self._is_plain = True
                work()

    def forget(self) -> None:
        """Drops the recording: the memory or the kernels of the work have changed."""
        self._graph = None
        self._has_run = self._is_plain = False

    def _record(self, work: Callable[[], None]) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                work()
        except RuntimeError as error:
            if not _is_waiting(error):
                raise
            self._is_plain = True
            work()
        else:
            self._graph = graph
            graph.replay()


def _is_waiting(error: RuntimeError) -> bool:
    """Whether torch says that the work waited for the device."""
    return any(word in str(error) for word in _SYNCHRONIZES)


@contextmanager
def _no_waiting() -> Iterator[None]:
    """A context in which waiting for the device is an error."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
