"""The same network, computed faster on the way to a gradient; what can be read stays the same.

A convolution takes in the normalization after it and the lopsided padding before it; rectifiers
write in place and remember their result alone; local response normalization sums over channels as
a convolution does. Pools remember a byte for each result where kernels run; rectifiers and the
convolutions beside them share their work (see `Convolution`). Convolutions that the device's
library is slow with go other ways (see `featviz.engine.convolution`), bottlenecks as one (see
`featviz.engine.bottleneck`). What is replaced depends on the network and the picture size, never
on what a batch wants, and what a batch reads on the way changes no bit of the rest, so that mates
stay strangers.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from featviz.engine.bottleneck import Bottleneck, bottlenecks
from featviz.engine.convolution import Beside, Convolution, Normalization
from featviz.engine.operations import Key, MaxPool, Passing, Rectifier, ResponseNormalization
from featviz.engine.presumed import Presumed
from featviz.engine.redirect import bounds_of, pictures_first, redirected
from featviz.image.seeds import uniform
from featviz.kernels import kernels
from featviz.kernels.layout import MOST_PLACES
from featviz.network.network import Network
from featviz.network.recording import Prefix
from featviz.network.trace import Operation
from featviz.network.watch import Watch, plain_name
from featviz.shapes import Flags

Rewrite = Convolution | Normalization | ResponseNormalization | Rectifier | MaxPool | None
"""What runs in place of an operation; None: nothing, its input is its result already."""

MOST_SIZES = 8
"""Picture sizes whose folded weights are kept, for each network."""
FORGETFUL = frozenset({"conv2d", "batch_norm", "add", "linear"})
"""Operations whose gradient does not need their result, which may be overwritten."""

_REFUSALS = (RuntimeError, TypeError, ValueError, AssertionError, LookupError, ArithmeticError)
"""What a network may raise that is given what it did not expect."""

_known: "WeakKeyDictionary[Network, dict[tuple[int, int], Accelerated]]" = WeakKeyDictionary()


class Accelerated:
    """A `Substitute` for `Prefix`: cheaper operations by index and name, the others as they are.

    What an operation has done of another's work it notes for the pass, and the other goes by that:
    what holds for the one (a precision, autocast) need not hold for the other.
    """

    def __init__(
        self,
        rewrites: Mapping[Key, Rewrite],
        pictures_first: frozenset[int],
        redirects: Flags | None = None,
        read: Collection[int] | None = None,
        *,
        joins: bool = True,
        presumed: Presumed | None = None,
    ) -> None:
        self.rewrites = rewrites
        self.pictures_first = pictures_first
        self.redirects = redirects
        self.read = read
        self.joins = joins
        """Whether bottlenecks are one operation."""
        self.presumed = presumed
        """Of redirected gradients; without, each rectifier works for itself on the way back."""
        self._bottlenecks = bottlenecks(rewrites, self._is_passed) if joins else {}
        self._runs: dict[Bottleneck, bool] = {}
        self._held: dict[int, bool] = {}
        self._passing: dict[int, Passing] = {}

    def redirecting(self, rows: Flags, presumed: Presumed | None = None) -> "Accelerated":
        """The same with redirected gradients of rectifiers in some rows of the batch.

        `presumed`: for one pass, which is quicker; its gradients hold if that is not refuted.
        """
        found = self.rewrites, self.pictures_first, rows, self.read
        return Accelerated(*found, joins=self.joins, presumed=presumed)

    def reading(self, operations: Collection[int]) -> "Accelerated":
        """The same for passes of which only these operations are read."""
        found = self.rewrites, self.pictures_first, self.redirects, operations
        return Accelerated(*found, joins=self.joins, presumed=self.presumed)

    def apart(self) -> "Accelerated":
        """The same with bottlenecks operation by operation."""
        found = self.rewrites, self.pictures_first, self.redirects, self.read
        return Accelerated(*found, joins=False, presumed=self.presumed)

    def __call__(
        self, index: int, name: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Tensor | None:
        key = index, plain_name(name)
        redirects = self.redirects if index in self.pictures_first else None
        if key not in self.rewrites:
            if redirects is None:
                return None
            return redirected(index, name, args, options, rows=redirects)
        values = args[0] if args else options["input"]
        rewrite = self.rewrites[key]
        bottleneck = self._bottlenecks.get(key)
        if bottleneck is not None and self._runs_on(bottleneck, rewrite, values):
            return self._run(bottleneck, index, values) if rewrite is bottleneck.last else values
        if isinstance(rewrite, Convolution):
            self._held[index] = self._is_private(rewrite.held) and rewrite.can_hold(values)
            passes = self._passes(rewrite, values)
            return rewrite(values, holds=self._held[index], passes=passes, presumed=self.presumed)
        if isinstance(rewrite, Rectifier):
            self._passing[index] = Passing()
            return rewrite(
                values,
                redirects,
                is_read=self.read is None or index in self.read,
                before=self._holding(rewrite),
                passing=self._passing[index],
            )
        return values if rewrite is None else rewrite(values)

    def _runs_on(self, bottleneck: Bottleneck, rewrite: Rewrite, values: Tensor) -> bool:
        """Whether a bottleneck is one operation in this pass: its first decides for all."""
        if rewrite is bottleneck.first:
            self._runs[bottleneck] = bottleneck.runs_on(values)
        return self._runs[bottleneck]

    def _run(self, bottleneck: Bottleneck, index: int, values: Tensor) -> Tensor:
        """All of a bottleneck's operations; the last of them has this index."""
        holds = self._held[index] = self._is_private(bottleneck.last.held)
        passes = self._passes(bottleneck.first, values)
        return bottleneck(values, holds=holds, passes=passes, presumed=self.presumed)

    def _holding(self, rectifier: Rectifier) -> Convolution | None:
        """The convolution that has done its part of a rectifier's work."""
        if rectifier.before is None or not self._held[rectifier.before[0]]:
            return None
        found = self.rewrites[rectifier.before]
        assert isinstance(found, Convolution)
        return found

    def _passes(self, convolution: Convolution, values: Tensor) -> bool:
        """Whether it does the work of the rectifier before it on the way back."""
        within = convolution.within
        if within is None or not self._is_passed(within):
            return False
        passing = self._passing[within.between[0]]
        passing.is_done = convolution.can_pass(values)
        return passing.is_done

    @property
    def has_bottlenecks(self) -> bool:
        """Whether some are one operation."""
        return bool(self._bottlenecks)

    def _is_passed(self, rectifier: Beside | None) -> bool:
        """Whether a convolution may do a rectifier's work on the way back, too."""
        if rectifier is None or not self._is_private(rectifier):
            return False
        is_presumed = self.presumed is not None and rectifier.between[0] in self.pictures_first
        return self.redirects is None or is_presumed

    def _is_private(self, rectifier: Beside | None) -> bool:
        """Whether nobody reads what lies between a convolution and a rectifier."""
        if rectifier is None or self.read is None:
            return False
        return not any(index in self.read for index in rectifier.between)


