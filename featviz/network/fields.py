"""How much of the picture a layer sees, and how far apart its neighbours look, both measured.

A band of input rows is set to NaN, which no convolution, pooling, normalization or nonlinearity
hides, not even a weight of zero; then the outputs that turned NaN are those that see the band.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

from featviz.network.layers import layers
from featviz.network.trace import trace, undisturbed
from featviz.network.watch import Watch, plain_name

_FIRST_LENGTH_PX = 256
_BREADTHS_PX = (1, 8, 16, 32, 64, 128, 256)
_PIXELS_AT_ONCE = 2**20
_WIDTH_PX = 32
"""Of the band, where no map asks for more; positions are told apart in windows up to this."""
_LEAST_POSITIONS = 8
"""A map with fewer positions than this says too little about its stride."""


@dataclass(frozen=True)
class Field:
    """The receptive field of a layer away from borders, in input pixels."""

    rows: int | None
    """None: all rows, of the largest picture too (after global pooling, attention; also for tokens
    and features, which have no place on the picture), or, if `is_clipped`, not known."""
    columns: int | None
    stride_rows: float | None
    """Shift of the field from one position to the next; 0.5 where the map is finer than the input.
    None where `rows` is."""
    stride_columns: float | None
    is_clipped: bool
    """An end of the field lies outside the largest picture tried, or fields differ irregularly
    between positions: None is then an admission, not an answer."""


def fields(module: nn.Module, example: Tensor, *, largest_px: int = 2048) -> dict[str, Field]:
    """The receptive field of each layer that `layers` finds with `example`, by its name.

    Measured for rows on pictures that are long and as narrow as the network takes, then for
    columns likewise; the length doubles from 256 px up to `largest_px`, only while a field does
    not fit. A network that takes pictures of one size only is measured on that size. Between the
    extremes a field may have holes (dilation); `rows` is the distance from end to end.

    Positions that share one field, as in attention windows, count as one step of their common
    stride. On a GPU cuDNN is switched off meanwhile, since fast convolutions mix neighbouring
    positions.
    """
    observed = trace(module, example)
    known = layers(observed, module)
    maps = {
        layer.post: _Map(observed.operations[layer.post].name, layer.channel_dim, layer.channels)
        for layer in known.values()
        if len(layer.sites) == 2
    }
    with undisturbed(module), torch.backends.cudnn.flags(enabled=False):
        rows, columns = (
            _Ruler(module, example, axis=axis).extents(maps, largest_px) for axis in (0, 1)
        )
    found = {}
    for name, layer in known.items():
        down, across = rows.get(layer.post, _EVERYTHING), columns.get(layer.post, _EVERYTHING)
        is_clipped = down.is_clipped or across.is_clipped
        found[name] = Field(down.size, across.size, down.stride, across.stride, is_clipped)
    return found


@dataclass(frozen=True)
class _Map:
    """What an operation should be like at every size of picture."""

    name: str
    channel_dim: int
    channels: int


@dataclass(frozen=True)
class _Extent:
    """A field along one axis."""

    size: int | None
    stride: float | None
    is_clipped: bool


_EVERYTHING = _Extent(None, None, is_clipped=False)
_TOO_MUCH = _Extent(None, None, is_clipped=True)


class _Enough(Exception):
    """All wanted operations were seen; the rest of the network need not run."""


class _OtherNetwork(Exception):
    """At this size of picture the network runs other operations."""


_REFUSALS = (_OtherNetwork, RuntimeError, AssertionError, ValueError, IndexError, ArithmeticError)
"""How networks say that they do not take a picture of this size."""


class _Marks(Watch):
    """For each wanted operation: which positions along one axis see the band, for each picture."""

    def __init__(self, wanted: Mapping[int, _Map], *, axis: int) -> None:
        super().__init__()
        self.found: dict[int, Tensor] = {}
        self._wanted = wanted
        self._axis = axis

    def seen(
        self,
        index: int,
        name: str,
        args: tuple[Any, ...],  # noqa: ARG002
        options: dict[str, Any],  # noqa: ARG002
        result: Tensor,
    ) -> None:
        wanted = self._wanted.get(index)
        if wanted is None:
            return
        dim = wanted.channel_dim
        if result.ndim != 4 or wanted != _Map(plain_name(name), dim, result.shape[dim]):
            raise _OtherNetwork
        sites = [axis for axis in (1, 2, 3) if axis != dim]
        self.found[index] = result.amax((dim, sites[1 - self._axis])).isnan()
        if len(self.found) == len(self._wanted):
            raise _Enough


class _Ruler:
    """Measures along one axis of the picture: 0 is rows, 1 is columns."""

    def __init__(self, module: nn.Module, example: Tensor, *, axis: int) -> None:
        self._module = module
        self._example = example
        self._axis = axis

    def extents(self, maps: Mapping[int, _Map], largest_px: int) -> dict[int, _Extent]:
        """The field of each map along the axis, by the operation that makes the map."""
        found: dict[int, _Extent] = {}
        counts: dict[int, int] = {}
        see_all: set[int] = set()
        breadth = self._least_breadth(maps) if maps else None
        for length in self._lengths(largest_px, is_free=breadth is not None):
            pending = {index: each for index, each in maps.items() if index not in found}
            if not pending:
                break
            try:
                survey = _Survey(
                    self, pending, (length, breadth or self._example.shape[3 - self._axis])
                )
                found |= survey.extents()
            except _REFUSALS:
                break
            for index, count in survey.counts.items():
                if index not in found and counts.get(index) == count:
                    found[index] = _EVERYTHING  # a longer picture, but no longer map
            counts = survey.counts
            see_all = survey.see_all if breadth else set()
        rest = {index: _EVERYTHING if index in see_all else _TOO_MUCH for index in maps}
        return rest | found

    def _lengths(self, largest_px: int, *, is_free: bool) -> list[int]:
        if not is_free:
            return [self._example.shape[2 + self._axis]]
        doublings = range(max(largest_px // _FIRST_LENGTH_PX, 1).bit_length())
        return [_FIRST_LENGTH_PX << each for each in doublings]

    def _least_breadth(self, maps: Mapping[int, _Map]) -> int | None:
        """How narrow a picture may be; None if the network takes only the size of the example."""
        for breadth in _BREADTHS_PX:
            try:
                self.look(maps, (_FIRST_LENGTH_PX, breadth), [0], 1)
            except _REFUSALS:
                continue
            return breadth
        return None

    def look(
        self, maps: Mapping[int, _Map], size: tuple[int, int], starts: Sequence[int], width: int
    ) -> dict[int, Tensor]:
        """For each map (picture, position): does the band of `width` from each start reach it?"""
        images_at_once = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
        parts = []
        for at in range(0, len(starts), images_at_once):
            some = starts[at : at + images_at_once]
            images = self._example.new_zeros(len(some), self._example.shape[1], *size)
            for image, start in zip(images, some, strict=True):
                image[:, start : start + width] = torch.nan
            turned = images.transpose(2, 3) if self._axis else images
            pictures = turned.contiguous(memory_format=torch.channels_last)  # fast when narrow
            marks = _Marks(maps, axis=self._axis)
            with suppress(_Enough), marks:
                self._module(pictures)
            if len(marks.found) < len(maps):
                raise _OtherNetwork
            parts.append(marks.found)
        return {index: torch.cat([part[index] for part in parts]) for index in maps}


@dataclass(frozen=True)
class _Move:
    """As the band moves on by one pixel, an edge of what it reaches goes past some positions."""

    row: int
    """Where the fields of these positions have their own edge."""
    positions: range


class _Survey:
    """Bands around the middle of one size of picture, looked at where a search asks for it.

    A band is at least as wide as the largest stride. The last position that it reaches moves on
    when the band's end comes to the top of another field; the first one, when the band's beginning
    leaves the bottom of a field.
    """

    def __init__(self, ruler: _Ruler, maps: Mapping[int, _Map], size: tuple[int, int]) -> None:
        self._ruler = ruler
        self._maps = maps
        self._size = size
        ends = ruler.look(maps, size, [0, size[0] - _LEAST_POSITIONS], _LEAST_POSITIONS)
        self.counts = {index: marks.shape[1] for index, marks in ends.items()}
        self.see_all = {index for index, marks in ends.items() if bool(marks.all())}
        enough = [count for count in self.counts.values() if count >= _LEAST_POSITIONS]
        strides = [ceil(size[0] / count) for count in enough]
        self._width = max(*strides, 1, min(_WIDTH_PX, size[0] // _LEAST_POSITIONS))
        self._starts = [(size[0] - 3 * self._width) // 2 + each * self._width for each in range(3)]
        self._reached: dict[int, dict[int, tuple[int, int]]] = {}
        """Start of the band -> map -> first and last position that it reaches."""
        self._look(self._starts)

    def extents(self) -> dict[int, _Extent]:
        """The fields that lie on the picture with both ends, and repeat regularly."""
        inside = [index for index in self._maps if self._is_inside(index)]
        moves = self._moves(inside)
        extents = {index: _extent(*moves[index]) for index in inside}
        return {index: extent for index, extent in extents.items() if extent is not None}

    def _is_inside(self, index: int) -> bool:
        """The band reaches something, never the border, and moves on within its own width."""
        reached = [self._reached[start][index] for start in self._starts]
        lows, highs = zip(*reached, strict=True)
        is_moving = lows[0] < lows[1] < lows[2] and highs[0] < highs[1] < highs[2]
        return is_moving and lows[0] > 0 and highs[2] < self.counts[index] - 1

    def _moves(self, inside: Sequence[int]) -> dict[int, list[_Move]]:
        """For each map the first two moves of its lower, then of its upper edge, by bisection."""
        brackets = {
            (index, edge, part): (self._starts[part], self._starts[part + 1])
            for index in inside
            for edge in (0, 1)
            for part in (0, 1)
        }
        while True:
            middles = {
                key: (low + high) // 2 for key, (low, high) in brackets.items() if high - low > 1
            }
            if not middles:
                break
            self._look(sorted(set(middles.values())))
            for (index, edge, part), middle in middles.items():
                low, high = brackets[index, edge, part]
                has_moved = self._reached[middle][index][edge] > self._reached[low][index][edge]
                brackets[index, edge, part] = (low, middle) if has_moved else (middle, high)
        moves: dict[int, list[_Move]] = {index: [] for index in inside}
        for (index, edge, _), (low, high) in brackets.items():
            old, new = self._reached[low][index][edge], self._reached[high][index][edge]
            positions = range(old + edge, new + edge)
            moves[index].append(_Move(low + edge * self._width, positions))
        return moves

    def _look(self, starts: Sequence[int]) -> None:
        missing = [start for start in starts if start not in self._reached]
        if not missing:
            return
        marks = self._ruler.look(self._maps, self._size, missing, self._width)
        edges = {index: _edges(each) for index, each in marks.items()}
        for number, start in enumerate(missing):
            self._reached[start] = {index: each[number] for index, each in edges.items()}


def _edges(marks: Tensor) -> list[tuple[int, int]]:
    """First and last marked position of each picture; (0, -1) where none is marked."""
    count = marks.shape[1]
    first = marks.byte().argmax(1)
    last = count - 1 - marks.flip(1).byte().argmax(1)
    last = torch.where(marks.any(1), last, -1)
    return list(zip(first.tolist(), last.tolist(), strict=True))


def _extent(bottom: _Move, later_bottom: _Move, top: _Move, later_top: _Move) -> _Extent | None:
    """The field between its edges; None if the map is not regular.

    Positions that are passed together (windows, maps finer than the input) are told apart: only
    those of the same phase have the same field, shifted.
    """
    strides = {
        Fraction(later.row - early.row, later.positions[0] - early.positions[0])
        for early, later in ((bottom, later_bottom), (top, later_top))
    }
    together = {len(each.positions) for each in (bottom, later_bottom, top, later_top)}
    if len(strides) != 1 or len(together) != 1:
        return None
    stride, period = strides.pop(), together.pop()
    sizes = [
        bottom.row - top.row + 1 + stride * (high - low)
        for low in bottom.positions
        for high in top.positions
        if (high - low) % period == 0
    ]
    return _Extent(int(max(sizes)), float(stride), is_clipped=False)
