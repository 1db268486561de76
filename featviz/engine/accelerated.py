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
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from featviz.engine.bottleneck import Bottleneck, bottlenecks
from featviz.engine.convolution import Beside, Convolution
from featviz.engine.operations import Key, Passing, Rectifier
from featviz.engine.presumed import Presumed
from featviz.engine.redirect import pictures_first, redirected
from featviz.engine.rewrites import Rewrite, found_rewrites
from featviz.image.seeds import uniform
from featviz.network.network import Network
from featviz.network.recording import Prefix
from featviz.network.watch import plain_name
from featviz.shapes import Flags

MOST_SIZES = 8
"""Picture sizes whose folded weights are kept, for each network."""

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
        in_pairs: bool = False,
    ) -> None:
        self.rewrites = rewrites
        self.pictures_first = pictures_first
        self.redirects = redirects
        self.read = read
        self.joins = joins
        """Whether bottlenecks are one operation."""
        self.presumed = presumed
        """Of redirected gradients; without, each rectifier works for itself on the way back."""
        self.in_pairs = in_pairs
        """Whether convolutions round the factors of their products, see there."""
        self._bottlenecks = bottlenecks(rewrites, self._is_passed) if joins else {}
        self._runs: dict[Bottleneck, bool] = {}
        self._held: dict[int, bool] = {}
        self._passing: dict[int, Passing] = {}

    def redirecting(self, rows: Flags, presumed: Presumed | None = None) -> "Accelerated":
        """The same with redirected gradients of rectifiers in some rows of the batch.

        `presumed`: for one pass, which is quicker; its gradients hold if that is not refuted.
        """
        return self._with(redirects=rows, presumed=presumed)

    def reading(self, operations: Collection[int]) -> "Accelerated":
        """The same for passes of which only these operations are read."""
        return self._with(read=operations)

    def apart(self) -> "Accelerated":
        """The same with bottlenecks operation by operation."""
        return self._with(joins=False)

    def paired(self) -> "Accelerated":
        """The same with `in_pairs`."""
        return self._with(in_pairs=True)

    def _with(self, **changes: Any) -> "Accelerated":
        names = ("rewrites", "pictures_first", "redirects", "read", "joins", "presumed", "in_pairs")
        return Accelerated(**{**{name: getattr(self, name) for name in names}, **changes})

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
            told = {"presumed": self.presumed, "in_pairs": self.in_pairs}
            return rewrite(values, holds=self._held[index], passes=passes, **told)
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
        if rewrite is bottleneck.entry:
            self._runs[bottleneck] = bottleneck.runs_on(values)
        return self._runs[bottleneck]

    def _run(self, bottleneck: Bottleneck, index: int, values: Tensor) -> Tensor:
        """All of a bottleneck's operations; the last of them has this index."""
        holds = self._held[index] = self._is_private(bottleneck.last.held)
        passes = self._passes(bottleneck.entry, values)
        told = {"presumed": self.presumed, "in_pairs": self.in_pairs}
        return bottleneck(values, holds=holds, passes=passes, **told)

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
    if network.in_pairs:
        exact = network.at(network.device, network.dtype)
        return accelerated(exact, rows, columns).paired()
    sizes = _known.setdefault(network, {})
    if (rows, columns) not in sizes:
        while len(sizes) >= MOST_SIZES:
            del sizes[next(iter(sizes))]
        with torch.inference_mode(mode=False):
            first = pictures_first(network.trace(rows, columns).operations)
            rewrites = _sharing(found_rewrites(network, rows, columns), sizes.values())
            found = Accelerated(rewrites, first)
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