def accelerated(network: Network, rows: int, columns: int) -> Accelerated:
    """The cheaper operations of a network at a picture size, found once and checked once.

    Where one picture tells the network with them from the network as it is, none is used: what a
    trace cannot see (a scripted function, a weight made from the picture) may read what they
    leave out. Raises what trace does.
    """
    sizes = _known.setdefault(network, {})
    if (rows, columns) not in sizes:
        while len(sizes) >= MOST_SIZES:
            del sizes[next(iter(sizes))]
        with torch.inference_mode(mode=False):
            finder = _Finder(network, rows, columns)
            names = {each.index: each.name for each in finder.operations}
            first = pictures_first(finder.operations)
            rewrites = {(index, names[index]): each for index, each in finder.rewrites().items()}
            found = Accelerated(_sharing(rewrites, sizes.values()), first)
            is_good = not found.rewrites or _is_good(network, found, rows, columns)
            found = found if is_good else Accelerated({}, first)
            joins = _joins(network, found, rows, columns)
            sizes[rows, columns] = found if joins else found.apart()
    return sizes[rows, columns]


def _sharing(rewrites: Mapping[Key, Rewrite], others: Iterable[Accelerated]) -> dict[Key, Rewrite]:
    """The same, with the convolutions of plans for other sizes where they are alike: weights, and
    what is made of them, are kept once."""
    shared = dict(rewrites)
    for other in others:
        for key, mine in shared.items():
            theirs = other.rewrites.get(key)
            if isinstance(mine, Convolution) and isinstance(theirs, Convolution):
                shared[key] = theirs if theirs.is_like(mine) else mine
    return shared


