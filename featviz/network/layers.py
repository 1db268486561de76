"""What can be addressed in a network: its unit layers, and the views on them. Runs nothing.

A *unit layer* is one convolution or linear layer; each of its output channels is a unique unit.
Every other module whose output has channels is a *view*, addressable by the same names.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from operator import itemgetter

from torch import Tensor, nn

from featviz.network.places import Place
from featviz.network.trace import INPUT, Operation, Trace


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONVOLUTIONS = _words("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d")
_WEIGHTED = _CONVOLUTIONS | {"linear"}
_PARAMETRIZATION = re.compile(r"parametrizations\.(\w+)\.original\d*$")
_OLD_NORMALIZATION = re.compile(r"weight_(orig|g|v)$")
_NORMALIZATIONS = _words(
    "batch_norm group_norm instance_norm layer_norm local_response_norm rms_norm"
)
_ACTIVATIONS = _words(
    "celu clamp clamp_min elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid "
    "mish prelu relu relu6 rrelu selu sigmoid silu softplus softshrink softsign tanh tanhshrink "
    "threshold"
)
_SUMS = _words("add sub rsub")
_CONCATENATIONS = _words("cat concat concatenate")
_UNCHANGED = _words(
    "alias_copy alpha_dropout clone contiguous detach dropout dropout1d dropout2d dropout3d "
    "feature_alpha_dropout feature_dropout float flatten identity movedim permute reshape squeeze "
    "to transpose type type_as unflatten unsqueeze view view_as"
)
"""Operations after which the values are the same ones, perhaps in another order of axes."""
_REDUCTIONS = _words("mean amax")
_PER_CHANNEL = _UNCHANGED | _ACTIVATIONS | {"batch_norm", "pad", "interpolate"}
_MIXING = _words("matmul bmm baddbmm einsum scaled_dot_product_attention")
"""Products of activations, whose axes are not those of what they read."""


@dataclass(frozen=True)
class Source:
    """Some consecutive units, seen through a view."""

    layer: str
    start: int
    count: int


@dataclass(frozen=True)
class Layer:
    """A place where a network can be read."""

    name: str
    """Path of the module."""
    kind: str
    """Of unit layers "conv", "depthwise conv", "grouped conv", "transposed conv" or "linear"; of
    views "sum", "concatenation", "pool", "activation", "normalization" or "other", after the
    operation that made the module's output; a block that ends in the nonlinearity of a sum is a
    "sum", a module that shares another's weight has the unit layer's word."""
    is_view: bool
    channels: int
    sites: tuple[int, ...]
    """Size of the map: (rows, columns), (tokens,), or () for features; where `place` is not None
    (tokens,), which are all sites of a picture in the result's own order."""
    positions: int
    """Sites, of a unit layer summed over all calls that use its weights."""
    channel_dim: int
    """Axis of the channels: 1 for maps and features, 2 for (batch, token, feature), 3 for maps
    whose channels come last; as read, by picture, where `place` is not None."""
    post: int
    """Operation to read: after the layer's own normalization and nonlinearity."""
    pre: int | None
    """Operation whose result enters the layer's own nonlinearity; None if it has none."""
    parameters: int
    """Weights and biases of a unit layer, its normalization's not counted; 0 for views."""
    place: Place | None = None
    """Where the operation's result has the pictures, if they do not have its first axis."""
    result_dim: int = 1
    """Axis of the channels in that result."""
    sources: tuple[Source, ...] = ()
    """Of a view: whose channels these are, in order, each channel through per-channel operations
    only (pool, activation, batch normalization, concatenation); empty where that is not so."""

    def by_picture(self, result: Tensor) -> Tensor:
        """What is read of the operation's result: pictures first, channels on `channel_dim`."""
        return result if self.place is None else self.place.by_picture(result, self.result_dim)


@dataclass(frozen=True)
class Totals:
    """Sums over the unit layers; views never add."""

    layers: int
    units: int
    """Unique units: output channels."""
    neurons: int
    """Units times positions."""
    parameters: int
    """Weights and biases of the unit layers."""

    @property
    def tying(self) -> float:
        """Neurons for each unique unit; 0 for a network without units."""
        return self.neurons / max(self.units, 1)


def totals(layers: Mapping[str, Layer]) -> Totals:
    """Count units, neurons and parameters of the unit layers among `layers`."""
    units = [layer for layer in layers.values() if not layer.is_view]
    return Totals(
        layers=len(units),
        units=sum(layer.channels for layer in units),
        neurons=sum(layer.channels * layer.positions for layer in units),
        parameters=sum(layer.parameters for layer in units),
    )


