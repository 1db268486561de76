"""CUDA graphs: a step is recorded once and replayed, so that the host never holds the device up."""

from collections.abc import Callable

import torch


class Captures:
    """One step, run as it is at first, then recorded, then replayed.

    Each time it is the same kernels on the same memory; what differs lies in the tensors. The
    first run makes plans, workspaces and caches. Work that waits for the device (a network or an
    objective that looks at a value) cannot be recorded, which torch says, and runs as it is for
    good. A recording that fails has changed nothing: nothing of it has run.
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
            work()

    def forget(self) -> None:
        """Drops the recording: the memory or the kernels of the work have changed."""
        self._graph, self._has_run = None, False

    def _record(self, work: Callable[[], None]) -> None:
        graph, usual = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=torch.cuda.Stream()):
                work()
        except RuntimeError as error:
            torch.cuda.set_stream(usual)  # torch leaves the recording's own behind
            if "captur" not in str(error):
                raise
            self._is_plain = True
            work()
        else:
            self._graph = graph
            graph.replay()
