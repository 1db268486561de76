"""Unit addresses and selections: their text, and what they mean among a network's layers.

    ADDRESS    LAYER[/pre|/post]:CHANNEL[@ROW,COLUMN | @center]
    SELECTION  LAYER-OR-GLOB[/pre|/post][:CHANNELS][@ROW,COLUMN | @center], or "*"
    CHANNELS   comma-separated N, A-B, A-B/STEP, * or */STEP

`blocks.4:17` is a channel, `blocks.4:17@7,7` the neuron of that channel at row 7, column 7, and
`blocks.2:0-15,40` seventeen channels. A glob and "*" select unique units only; a view (a sum, a
concatenation, a pool) is selected by its name. A glob with /pre leaves out layers without one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from featviz.errors import DoesNotFit, Malformed, OutOfRange, UnknownName

Read = Literal["default", "pre", "post"]
Position = tuple[int, int] | Literal["center"] | None

_FORM = re.compile(
    r"(?P<layer>[^:/@\s]+)(?:/(?P<read>pre|post))?"
    r"(?::(?P<channels>[\d,*/\-\s]+))?(?:@(?P<position>center|\d+\s*,\s*\d+))?"
)
_RANGE = re.compile(r"(?:(?P<all>\*)|(?P<first>\d+)(?:-(?P<last>\d+))?)(?:/(?P<step>[1-9]\d*))?")
_EXPECTED = "LAYER:CHANNELS[@ROW,COLUMN], such as blocks.4:17, blocks.2:0-15,40 or blocks.4:17@7,7"


@dataclass(frozen=True)
class Unit:
    """One channel of one layer or, with a position, one neuron of it."""

    layer: str
    channel: int
    read: Read = "default"
    position: Position = None

    def __str__(self) -> str:
        return f"{layer_key(self.layer, self.read)}:{self.channel}{_position_text(self.position)}"


@dataclass(frozen=True)
class Extent:
    """What a selection has to know of a layer: its channels, if it is a view, if it has a /pre."""

    channels: int
    is_view: bool
    has_pre: bool = True


@dataclass(frozen=True)
class Selection:
    """A parsed selection; `ranges` are (first, last or None for all, step)."""

    text: str
    layer: str
    read: Read
    ranges: tuple[tuple[int, int | None, int], ...]
    position: Position

    def units(self, extents: Mapping[str, Extent]) -> list[Unit]:
        """The units it names, in order of the layers, then as written; none twice.

        Raises UnknownName where no layer matches, OutOfRange where a channel is past the last.
        """
        found = [
            Unit(layer, channel, self.read, self.position)
            for layer in self._layers(extents)
            for channel in self._channels(layer, extents[layer].channels)
        ]
        return list(dict.fromkeys(found))

    def _layers(self, extents: Mapping[str, Extent]) -> list[str]:
        if self.layer in extents:
            return [self.layer]
        if any(sign in self.layer for sign in "*?["):
            matching = [
                name
                for name, extent in extents.items()
                if fnmatchcase(name, self.layer) and not extent.is_view
            ]
            readable = [name for name in matching if self.read != "pre" or extents[name].has_pre]
            if readable:
                return readable
            if matching:
                raise UnknownName("read point", f"{self.layer}/pre", matching)
        raise UnknownName("layer", self.layer, extents, see="`featviz layers`")

    def _channels(self, layer: str, count: int) -> list[int]:
        channels: list[int] = []
        for first, last, step in self.ranges:
            end = count - 1 if last is None else last
            if end >= count:
                raise OutOfRange("channel", end, low=0, high=count - 1, where=f"layer {layer!r}")
            channels.extend(range(first, end + 1, step))
        return channels


def parse_selection(text: str) -> Selection:
    """The selection that `text` writes. Raises Malformed."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise Malformed("the selection", text, expected=_EXPECTED)
    ranges = tuple(_range(part.strip(), text) for part in (match["channels"] or "*").split(","))
    return Selection(
        text=text,
        layer=match["layer"],
        read=_read(match["read"]),
        ranges=ranges,
        position=_position(match["position"]),
    )


def parse_unit(text: str) -> Unit:
    """The one unit that `text` addresses. Raises Malformed, DoesNotFit where it names several."""
    selection = parse_selection(text)
    first, last, _ = selection.ranges[0]
    if len(selection.ranges) != 1 or first != last or set("*?[") & set(selection.layer):
        raise DoesNotFit("a unit's address", got=repr(text), expected="exactly one channel")
    return Unit(selection.layer, first, selection.read, selection.position)


def layer_key(layer: str, read: Read) -> str:
    """The name under which a layer's read point is recorded: "conv1", "conv1/pre"."""
    return layer if read == "default" else f"{layer}/{read}"


def split_key(key: str) -> tuple[str, Read]:
    """The layer and read point of a recorded name."""
    layer, separator, read = key.rpartition("/")
    return (layer, _read(read)) if separator and read in ("pre", "post") else (key, "default")


def _read(text: str | None) -> Read:
    if text == "pre":
        return "pre"
    return "post" if text == "post" else "default"


def _range(part: str, text: str) -> tuple[int, int | None, int]:
    match = _RANGE.fullmatch(part)
    if match is None:
        raise Malformed("the selection", text, expected=_EXPECTED)
    step = int(match["step"] or 1)
    if match["all"]:
        return 0, None, step
    first = int(match["first"])
    last = int(match["last"] or first)
    if last < first:
        raise Malformed("the selection", text, expected=f"ranges that rise, such as {last}-{first}")
    return first, last, step


def _position(text: str | None) -> Position:
    if text is None:
        return None
    if text == "center":
        return "center"
    row, column = text.split(",")
    return int(row), int(column)


def _position_text(position: Position) -> str:
    if position is None:
        return ""
    return "@center" if position == "center" else f"@{position[0]},{position[1]}"
