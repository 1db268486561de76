"""Interpolation between two objectives over the pictures of one recipe."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from featviz.engine.algebra import Objective, Own, OwnValue, Term, WeightedSum
from featviz.engine.seen import Grid, Seen
from featviz.network.network import Network
from featviz.shapes import PerImage


@dataclass(frozen=True)
class Fading(Term):
    """A term whose weight runs over the pictures of a recipe: from 0 to 1, or from 1 to 0.

    Picture n of `count` has n / (count - 1) where it rises, and 1 minus that where it does not.
    """

    couples: ClassVar[bool] = True
    is_linear: ClassVar[bool] = False

    term: Term
    rises: bool

    def __str__(self) -> str:
        return f"{'rising' if self.rises else 'falling'}({self.term})"

    @property
    def reads(self) -> tuple[str, ...]:
        return self.term.reads

    @property
    def group(self) -> tuple[Hashable, ...]:
        return ("Fading", self.rises, *self.term.group)

    def resolve_term(self, network: Network) -> Term:
        return Fading(self.term.resolve_term(network), self.rises)

    def own(self, grids: Mapping[str, Grid]) -> tuple[OwnValue, ...]:
        return self.term.own(grids)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        values = self.term.evaluate(seen, own)
        place = torch.arange(len(values), device=values.device) % seen.count
        share = place.to(values.dtype) / max(seen.count - 1, 1)
        return values * (share if self.rises else 1 - share)


def interpolation(first: Objective, second: Objective) -> Objective:
    """From all `first` to all `second` over the pictures of one recipe; render it with a `count`.

    Subtract `Misalignment` to keep neighbouring pictures alike. Source: Mordvintsev et al. 2018,
    "Differentiable Image Parameterizations", section "Aligned neuron interpolation".
    """
    falling = tuple((weight, Fading(term, rises=False)) for weight, term in first.terms)
    rising = tuple((weight, Fading(term, rises=True)) for weight, term in second.terms)
    return WeightedSum(falling + rising)
