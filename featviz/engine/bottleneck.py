"""Bottlenecks as one operation on a CPU: a convolution of one place that makes maps wide, one of
each channel's own window, one of one place that makes them narrow again, the rectifiers between.
The first of the five and its rectifier may be missing.

What is wide is never written to memory; of its rectifiers a bit each is kept for the way back. To
the bit it is what the five are one by one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featviz.engine.convolution import Beside, Convolution
from featviz.engine.once import once
from featviz.engine.operations import Key, Rectifier
from featviz.engine.presumed import Presumed, stirs_by_row
from featviz.engine.ways import Depthwise, Direct
from featviz.kernels.host import runs_on
from featviz.kernels.host.rectifying import NOTHING, Bounds, Rectifying


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """The three convolutions; nobody reads what lies between them."""

    first: Convolution | None
    own: Convolution
    last: Convolution

    @property
    def fits(self) -> bool:
        """Whether the three are of the kinds that the kernel knows."""
        from featviz.kernels.host.bottleneck import WIDE

        is_whole = self.own.weight.shape[0] % WIDE == 0
        is_narrow = self.last.is_pointwise and (self.first is None or self.first.is_pointwise)
        return is_narrow and self.own.is_depthwise and is_whole and runs_on(self.own.weight)

    @property
    def entry(self) -> Convolution:
        """The one that is given the maps."""
        return self.first or self.own

    @property
    def between(self) -> tuple[Beside | None, ...]:
        """What nobody may read."""
        behind = self.own.held, self.last.within
        return behind if self.first is None else (self.first.held, self.own.within, *behind)

    def runs_on(self, values: Tensor) -> bool:
        """Whether it takes the place of the five for maps such as these."""
        return values.ndim == 4 and runs_on(values)

    def __call__(
        self,
        values: Tensor,
        *,
        holds: bool,
        passes: bool,
        presumed: Presumed | None = None,
        in_pairs: bool = False,
    ) -> Tensor:
        """For the rectifiers beside it, and for pairs, see `Convolution`."""
        held = self.last.held.bounds if holds and self.last.held else None
        within = self.entry.within.bounds if passes and self.entry.within else None
        ways = self.ways(in_pairs=in_pairs)
        result = _Run.apply(values, ways, self.bounds, held, within, presumed)
        assert isinstance(result, Tensor)
        return result

    def ways(self, *, in_pairs: bool) -> tuple[Direct | None, Depthwise, Direct]:
        """How the three are computed."""
        first, last = self.first, self.last
        if in_pairs:
            return None if first is None else first.paired, self.own.depthwise, last.paired
        return None if first is None else first.direct, self.own.depthwise, last.direct

    @property
    def bounds(self) -> tuple[Bounds, Bounds]:
        """Of the rectifiers between; none, where there is no first."""
        first = None if self.first is None else self.first.held
        assert self.own.held is not None
        return NOTHING.bounds if first is None else first.bounds, self.own.held.bounds


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        ways: tuple[Direct | None, Depthwise, Direct],
        bounds: tuple[Bounds, Bounds],
        held: Bounds | None,
        within: Bounds | None,
        presumed: Presumed | None,
    ) -> Tensor:
        from featviz.kernels.host.bottleneck import Step, there

        first, own, last = ctx.ways = ways
        size = own.window.output_size(*values.shape[2:])
        steps = (
            Step(None) if first is None else Step(first.forward, first.bias, first.in_pairs[0]),
            Step(own.weight, own.bias),
            Step(last.forward, last.bias, last.in_pairs[0]),
        )
        result, marks = there(
            *(values, steps, bounds, own.used, (last.channels[1], *size)),
            NOTHING if held is None else Rectifying(held),
        )
        ctx.within, ctx.size = within, tuple(values.shape[2:])
        ctx.presumed = presumed
        ctx.save_for_backward(*marks, *([] if within is None else [values]))
        return result

    @staticmethod
    @once
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        from featviz.kernels.host.bottleneck import Marks, Step, back

        first, own, last = ctx.ways
        before, after, *values = ctx.saved_tensors
        passing = Rectifying(ctx.within, *values) if values else NOTHING
        steps = (
            Step(last.backward, in_pairs=last.in_pairs[1]),
            Step(own.weight),
            Step(None) if first is None else Step(first.backward, in_pairs=first.in_pairs[1]),
        )
        channels = own.weight.shape[1] if first is None else first.channels[0]
        marks, shape = Marks(before, after), (channels, *ctx.size)
        if ctx.presumed is None:
            found = back(gradients[0], steps, marks, own.used, shape, passing)
            return found, None, None, None, None, None
        stirring = torch.zeros((2, len(gradients[0])), dtype=torch.bool)
        found = back(gradients[0], steps, marks, own.used, shape, passing, stirring)
        inside = stirring[:1] if first is None else stirring
        at_input = [stirs_by_row(found)] if values else []
        ctx.presumed.look(stirs_by_row(gradients[0]), *inside, *at_input)
        return found, None, None, None, None, None


def bottlenecks(
    rewrites: Mapping[Key, Any], is_passed: Callable[[Beside | None], bool]
) -> dict[Key, Bottleneck]:
    """The bottleneck that each of its operations belongs to; `is_passed`: whether a convolution may
    do a rectifier's work."""
    found: dict[Key, Bottleneck] = {}
    rectifiers = {
        each.before: (key, each.after)
        for key, each in rewrites.items()
        if isinstance(each, Rectifier) and each.before is not None and each.after is not None
    }

    def take(first: tuple[Key, ...], own: Key) -> None:
        """As one operation what may be; `first`: a convolution and its rectifier, or nothing."""
        after, last = rectifiers[own]
        made = Bottleneck(rewrites[first[0]] if first else None, rewrites[own], rewrites[last])
        keys = (*first, own, after, last)
        if made.fits and all(map(is_passed, made.between)) and not found.keys() & set(keys):
            found.update(dict.fromkeys(keys, made))

    for first, (after, own) in rectifiers.items():
        if own in rectifiers:
            take((first, after), own)
    for own in rectifiers:
        take((), own)
    return found
