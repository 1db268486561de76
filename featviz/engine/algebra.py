"""What an objective is: a weighted sum of terms, as data. Everything is maximized.

Expressions are exact: `A - B`, `A + 2 * B` and `-(A - B)` hold the weights that they say, and
no operand is changed. Each objective gives one number for each picture.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from featviz.engine.seen import IMAGE, Grid, Seen
from featviz.errors import DoesNotFit, OutOfRange
from featviz.network.network import Network
from featviz.shapes import PerImage

OwnValue = int | tuple[float, ...] | Tensor
"""Something of one row: an index, a vector, or values of any shape."""

Own = tuple[Tensor, ...]
"""The same of all rows: first dimension the row."""


class Objective(ABC):
    """Something to maximize; adds, subtracts, and takes numbers as factors."""

    @property
    @abstractmethod
    def terms(self) -> "tuple[tuple[float, Term], ...]":
        """Weight and term, in the order in which they were written."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The read points it needs of the network, each once."""
        reads = (layer for _, term in self.terms for layer in term.reads if layer != IMAGE)
        return tuple(dict.fromkeys(reads))

    @property
    def is_coupled(self) -> bool:
        """It compares the pictures of one recipe, so they must travel together."""
        return any(term.couples for _, term in self.terms)

    def resolve(self, network: Network) -> "Objective":
        """The same with every name replaced by what it names in `network`, all of it checked.

        Raises UnknownName, OutOfRange, DoesNotFit.
        """
        return WeightedSum(tuple((w, term.resolve_term(network)) for w, term in self.terms))

    def __add__(self, other: "Objective") -> "Objective":
        return WeightedSum(self.terms + other.terms) if _is(other) else NotImplemented

    def __radd__(self, other: int) -> "Objective":
        return self if other == 0 else NotImplemented  # 0 is where sum() starts

    def __neg__(self) -> "Objective":
        return self * -1.0

    def __sub__(self, other: "Objective") -> "Objective":
        return self + (-other) if _is(other) else NotImplemented

    def __mul__(self, factor: int | float) -> "Objective":
        if _is(factor):
            return NotImplemented
        return WeightedSum(tuple((float(weight * factor), term) for weight, term in self.terms))

    def __rmul__(self, factor: int | float) -> "Objective":
        return self * factor

    def __truediv__(self, divisor: int | float) -> "Objective":
        if _is(divisor):
            return NotImplemented
        return WeightedSum(tuple((float(weight / divisor), term) for weight, term in self.terms))

    def __call__(self, seen: Seen) -> PerImage:
        """Its value for every picture: the definition that the batched evaluation must meet."""
        total = torch.zeros(seen.images.shape[0], dtype=seen.images.dtype).to(seen.images.device)
        for weight, term in self.terms:
            grids = {layer: seen.read(layer).grid for layer in term.reads}
            own = stacked([term.own(grids)] * len(total), like=seen.images)
            total = total + weight * term.evaluate(seen, own).to(total.dtype)
        return total


class Term(Objective):
    """One measurement, a frozen dataclass; terms of one `group` are evaluated together."""

    varies: ClassVar[tuple[str, ...]] = ()
    """Fields that rows of one group may have different."""
    couples: ClassVar[bool] = False
    """It reads other rows of its recipe too."""
    is_linear: ClassVar[bool] = False
    """Its gradient is the same whatever the values, so no infinite value can make it NaN."""

    @property
    def terms(self) -> "tuple[tuple[float, Term], ...]":
        return ((1.0, self),)

    @property
    def group(self) -> tuple[Hashable, ...]:
        """Class and settings that rows must share to be evaluated in one call."""
        kept = (f.name for f in fields(self) if f.compare and f.name not in self.varies)  # type: ignore[arg-type]
        return (type(self).__name__, *(getattr(self, name) for name in kept))

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """The read points that it needs; IMAGE for the picture."""

    @abstractmethod
    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        """The measurement of every row; `self` stands for the group, `own` tells the rows apart."""

    def own(self, grids: Mapping[str, Grid]) -> tuple[OwnValue, ...]:  # noqa: ARG002
        """What tells this row from others of its group; nothing for most."""
        return ()

    def resolve_term(self, network: Network) -> "Term":
        """Itself with names replaced and everything checked."""
        for layer in self.reads:
            if layer != IMAGE:
                network.layer(layer)
        return self


@dataclass(frozen=True)
class WeightedSum(Objective):
    """Terms with their weights."""

    weighted: tuple[tuple[float, Term], ...]

    def __post_init__(self) -> None:
        """Raises OutOfRange when a weight is not finite."""
        for weight, term in self.weighted:
            if not math.isfinite(weight):
                raise OutOfRange("weight", weight, low="finite", high="finite", where=short(term))

    @property
    def terms(self) -> tuple[tuple[float, Term], ...]:
        return self.weighted

    def __str__(self) -> str:
        words: list[str] = []
        for weight, term in self.weighted:
            plus, minus = ("+ ", "- ") if words else ("", "-")
            factor = "" if abs(weight) == 1 else f"{abs(weight)!r} * "
            words.append(f"{minus if weight < 0 else plus}{factor}{term}")
        return " ".join(words)


def short(objective: Objective, *, most: int = 80) -> str:
    """Its expression for people, in at most so many characters: long vectors are counted."""
    text = str(objective)
    if len(text) <= most:
        return text
    counted = _VECTOR.sub(_counted, text)
    brief = _LONG_TEXT.sub("...", counted)
    return brief if len(brief) <= most else f"{brief[: most - 1]}…"


_VECTOR = re.compile(r"\[[^\[\]]*\]")
_LONG_TEXT = re.compile(r"'[A-Za-z0-9+/=]{24,}'")
_FEW = 3


def _counted(vector: re.Match[str]) -> str:
    count = vector[0].count(",") + 1
    return f"{count} numbers" if count > _FEW else vector[0]


def check_number(
    name: str,
    value: object,
    *,
    where: str,
    low: int | float | None = None,
    above: int | float | None = None,
) -> None:
    """Raises DoesNotFit where it is no number; OutOfRange where not finite, too low, or NaN."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise DoesNotFit(f"{name} of {where}", got=repr(value)[:60], expected="a number")
    bounds = (low is None or value >= low) and (above is None or value > above)
    if not (bounds and math.isfinite(value)):
        least = low if low is not None else "finite" if above is None else f"above {above:g}"
        most = "finite" if least == "finite" else "any"
        raise OutOfRange(name, value, low=least, high=most, where=where)


def _is(other: object) -> bool:
    return isinstance(other, Objective)


def stacked(rows: Sequence[tuple[OwnValue, ...]], *, like: Tensor) -> Own:
    """Each position of the rows' values as one tensor on the device of `like`.

    Whole numbers become int64, everything else the dtype of `like`.
    """
    columns = []
    for values in zip(*rows, strict=True):
        if isinstance(values[0], int):
            columns.append(torch.tensor(values, dtype=torch.int64, device=like.device))
        else:
            stack = torch.stack([torch.as_tensor(value, dtype=like.dtype) for value in values])
            columns.append(stack.to(like.device))
    return tuple(columns)