def layers(trace: Trace, module: nn.Module) -> dict[str, Layer]:
    """All layers that `trace`, a trace of `module`, can read by name, in order of execution.

    *Unit layers.* A convolution or `linear` that reads its module's own weight makes that module
    a unit layer, whatever its class. A weight of another name has a name of its own: the
    `in_proj_weight` of an attention makes `attention.in_proj` a unit layer. Called several times
    it counts once and is read in its last call; so do modules that share a weight: the first to
    run has the units, the others are views. Its own normalization and nonlinearity are those that
    follow it with no branch and nothing else mixed in: conv -> [norm] -> [activation]. A sum in
    between ends that chain.

    *Views.* All other modules that returned a tensor with channels. Several names may read one
    operation: a block, its last part, the unit layer itself. The network itself has no name.

    *Where the channels are.* Convolutions and 2-D results: axis 1. `linear`: the last. From there
    operations keep the axis, reordering of axes is followed through the strides, and a shape that
    had channels before has them again (channel shuffle). Elsewhere (attention maps) there are
    none, and no layer.

    *Where the pictures are.* Mostly axis 0. Elsewhere (attention that has tokens first, windows
    merged with the batch) as `places` measured; such layers are read as (picture, token, channel).

    Not addressable: layers whose result does not depend on the input, or in which the pictures
    cannot be told apart, and weights that are applied in pieces (the `in_proj_weight` of an
    attention whose queries and keys differ).
    """
    chart = _Chart(trace)
    calls = [
        call
        for call in _unit_calls(trace, module)
        if chart.is_readable(call.index)
        and chart.operations[call.index].weight_size == _weight(call, module).numel()
    ]
    first_with: dict[str, str] = {}  # weight -> the module that has its units
    positions: Counter[str] = Counter()
    unit_at: dict[int, str] = {}  # operation -> the unit layer whose channels its result has
    for call in calls:
        first = first_with.setdefault(call.weight, call.owner)
        positions[first] += prod(chart.sites(call.index))
        unit_at |= dict.fromkeys(chart.chain(call.index).passed, first)
    last_calls = {call.owner: call for call in calls}
    found = [
        (call.index, _unit(call, chart, module, first_with[call.weight], positions))
        for call in last_calls.values()
    ]
    found += [
        (made, _view(path, made, chart, unit_at))
        for path, made in trace.outputs.items()
        if path and path not in last_calls and chart.is_readable(made)
    ]
    return {layer.name: layer for _, layer in sorted(found, key=itemgetter(0))}


@dataclass(frozen=True)
class _Call:
    """One use of a unit layer's weight."""

    index: int
    weight: str
    """Name of the parameter, the same for all modules that share it."""
    owner: str


def _unit_calls(trace: Trace, module: nn.Module) -> list[_Call]:
    """The operations that make a module a unit layer.

    The owner is the module that is running, if it reads its own weight; a module that never runs,
    whose parent applies its weight, owns that operation too.
    """
    modules = {name for name, _ in module.named_modules()}
    first_names = {id(parameter): name for name, parameter in module.named_parameters()}
    running = {operation.module for operation in trace.operations}
    calls = []
    for operation in trace.operations:
        if operation.name not in _WEIGHTED or not operation.inputs:
            continue
        parameters = module.get_submodule(operation.module).named_parameters()
        own = {first_names[id(each)] for name, each in parameters if _holder(name) == ""}
        for weight in operation.parameters:
            owner = operation.module if weight in own else _holder(weight)
            if owner in modules and _applied(weight)[1] != "weight":
                owner = f"{owner}_weight"
            if owner and (weight in own or owner not in running):
                calls.append(_Call(operation.index, weight, owner))
                break
    return calls


def _holder(parameter: str) -> str | None:
    """Path of the module whose weight this parameter is, or makes; None if it is no weight.

    A weight with a name of its own ("in_proj_weight") is held as if a module had that name; where
    one has, the weight keeps its whole name.
    """
    path, last = _applied(parameter)
    if last == "weight":
        return path
    name = last.removesuffix("_weight")
    return ".".join(filter(None, (path, name))) if "weight" in last.split("_") else None


def _applied(parameter: str) -> tuple[str, str]:
    """The module and the name under which it uses a parameter, or what that one is to make."""
    plain = _PARAMETRIZATION.sub(r"\1", parameter)
    path, _, last = plain.rpartition(".")
    return path, _OLD_NORMALIZATION.sub("weight", last)


