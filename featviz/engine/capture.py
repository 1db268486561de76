"""CUDA graphs: a step is recorded once and replayed, so that the host never holds the device up."""

from collections.abc import Callable, Hashable

import torch

WARM_UP = 3
"""Steps that run as they are before one is recorded: plans, workspaces and caches come to be."""


class Captures:
    """Steps by key: run as they are at first, then recorded, then replayed.

    All work of a key is the same kernels on the same memory; what differs lies in the tensors.
    The recordings share one pool of memory, as they never run at the same time.
    """

    def __init__(self) -> None:
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}
        self._runs: dict[Hashable, int] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Does the work, once."""
        if key not in self._graphs:
            self._runs[key] = self._runs.get(key, 0) + 1
            if self._runs[key] <= WARM_UP:
                work()
                return
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                work()
            self._graphs[key] = graph
        self._graphs[key].replay()

    def forget(self) -> None:
        """Drops all recordings: the memory or the kernels of the work have changed."""
        self._graphs.clear()
        self._runs.clear()