def _is_good(network: Network, plan: Accelerated, rows: int, columns: int) -> bool:
    """Whether the plan says what the network says, looked at in float32 at least: in a lower
    precision rounding alone tells the two apart."""
    exact = network.at(network.device, torch.promote_types(network.dtype, torch.float32))
    if exact is network:
        return _is_equal(network, plan, rows, columns)
    return bool(accelerated(exact, rows, columns).rewrites)


def _is_equal(network: Network, plan: Accelerated, rows: int, columns: int) -> bool:
    """Whether all that can be addressed, and the gradient of the last, are the network's own."""
    layers = network.layers(rows, columns)
    last = max(layers, key=lambda key: layers[key].post)
    prefix = Prefix(network, layers, rows=rows, columns=columns)
    try:
        plain, expected = _said(network, prefix, None, last, (rows, columns))
        fast, gradient = _said(network, prefix, plan, last, (rows, columns))
        end = Prefix(network, [last], rows=rows, columns=columns)
        bare = plan.apart().reading(end.wanted.operations)  # as a batch runs that reads it alone
        faster, steeper = _said(network, end, bare, last, (rows, columns))
    except torch.OutOfMemoryError:
        raise
    except _REFUSALS:
        return False
    # Rounding grows through a network; what is wrong differs by a large part of its size.
    is_same = all(_is_close(fast[key], plain[key], share=0.02) for key in plain)
    is_same = is_same and _is_close(faster[last], plain[last], share=0.02)
    return is_same and all(_is_close(g, expected, share=0.5) for g in (gradient, steeper))


def _joins(network: Network, plan: Accelerated, rows: int, columns: int) -> bool:
    """Whether bottlenecks as one operation make no bit of difference: what stands between their
    operations is given maps of another size then, and may look at that."""
    layers = network.layers(rows, columns)
    last = max(layers, key=lambda key: layers[key].post)
    end = Prefix(network, [last], rows=rows, columns=columns)
    bare = plan.reading(end.wanted.operations)
    if not bare.has_bottlenecks:
        return True
    apart, expected = _said(network, end, bare.apart(), last, (rows, columns))
    try:
        joined, gradient = _said(network, end, bare, last, (rows, columns))
    except torch.OutOfMemoryError:
        raise
    except _REFUSALS:
        return False
    return torch.equal(joined[last], apart[last]) and torch.equal(gradient, expected)


def _said(
    network: Network, prefix: Prefix, plan: Accelerated | None, last: str, size: tuple[int, int]
) -> tuple[dict[str, Tensor], Tensor]:
    """What the network says of noise, and the gradient there of the last of it."""
    (rows, columns), channels = size, network.preprocessing.channels
    first = torch.zeros(1, dtype=torch.int64)
    values = uniform(first, first, purpose="check", count=channels * rows * columns)
    noise = values.float().view(1, channels, rows, columns)
    with torch.enable_grad():
        images = noise.to(network.device).requires_grad_()
        said = prefix(network.to_input(images), substitute=plan)
        (gradient,) = torch.autograd.grad(said[last].float().square().mean(), images)
    return {key: value.detach().double() for key, value in said.items()}, gradient.double()


def _is_close(mine: Tensor, theirs: Tensor, *, share: float) -> bool:
    """Whether tensors differ, in root mean square, by at most this share of their size.

    Where theirs is not finite nothing can be told.
    """
    if not bool(theirs.isfinite().all()):
        return True
    return bool((mine - theirs).norm() <= share * theirs.norm() + 1e-9)


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