def _unit(
    call: _Call, chart: "_Chart", module: nn.Module, first: str, positions: Mapping[str, int]
) -> Layer:
    chain = chart.chain(call.index)
    operation = chart.operations[call.index]
    channels, sites = chart.channels(chain.post), chart.sites(chain.post)
    is_view = first != call.owner
    sizes = [module.get_parameter(name).numel() for name in operation.parameters]
    return Layer(
        name=call.owner,
        kind=_unit_kind(operation, chart, _weight(call, module)),
        is_view=is_view,
        channels=channels,
        sites=sites,
        positions=prod(sites) if is_view else positions[first],
        channel_dim=chart.read_dim(chain.post),
        place=chart.places.get(chain.post),
        result_dim=chart.dim(chain.post),
        post=chain.post,
        pre=chain.pre,
        parameters=0 if is_view else sum(sizes),
        sources=(Source(first, 0, channels),) if is_view else (),
    )


def _weight(call: _Call, module: nn.Module) -> Tensor:
    """The weight as it is applied, which parametrizations may make of several parameters."""
    path, name = _applied(call.weight)
    weight = getattr(module.get_submodule(path), name)
    assert isinstance(weight, Tensor)
    return weight


def _unit_kind(operation: Operation, chart: "_Chart", weight: Tensor) -> str:
    if operation.name == "linear":
        return "linear"
    if operation.name.startswith("conv_transpose"):
        return "transposed conv"
    channels = chart.shape(operation.inputs[0])[1]
    groups = channels // weight.shape[1]
    if groups == 1:
        return "conv"
    return "depthwise conv" if groups == channels else "grouped conv"


def _view(path: str, made: int, chart: "_Chart", unit_at: Mapping[int, str]) -> Layer:
    return Layer(
        name=path,
        kind=_view_kind(path, made, chart),
        is_view=True,
        channels=chart.channels(made),
        sites=chart.sites(made),
        positions=prod(chart.sites(made)),
        channel_dim=chart.read_dim(made),
        place=chart.places.get(made),
        result_dim=chart.dim(made),
        post=made,
        pre=None,
        parameters=0,
        sources=_sources(chart, made, unit_at) or (),
    )


def _view_kind(path: str, made: int, chart: "_Chart") -> str:
    operation = chart.operations[made]
    while operation.name in _UNCHANGED and operation.inputs[:1] > (INPUT,):
        operation = chart.operations[operation.inputs[0]]
    if operation.name in _ACTIVATIONS and operation.module != path and operation.inputs > (INPUT,):
        before = chart.operations[operation.inputs[0]]
        operation = before if before.name in _SUMS else operation
    kinds = {
        "sum": operation.name in _SUMS,
        "concatenation": operation.name in _CONCATENATIONS,
        "pool": _is_pool(operation),
        "activation": operation.name in _ACTIVATIONS,
        "normalization": operation.name in _NORMALIZATIONS,
    }
    return next((kind for kind, is_it in kinds.items() if is_it), "other")


def _is_pool(operation: Operation) -> bool:
    return "pool" in operation.name or operation.name in _REDUCTIONS


def _sources(chart: "_Chart", index: int, unit_at: Mapping[int, str]) -> tuple[Source, ...] | None:
    """The units that the channels of a result are, in order; None where that is not known."""
    if index in unit_at:
        return (Source(unit_at[index], 0, chart.channels(index)),)
    if index == INPUT or not chart.has_channels(index) or not chart.operations[index].is_whole:
        return None
    operation = chart.operations[index]
    inputs = operation.inputs
    if not all(chart.has_channels(each) for each in inputs):
        return None
    if operation.name in _CONCATENATIONS:
        is_exact = sum(map(chart.channels, inputs)) == chart.channels(index)
    else:
        is_one_to_one = operation.name in _PER_CHANNEL or _is_pool(operation)
        is_exact = len(inputs) == 1 and is_one_to_one and chart.keeps_channels(index)
    parts = [_sources(chart, each, unit_at) for each in inputs] if is_exact else [None]
    return None if None in parts else tuple(source for part in parts if part for source in part)


@dataclass(frozen=True)
class _Chain:
    """A unit layer's own operations: itself, its normalization, its nonlinearity."""

    post: int
    pre: int | None
    passed: tuple[int, ...]


