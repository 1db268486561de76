"""Where the pictures of a batch stand in the result of an operation, measured.

Nearly always they are the first axis. torch's attention puts tokens before pictures and merges
the two; windows stand behind their picture on one axis with it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from featviz.network.watch import Watch, plain_name
from featviz.shapes import Flags

Known = Mapping[int, tuple[str, tuple[int, ...]]]
"""Operations that depend on the pictures: index -> name and the shape of the result."""


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
        count = self.count(values.shape)
        last = values.movedim(channel_dim, -1)
        grouped = last.reshape(self.before, count, -1, last.shape[-1])
        return grouped.transpose(0, 1).flatten(1, 2)

    def spread(self, rows: Flags, shape: tuple[int, ...]) -> Tensor:
        """A flag for each picture so that it meets that picture's values in such a result."""
        if self.share == 1:
            return rows.view(*[1] * self.axis, -1, *[1] * (len(shape) - self.axis - 1))
        after = prod(shape) // (self.before * len(rows))
        return rows.view(1, -1, 1).expand(self.before, -1, after).reshape(shape)


FIRST = Place(axis=0, share=1, before=1)
"""Where pictures mostly are."""


def places(module: nn.Module, example: Tensor, known: Known) -> dict[int, Place]:
    """The operations whose pictures are elsewhere than on the first axis, by their index.

    Of a batch that is larger by one picture, the axis that grew is the pictures'. Where they share
    it with others, the added picture's not being numbers shows how. Left out are operations where
    that cannot be told, and all where the network refuses such a batch.
    """
    batch = torch.cat([example, torch.full_like(example[:1], torch.nan)])
    finder = _Finder(known, len(example))
    with suppress(RuntimeError, ValueError, AssertionError, IndexError, ArithmeticError), finder:
        module(batch)
    return finder.found


class _Finder(Watch):
    def __init__(self, known: Known, count: int) -> None:
        super().__init__()
        self.found: dict[int, Place] = {}
        self._known = known
        self._count = count

    def run(self, name: str, function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:  # noqa: ARG002
        return function(*args, **options)

    def seen(
        self,
        index: int,
        name: str,
        args: tuple[Any, ...],  # noqa: ARG002
        options: dict[str, Any],  # noqa: ARG002
        result: Tensor,
    ) -> None:
        expected, shape = self._known.get(index, ("", ()))
        if plain_name(name) == expected and len(shape) == result.ndim:
            place = self._place(shape, result)
            if place is not None and place != FIRST:
                self.found[index] = place

    def _place(self, shape: tuple[int, ...], result: Tensor) -> Place | None:
        grown = [axis for axis, size in enumerate(shape) if result.shape[axis] != size]
        if len(grown) != 1:
            return None
        (axis,) = grown
        share, rest = divmod(shape[axis], self._count)
        if rest or result.shape[axis] != share * (self._count + 1):
            return None
        before = prod(shape[:axis])
        if share == 1:
            return Place(axis, share, before)
        of_last = result.isnan().flatten()
        fitting = [
            Place(axis, share, before * each)
            for each in range(1, share + 1)
            if share % each == 0 and self._is_last(of_last.view(before * each, self._count + 1, -1))
        ]
        return fitting[0] if len(fitting) == 1 else None

    @staticmethod
    def _is_last(of_last: Tensor) -> bool:
        """Whether what is not a number belongs to the last picture, and to no other."""
        return bool(of_last[:, -1].any()) and not bool(of_last[:, :-1].any())
