"""Values of read points during a pass: `Prefix` for the engine, `record` for everyone.

Values are read where the operation returned them, and copied unless the pass ends there, so
that a later in-place operation cannot change them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featviz.errors import DoesNotFit
from featviz.interrupts import uninterrupted
from featviz.network.layers import Layer
from featviz.network.network import Network
from featviz.network.places import FIRST, Place
from featviz.network.watch import Watch, plain_name
from featviz.shapes import Flags

Substitute = Callable[[int, str, tuple[Any, ...], dict[str, Any]], Tensor | None]
"""Given an operation's index, name and arguments: its result computed in another way, or None."""


class _Enough(BaseException):
    """The last wanted operation has run; a BaseException so that no network swallows it."""


@dataclass(frozen=True)
class Reading:
    """What is to be kept of one operation."""

    name: str
    """Of the operation, when it was traced."""
    keys: tuple[str, ...]
    """The read points that it serves."""
    layer: Layer


@dataclass(frozen=True)
class Wanted:
    """Which operations to keep, by their index."""

    operations: Mapping[int, Reading]

    @property
    def last(self) -> int:
        return max(self.operations, default=-1)


def find(network: Network, keys: Iterable[str], rows: int, columns: int) -> Wanted:
    """Where the read points are in a pass at one picture size. Raises UnknownName, DoesNotFit."""
    traced = network.trace(rows, columns).operations
    found: dict[int, Reading] = {}
    for key in dict.fromkeys(keys):
        index, layer = network.operation(key, rows, columns), network.layer(key, rows, columns)
        before = found[index].keys if index in found else ()
        found[index] = Reading(traced[index].name, (*before, key), layer)
    return Wanted(found)


class Recorder(Watch):
    """Keeps the results of wanted operations; with `stops`, ends the pass after the last."""

    def __init__(
        self,
        wanted: Wanted,
        values: dict[str, Tensor],
        *,
        stops: bool,
        substitute: Substitute | None = None,
        deeper: Mapping[int, Flags] | None = None,
    ) -> None:
        super().__init__()
        self.deeper = deeper or {}
        self.wanted = wanted
        self.values = values
        self.stops = stops
        self.substitute = substitute

    def restart(self, wanted: Wanted) -> None:
        """Makes ready for another pass."""
        self.count = 0
        self.wanted = wanted
        self.values.clear()

    def run(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        if self.substitute is not None:
            result = self.substitute(self.count, name, args, options)
            if result is not None:
                return result
        return function(*args, **options)

    def seen(
        self, index: int, name: str, args: tuple[Any, ...], options: dict[str, Any], result: Tensor
    ) -> Tensor | None:
        if index not in self.wanted.operations:
            return None
        reading = self.wanted.operations[index]
        if plain_name(name) != reading.name:
            raise DoesNotFit(
                f"operation {index} of the network",
                got=name,
                expected=f"{reading.name}, which ran there when the network was traced",
            )
        is_end = self.stops and index == self.wanted.last
        value = reading.layer.by_picture(result if is_end else result.clone())
        self.values.update(dict.fromkeys(reading.keys, value))
        if is_end:
            raise _Enough
        if index not in self.deeper:
            return None
        passed = _Passed.apply(result, self.deeper[index], reading.layer.place)
        assert isinstance(passed, Tensor)
        return passed


class _Passed(torch.autograd.Function):
    """A copy that some rows' gradients do not come back through, whatever lies beyond."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Flags, place: Place | None) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.place = place or FIRST
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        (gradient,) = gradients
        return torch.where(ctx.place.spread(rows, gradient.shape), gradient, 0), None, None


class Prefix:
    """A network cut after the last of some read points, at one picture size.

    Raises UnknownName where there is no such layer, DoesNotFit where the size does not run.
    """

    def __init__(self, network: Network, keys: Iterable[str], *, rows: int, columns: int) -> None:
        self.network = network
        self.wanted = find(network, keys, rows, columns)
        self.layers = {
            key: network.layer(key, rows, columns)
            for reading in self.wanted.operations.values()
            for key in reading.keys
        }

    @property
    def depth(self) -> int:
        """The index of the last operation that runs."""
        return self.wanted.last

    @uninterrupted()
    def __call__(
        self,
        seen: Tensor,
        *,
        substitute: Substitute | None = None,
        deeper: Mapping[int, Flags] | None = None,
    ) -> dict[str, Tensor]:
        """The values of the read points for a network input; nothing after the last is computed.

        `deeper`: by operation, which rows go on from there; the gradient of the others ends there,
        and cannot be spoilt (0 * infinity is NaN) by what only their mates asked for.
        """
        values: dict[str, Tensor] = {}
        if not self.layers:
            return values
        try:
            with Recorder(self.wanted, values, stops=True, substitute=substitute, deeper=deeper):
                self.network.module(seen)
        except _Enough:
            return values
        raise DoesNotFit(
            f"a pass of {self.network.name}",
            got="its end",
            expected=f"operation {self.wanted.last}, which ran when the network was traced",
        )


@contextmanager
def record(network: Network, layers: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """A context in which each pass of the network fills a dictionary: read point -> its value.

    `layers`: names as `featviz layers` lists them, "/pre" or "/post" appended where wanted.
    The whole network runs; each pass replaces the values of the one before.

    Raises UnknownName before anything runs.
    """
    keys = tuple(layers)
    for key in keys:
        network.layer(key)
    recorded: dict[str, Tensor] = {}
    sizes: dict[tuple[int, int], Wanted] = {}
    recorder = Recorder(Wanted({}), recorded, stops=False)

    def start(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        size = (inputs[0].shape[-2], inputs[0].shape[-1])
        if size not in sizes:
            sizes[size] = Wanted({})  # the pass that traces comes through here too
            sizes[size] = find(network, keys, *size)
        recorder.restart(sizes[size])

    # First of all hooks: operations of the user's own ones were counted when tracing.
    with network.module.register_forward_pre_hook(start, prepend=True), recorder:
        yield recorded
