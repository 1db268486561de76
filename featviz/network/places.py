"""Where the pictures of a batch stand in the result of an operation, measured.

Nearly always they are the first axis. torch's attention puts tokens before pictures and merges
the two; windows stand behind their picture on one axis with it.
"""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import isqrt, prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featviz.network.watch import Watch, plain_name
from featviz.shapes import Flags

Known = Mapping[int, tuple[str, tuple[int, ...]]]
"""Operations that depend on the pictures: index -> name and the shape of the result."""

Sums = Float[Tensor, "_ 4"]
"""Numbers that tell apart the entries of the axes up to the pictures' one."""


@dataclass(frozen=True)
class Place:
    """Of pictures that do not have the first axis to themselves."""

    axis: int
    """The axis that grows with the batch."""
    share: int
    """Entries of each picture on that axis: 1, or the windows or tokens that are merged with it."""
    before: int
    """Entries that come before the pictures, of the axes before and of this one."""

    def count(self, shape: tuple[int, ...]) -> int:
        """How many pictures there are in a result of this shape."""
        return shape[self.axis] // self.share

    def by_picture(self, values: Tensor, channel_dim: int) -> Tensor:
        """The result as (picture, token, channel): all axes but the channels', in their order."""
        last = values.movedim(channel_dim, -1)
        others = prod(last.shape[: self.axis]) * prod(last.shape[self.axis + 1 : -1])
        tokens, channels = others * self.share, last.shape[-1]
        grouped = last.reshape(self.before, self.count(values.shape), -(-tokens // self.before), -1)
        return grouped.transpose(0, 1).reshape(-1, tokens, channels)

    def spread(self, rows: Flags, shape: tuple[int, ...]) -> Tensor:
        """A flag for each picture so that it meets that picture's values in such a result."""
        if self.share == 1:
            return rows.view(*[1] * self.axis, -1, *[1] * (len(shape) - self.axis - 1))
        after = prod(shape) // (self.before * len(rows))
        return rows.view(1, -1, 1).expand(self.before, -1, after).reshape(shape)


FIRST = Place(axis=0, share=1, before=1)
"""Where pictures mostly are."""
_TOLERANCE = 0.01
"""How far sums may differ by rounding, as a share of how far they lie apart."""


def places(module: nn.Module, example: Tensor, known: Known) -> dict[int, Place]:
    """The operations whose pictures are elsewhere than on the first axis, by their index.

    Of made-up pictures like `example` but for one more, the axis that grew is the pictures'. Where
    they share it with others, a second pass without that one shows which entries stay the same.
    Left out are operations where that cannot be told, and all where the network refuses the batch.
    """
    count = len(example)
    numbers = torch.arange((count + 1) * example[0].numel(), dtype=torch.float64).mul(2.4).sin()
    pictures = numbers.view(count + 1, *example.shape[1:]).to(example)
    fewer = pictures[:count]
    growth = _Growth(known, count)
    with suppress(Exception), growth:
        module(pictures)
    if not growth.shared:
        return growth.found
    stay = _Stay(known, growth.shared)
    with suppress(Exception), stay:
        module(fewer)
    found = growth.found
    for index, smaller in stay.sums.items():
        place, larger = growth.shared[index]
        fitting = _fitting(place, larger, smaller, count)
        if len(fitting) == 1:
            found[index] = fitting[0]
    return found


class _Look(Watch):
    """Looks at operations in the order of `known`, and no more once another one runs."""

    def __init__(self, known: Known) -> None:
        super().__init__()
        self._known = known
        self._is_lost = False

    def seen(
        self,
        index: int,
        name: str,
        args: tuple[Any, ...],  # noqa: ARG002
        options: dict[str, Any],  # noqa: ARG002
        result: Tensor,
    ) -> None:
        if index not in self._known or self._is_lost:
            return
        expected, shape = self._known[index]
        self._is_lost = plain_name(name) != expected or len(shape) != result.ndim
        if not self._is_lost:
            self.look(index, shape, result)

    @abstractmethod
    def look(self, index: int, shape: tuple[int, ...], result: Tensor) -> None:
        """Takes note of a result; `shape` is its shape when it was traced."""


class _Growth(_Look):
    """Which axis grows with a picture more; where others share it, sums over all behind it."""

    def __init__(self, known: Known, count: int) -> None:
        super().__init__(known)
        self.pictures = count
        self.found: dict[int, Place] = {}
        self.shared: dict[int, tuple[Place, Sums]] = {}

    def look(self, index: int, shape: tuple[int, ...], result: Tensor) -> None:
        grown = [axis for axis, size in enumerate(shape) if result.shape[axis] != size]
        if len(grown) != 1:
            return
        (axis,) = grown
        share, rest = divmod(shape[axis], self.pictures)
        if rest or result.shape[axis] != share * (self.pictures + 1):
            return
        place = Place(axis, share, prod(shape[:axis]))
        if share > 1:
            self.shared[index] = place, _sums(result, axis)
        elif place != FIRST:
            self.found[index] = place


class _Stay(_Look):
    """The sums of operations whose pictures share an axis, without the picture more."""

    def __init__(self, known: Known, shared: Mapping[int, tuple[Place, Sums]]) -> None:
        super().__init__(known)
        self.sums: dict[int, Sums] = {}
        self._shared = shared

    def look(self, index: int, shape: tuple[int, ...], result: Tensor) -> None:
        if index in self._shared and tuple(result.shape) == shape:
            place, _ = self._shared[index]
            self.sums[index] = _sums(result, place.axis)


def _sums(result: Tensor, axis: int) -> Sums:
    """For each entry up to and on an axis four weighted sums over all that lies behind it."""
    entries = result.double().reshape(prod(result.shape[: axis + 1]), -1)
    places = torch.arange(entries.shape[1], dtype=entries.dtype, device=entries.device)
    waves = torch.arange(1, 5, dtype=entries.dtype, device=entries.device)
    return entries @ torch.outer(places, waves).cos()


def _fitting(place: Place, larger: Sums, smaller: Sums, count: int) -> list[Place]:
    """The ways to part the axis in which the first `count` pictures are the same in both."""
    fitting = []
    for each in _divisors(place.share):
        before = place.before * each
        these = larger.view(before, count + 1, -1)[:, :count]
        difference = (these - smaller.view(before, count, -1)).abs().max()
        if bool(difference <= _TOLERANCE * (smaller.max() - smaller.min())):
            fitting.append(replace(place, before=before))
    return fitting


def _divisors(number: int) -> list[int]:
    low = [each for each in range(1, isqrt(number) + 1) if number % each == 0]
    return sorted({*low, *(number // each for each in low)})
