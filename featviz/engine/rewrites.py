"""Which operations of a network have a cheaper equal: found in one pass of it, with what each was
called with and who reads its result."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from featviz.engine.convolution import Beside, Convolution, Normalization
from featviz.engine.operations import Key, MaxPool, Rectifier, ResponseNormalization
from featviz.engine.redirect import bounds_of
from featviz.kernels import kernels
from featviz.kernels.layout import MOST_PLACES
from featviz.network.network import Network
from featviz.network.trace import Operation
from featviz.network.watch import Watch, plain_name

Rewrite = Convolution | Normalization | ResponseNormalization | Rectifier | MaxPool | None
"""What runs in place of an operation; None: nothing, its input is its result already."""

FORGETFUL = frozenset({"conv2d", "batch_norm", "add", "linear"})
"""Operations whose gradient does not need their result, which may be overwritten."""


def found_rewrites(network: Network, rows: int, columns: int) -> dict[Key, Rewrite]:
    """What may run in place of operations of a pass at a picture size; how it is used, and whether
    it is right, is said in `featviz.engine.accelerated`. Raises what trace does."""
    finder = _Finder(network, rows, columns)
    names = {each.index: each.name for each in finder.operations}
    return {(index, names[index]): each for index, each in finder.rewrites().items()}


class _Finder:
    """Looks through one pass of a network for operations that have a cheaper equal."""

    def __init__(self, network: Network, rows: int, columns: int) -> None:
        self.operations = network.trace(rows, columns).operations
        self.calls = _calls(network, rows, columns)
        layers = network.layers(rows, columns).values()
        self.addressed = {index for layer in layers for index in (layer.pre, layer.post)}
        self.readers: dict[int, list[Operation]] = {}
        for operation in self.operations:
            for index in operation.inputs:
                self.readers.setdefault(index, []).append(operation)

    def rewrites(self) -> dict[int, Rewrite]:
        """By the index of the operation."""
        found: dict[int, Rewrite] = {}
        for operation in self.operations:
            call = self.calls.get(operation.index)
            if isinstance(call, Convolution):
                found.update(self._convolution(operation, call))
            elif call is not None and operation.index not in found:
                found[operation.index] = call
        for operation in self.operations:
            rectifier = found.get(operation.index)
            if isinstance(rectifier, Rectifier):
                found[operation.index] = self._rectifier(operation, rectifier, found)
                if self._is_overwritten(operation):
                    del found[operation.index]
                else:
                    found.update(self._holding(operation, found))
                    found.update(self._passing(operation, found))
        return found

    def _convolution(self, operation: Operation, call: Convolution) -> dict[int, Rewrite]:
        """A convolution with what stands around it taken in, if nobody reads what lies between."""
        found: dict[int, Rewrite] = {}
        after = self._only_reader(operation)
        normalization = None if after is None else self.calls.get(after.index)
        if after is not None and isinstance(normalization, Normalization):
            call = call.then(normalization)
            found[after.index] = None
        before = operation.inputs[0]
        padding = self.calls.padding.get(before)
        if padding is not None and self._only_reader(self.operations[before]) is operation:
            padded = call.after(padding)
            if padded is not None:
                call = padded
                found[before] = None
        return {**found, operation.index: call.laid_out()}

    def _rectifier(
        self, operation: Operation, call: Rectifier, found: Mapping[int, Rewrite]
    ) -> Rectifier:
        """A rectifier that overwrites what nobody else needs."""
        (before,) = operation.inputs
        is_fresh = (
            before >= 0
            and self.operations[before].name in FORGETFUL
            and self.readers[before] == [operation]
            and operation.is_whole
        )
        readers = self.readers.get(operation.index, [])
        while len(readers) == 1 and found.get(readers[0].index, call) is None:
            readers = self.readers.get(readers[0].index, [])
        has_own_gradient = [(each.name, each.is_whole) for each in readers] == [("conv2d", True)]
        return replace(
            call, overwrites=call.overwrites or is_fresh, has_own_gradient=has_own_gradient
        )

    def _holding(self, operation: Operation, found: Mapping[int, Rewrite]) -> dict[int, Rewrite]:
        """A rectifier and the convolution before it that may share their work."""
        rectifier = found[operation.index]
        if not (isinstance(rectifier, Rectifier) and rectifier.overwrites and operation.is_whole):
            return {}
        between = list(operation.inputs)
        while between[0] >= 0 and found.get(between[0], rectifier) is None:
            between = [*self.operations[between[0]].inputs[:1], *between]
        convolution = found.get(between[0])
        is_alone = all(len(self.readers[index]) == 1 for index in between if index >= 0)
        if not (isinstance(convolution, Convolution) and is_alone):
            return {}
        beside = Beside(rectifier.bounds, tuple(between))
        return {
            between[0]: replace(convolution, held=beside),
            operation.index: replace(rectifier, before=self._key(between[0])),
        }

    def _passing(self, operation: Operation, found: Mapping[int, Rewrite]) -> dict[int, Rewrite]:
        """A rectifier and the convolution that alone reads its result."""
        rectifier = found[operation.index]
        assert isinstance(rectifier, Rectifier)
        if not rectifier.has_own_gradient:
            return {}
        between = [operation.index]
        (reader,) = self.readers[operation.index]
        while found.get(reader.index, rectifier) is None:
            between.append(reader.index)
            (reader,) = self.readers[reader.index]
        convolution = found.get(reader.index)
        if not isinstance(convolution, Convolution):
            return {}
        beside = Beside(rectifier.bounds, tuple(between))
        return {
            reader.index: replace(convolution, within=beside),
            operation.index: replace(rectifier, after=self._key(reader.index)),
        }

    def _key(self, index: int) -> Key:
        return index, self.operations[index].name

    def _only_reader(self, operation: Operation) -> Operation | None:
        """The one operation that reads another which nobody can address."""
        readers = self.readers.get(operation.index, [])
        is_alone = len(readers) == 1 and readers[0].is_whole
        return readers[0] if is_alone and operation.index not in self.addressed else None

    def _is_overwritten(self, operation: Operation) -> bool:
        """Whether the network itself might write over the result."""
        readers = self.readers.get(operation.index, [])
        return any(reader.address == operation.address for reader in readers)


class _Calls(Watch):
    """What operations were called with, apart from their input."""

    def __init__(self, wanted: Iterable[Operation]) -> None:
        super().__init__()
        self.wanted = {each.index: each for each in wanted if len(each.inputs) == 1}
        self.rewrites: dict[int, Rewrite] = {}
        self.padding: dict[int, tuple[int, int, int, int]] = {}

    def get(self, index: int) -> Rewrite:
        return self.rewrites.get(index)

    def run(self, name: str, function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        operation = self.wanted.get(self.count)
        if operation is not None and operation.name == plain_name(name):
            self._note(operation, name, args, options)
        return function(*args, **options)

    def seen(self, *_: Any, **__: Any) -> None:
        """Nothing is kept of results."""

    def _note(
        self, operation: Operation, name: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        bounds = bounds_of(name, args, options)
        if bounds is not None:
            in_place = bool(options.get("inplace")) or name.endswith("_")
            self.rewrites[operation.index] = Rectifier(*bounds, overwrites=in_place)
        elif operation.name in _READ:
            with suppress(TypeError):  # another function of the same name, such as torch.batch_norm
                self.rewrites[operation.index] = _READ[operation.name](*args, **options)
        elif operation.name == "pad":
            found = _padding(*args, **options)
            if found is not None:
                self.padding[operation.index] = found


def _calls(network: Network, rows: int, columns: int) -> _Calls:
    calls = _Calls(network.trace(rows, columns).operations)
    shape = (1, network.preprocessing.channels, rows, columns)
    pixels = network.to_input(torch.full(shape, 0.5, device=network.device))
    with calls, torch.no_grad():
        network.module(pixels)
    return calls


def _convolution(
    input: Tensor,  # noqa: ARG001
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Convolution | None:
    if isinstance(padding, str):
        return None
    pairs = (_pair(stride), _pair(padding), _pair(dilation))
    return Convolution(weight.detach(), None if bias is None else bias.detach(), *pairs, groups)


def _normalization(
    input: Tensor,  # noqa: ARG001
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,  # noqa: FBT001, FBT002
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> Normalization | None:
    if training or running_mean is None or running_var is None:
        return None
    exact = torch.float64
    scale = (running_var.to(exact) + eps).rsqrt()
    scale = scale if weight is None else scale * weight.detach().to(exact)
    shift = -running_mean.to(exact) * scale
    shift = shift if bias is None else shift + bias.detach().to(exact)
    return Normalization(scale.to(running_mean.dtype), shift.to(running_mean.dtype))


def _response(
    input: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> ResponseNormalization | None:
    return ResponseNormalization(size, alpha, beta, k) if input.ndim == 4 else None


def _max_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,  # noqa: FBT001, FBT002
    return_indices: bool = False,  # noqa: FBT001, FBT002
) -> MaxPool | None:
    size = _pair(kernel_size)
    if input.ndim != 4 or return_indices or kernels("pooling", input) is None:
        return None
    if _pair(dilation) != (1, 1) or size[0] * size[1] > MOST_PLACES:
        return None
    return MaxPool(size, _pair(stride or kernel_size), _pair(padding), is_ceil=ceil_mode)


def _padding(
    input: Tensor,
    pad: Iterable[int],
    mode: str = "constant",
    value: Any = None,
) -> tuple[int, int, int, int] | None:
    sides = tuple(pad)
    if mode != "constant" or value or len(sides) != 4 or input.ndim != 4:
        return None
    return sides[0], sides[1], sides[2], sides[3]


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[-1]))


_READ = {
    "conv2d": _convolution,
    "batch_norm": _normalization,
    "local_response_norm": _response,
    "max_pool2d": _max_pool,
}