class _Chart:
    """The operations of a trace, with who reads them and where their channels are."""

    def __init__(self, trace: Trace) -> None:
        self.operations = trace.operations
        self.places = trace.places
        self._input_shape = trace.input_shape
        self._readers: dict[int, set[int]] = defaultdict(set)
        self._axes: dict[int, int | None] = {INPUT: 1 if len(trace.input_shape) > 1 else None}
        self._last_known: dict[int, tuple[tuple[int, ...], int]] = {}
        """For each operation the shape and channel axis of the latest before it that has one."""
        if self._axes[INPUT] is not None:
            self._last_known[INPUT] = (trace.input_shape, 1)
        for operation in trace.operations:
            for each in operation.inputs:
                self._readers[each].add(operation.index)
            self._place(operation)

    def shape(self, index: int) -> tuple[int, ...]:
        return self._input_shape if index == INPUT else self.operations[index].shape

    def has_channels(self, index: int) -> bool:
        return self._axes[index] is not None

    def dim(self, index: int) -> int:
        """The axis of the channels; ask `has_channels` first."""
        axis = self._axes[index]
        assert axis is not None
        return axis

    def channels(self, index: int) -> int:
        return self.shape(index)[self.dim(index)]

    def read_dim(self, index: int) -> int:
        """The axis of the channels once the result is by picture."""
        return 2 if index in self.places else self.dim(index)

    def sites(self, index: int) -> tuple[int, ...]:
        shape, dim = self.shape(index), self.dim(index)
        if index in self.places:
            return (prod(shape) // (shape[dim] * self._input_shape[0]),)
        return (*shape[1:dim], *shape[dim + 1 :])

    def is_readable(self, index: int) -> bool:
        """It has channels, depends on the pictures, and one can tell what is whose picture's."""
        if not (self.has_channels(index) and self.operations[index].inputs):
            return False
        place = self.places.get(index)
        is_first = place is None and self.shape(index)[0] == self._input_shape[0]
        return is_first or (place is not None and place.axis < self.dim(index))

    def keeps_channels(self, index: int) -> bool:
        """It has as many channels as the one that it read."""
        before = self.operations[index].inputs[0]
        if not (self.has_channels(index) and self.has_channels(before)):
            return False
        return self.channels(index) == self.channels(before)

    def chain(self, start: int) -> _Chain:
        """Follow conv -> [norm] -> [activation] as far as each result has one reader."""
        at = post = start
        passed = [start]
        while (follower := self._only_reader(at)) is not None:
            name = self.operations[follower].name
            is_first_norm = name in _NORMALIZATIONS and post == start
            if not (is_first_norm or name in _ACTIVATIONS or name in _UNCHANGED):
                break
            passed.append(follower)
            if name in _ACTIVATIONS:
                return _Chain(follower, at, tuple(passed))
            post = follower if is_first_norm else post
            at = follower
        return _Chain(post, None, tuple(passed))

    def _only_reader(self, index: int) -> int | None:
        """The one operation that reads this result and no other, with the same channels."""
        readers = self._readers[index]
        follower = next(iter(readers)) if len(readers) == 1 else None
        if follower is None or not self.operations[follower].is_whole:
            return None
        is_alone = set(self.operations[follower].inputs) == {index}
        is_same = self.is_readable(follower) and self.keeps_channels(follower)
        return follower if is_alone and is_same else None

    def _place(self, operation: Operation) -> None:
        """Find the operation's channel axis from its name or from what it read."""
        source = next((each for each in operation.inputs if each in self._last_known), None)
        axis = _own_axis(operation)
        if axis is None and source is not None:
            axis = self._followed(operation, source)
        if axis is None and operation.name in _NORMALIZATIONS:
            axis = len(operation.shape) - 1 or None
        self._axes[operation.index] = axis
        if axis is not None:
            self._last_known[operation.index] = (operation.shape, axis)
        elif source is not None:
            self._last_known[operation.index] = self._last_known[source]

    def _followed(self, operation: Operation, source: int) -> int | None:
        """The axis that was the channels' in `source`, after this operation."""
        shape, axis = self._last_known[source]
        if operation.name in _MIXING and len(set(operation.inputs)) > 1:
            return None
        if self._axes[source] is None:  # lost on the way; a shape seen before has them again
            return axis if operation.shape == shape else None
        sizes = range(1, len(operation.shape))
        alike = [each for each in sizes if operation.shape[each] == shape[axis]]
        if source != INPUT and operation.address == self.operations[source].address:
            stride = self.operations[source].strides[axis]
            here = [each for each in alike if operation.strides[each] == stride]
            if here:
                return axis if axis in here else here[0]
        if len(operation.shape) == len(shape):
            return axis
        return alike[0] if len(alike) == 1 else None


def _own_axis(operation: Operation) -> int | None:
    """The channel axis that an operation's name and result alone decide."""
    if operation.name in _CONVOLUTIONS or len(operation.shape) == 2:
        return 1
    return len(operation.shape) - 1 if operation.name == "linear" else None
