"""The objectives of a batch, each row its own, as a few calls that serve all rows at once."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from featviz.engine.algebra import Objective, Own, Term, stacked
from featviz.engine.seen import IMAGE, Grid, Seen
from featviz.shapes import PerImage


@dataclass(frozen=True)
class _Call:
    """One evaluation for the rows that `weights` are not zero of; the others' result is dropped."""

    term: Term
    own: Own
    is_mine: Tensor
    weights: Tensor
    is_guarded: bool
    """Rows that are not mine might turn a gradient of zero into NaN."""
    is_everyones: bool
    """All rows are mine."""

    @property
    def signature(self) -> Hashable:
        """What two calls have in common that differ in the values of their tensors alone."""
        shapes = tuple((each.shape, each.dtype) for each in self.tensors)
        return (self.term.group, self.is_guarded, self.is_everyones, shapes)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (*self.own, self.is_mine, self.weights)

    def values(self, seen: Seen) -> PerImage:
        """Weighted values; 0, with a gradient of exactly zero, for rows that are not mine."""
        if self.is_guarded:
            seen = _guarded(seen, self.term.reads, self.is_mine)
        values = self.term.evaluate(seen, self.own).to(self.weights.dtype)
        return self.weights * (
            values if self.is_everyones else torch.where(self.is_mine, values, 0)
        )


class _Guard(torch.autograd.Function):
    """The values themselves; in the gradient, zeros for rows that are not mine."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, is_mine: Tensor) -> Tensor:
        ctx.save_for_backward(is_mine)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (is_mine,) = ctx.saved_tensors
        (gradient,) = gradients
        mine = is_mine.view(-1, *[1] * (gradient.ndim - 1))
        return torch.where(mine, gradient, 0), None


def _guarded(seen: Seen, reads: Sequence[str], is_mine: Tensor) -> Seen:
    """0 * infinity is NaN: what a mate asks for must not reach a row whose values it overflows."""

    def guard(values: Tensor) -> Tensor:
        guarded = _Guard.apply(values, is_mine)
        assert isinstance(guarded, Tensor)
        return guarded

    layers = [layer for layer in reads if layer != IMAGE]
    return replace(
        seen,
        maps={each: replace(m := seen.maps[each], given=guard(m.given)) for each in layers},
        raw={each: guard(seen.raw[each]) for each in layers},
        images=guard(seen.images),
    )


class Program:
    """Evaluates a different objective in each row, without a loop over rows.

    Terms of the same group (class, layer, settings) are evaluated together, over all rows of
    the batch so that shapes never depend on who is in it; a row that has several terms of one
    group takes part in several calls. What a row gets is the sum of its own weighted terms.
    """

    def __init__(
        self, objectives: Sequence[Objective], grids: dict[str, Grid], *, like: Tensor
    ) -> None:
        _, channels, rows, columns = like.shape
        self._grids = {**grids, IMAGE: Grid(channels, rows, columns)}
        slots: dict[tuple[tuple[Hashable, ...], int], dict[int, tuple[float, Term]]] = {}
        for row, objective in enumerate(objectives):
            met: dict[tuple[Hashable, ...], int] = {}
            for weight, term in objective.terms:
                ordinal = met.get(term.group, 0)
                met[term.group] = ordinal + 1
                slots.setdefault((term.group, ordinal), {})[row] = (weight, term)
        # A row's own order of summation must not depend on its mates': sort by content.
        ordered = sorted(slots.items(), key=lambda item: (repr(item[0][0]), item[0][1]))
        self._calls = [self._call(members, len(objectives), like) for _, members in ordered]

    def takes_over(self, other: "Program") -> bool:
        """Becomes the other, in the tensors that it has, where both make the same calls.

        False, and nothing is changed, where they do not.
        """
        if [call.signature for call in self._calls] != [call.signature for call in other._calls]:
            return False
        for mine, theirs in zip(self._calls, other._calls, strict=True):
            for old, new in zip(mine.tensors, theirs.tensors, strict=True):
                old.copy_(new)
        return True

    def __call__(self, seen: Seen) -> PerImage:
        """The value of each row's objective."""
        heard, looked = self.parts(seen)
        return heard + looked

    def parts(self, seen: Seen) -> tuple[PerImage, PerImage]:
        """What the network says of each row, and what the picture alone does."""
        options = {"dtype": seen.images.dtype, "device": seen.images.device}
        heard = torch.zeros(len(seen.images), **options)
        looked = torch.zeros_like(heard)
        for call in self._calls:
            if call.term.reads == (IMAGE,):
                looked = looked + call.values(seen)
            else:
                heard = heard + call.values(seen)
        return heard, looked

    def _call(self, members: dict[int, tuple[float, Term]], count: int, like: Tensor) -> _Call:
        anyone = next(iter(members.values()))[1]
        terms = [members.get(row, (0.0, anyone))[1] for row in range(count)]
        weights = [members.get(row, (0.0, anyone))[0] for row in range(count)]
        return _Call(
            term=anyone,
            own=stacked([term.own(self._grids) for term in terms], like=like),
            is_mine=torch.tensor([row in members for row in range(count)], device=like.device),
            weights=torch.tensor(weights, dtype=like.dtype, device=like.device),
            is_guarded=len(members) < count and not anyone.is_linear,
            is_everyones=len(members) == count,
        )
