"""Directions that a config names: rows of a matrix in a .safetensors file, and their names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from featviz.atlas.config import Directions
from featviz.engine.objectives import Direction
from featviz.errors import DoesNotFit, Malformed, NotAvailable, NotFinite, OutOfRange, UnknownName
from featviz.network.network import Network
from featviz.units import parse_selection


def directions_of(network: Network, asked: Directions) -> Iterator[tuple[str, str, Direction]]:
    """Of each wanted row its label ("dictionary/decoder[17]"), its name or "", and its direction.

    Only the wanted rows are read of the file. Raises NotAvailable, Malformed, UnknownName,
    DoesNotFit, OutOfRange, NotFinite.
    """
    layer = network.read_point(asked.layer)
    with _opened(asked) as (shape, row_of):
        _check_shape(asked, shape, channels=network.layer(layer).channels)
        rows = _rows(asked, shape[0])
        names = _names(asked, rows, shape[0])
        for row, name in zip(rows, names, strict=True):
            vector = row_of(row)
            if not bool(torch.isfinite(vector).all()):
                raise NotFinite(f"row {row} of tensor {asked.tensor!r} of {asked.file!r}")
            if not bool(vector.any()):
                raise DoesNotFit(
                    f"row {row} of tensor {asked.tensor!r} of {asked.file!r}",
                    got="zeros",
                    expected="a direction; choose other rows",
                )
            label = f"{Path(asked.file).stem}/{asked.tensor}[{row}]"
            yield label, name, Direction(layer, vector)


@contextmanager
def _opened(asked: Directions) -> Iterator[tuple[list[int], Callable[[int], Tensor]]]:
    """A tensor's shape, and what reads one row of it as float64."""
    path = Path(asked.file)
    if not path.is_file():
        raise NotAvailable(f"the directions {asked.file!r}", there="there is no such file")
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            there = list(file.keys())
            if asked.tensor not in there:
                raise UnknownName("tensor", asked.tensor, there, inside=repr(asked.file))
            part: Any = file.get_slice(asked.tensor)
            yield list(part.get_shape()), lambda row: part[row : row + 1].flatten().double()
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:80]
        raise Malformed(
            "the directions", asked.file, expected=f"a .safetensors file ({reason})"
        ) from error


def _check_shape(asked: Directions, shape: list[int], *, channels: int) -> None:
    if len(shape) == 2 and shape[1] == channels:
        return
    hint = "its columns would fit: transpose it" if len(shape) == 2 and shape[0] == channels else ""
    raise DoesNotFit(
        f"tensor {asked.tensor!r} of {asked.file!r}",
        got=f"the shape {'x'.join(map(str, shape)) or 'of one number'}",
        expected=f"rows of {channels}, the channels of layer {asked.layer!r}",
        hint=hint,
    )


def _rows(asked: Directions, count: int) -> list[int]:
    """The wanted rows, as written, none twice."""
    try:
        selection = parse_selection(f"rows:{asked.rows.replace('@', ' at ')}")
    except Malformed as error:
        raise Malformed(
            "the rows", asked.rows, expected='rows such as "*", "0-63", "0-63/4" or "3,5"'
        ) from error
    found: list[int] = []
    for first, last, step in selection.ranges:
        end = count - 1 if last is None else last
        if end >= count:
            where = f"tensor {asked.tensor!r} of {asked.file!r}"
            raise OutOfRange("row", end, low=0, high=count - 1, where=where)
        found.extend(range(first, end + 1, step))
    return list(dict.fromkeys(found))


def _names(asked: Directions, rows: list[int], count: int) -> list[str]:
    """A name for each wanted row; "" where none are given."""
    if asked.names is None:
        return [""] * len(rows)
    names = _lines(asked.names) if isinstance(asked.names, str) else asked.names
    if len(names) == count:
        return [names[row] for row in rows]
    if len(names) == len(rows):
        return names
    of_all = f", or {count}, one for every row there is" if count != len(rows) else ""
    raise DoesNotFit(
        f"the names of {asked.tensor!r} of {asked.file!r}",
        got=len(names),
        expected=f"{len(rows)}, one for each of the rows{of_all}",
    )


def _lines(file: str) -> list[str]:
    try:
        return [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        there = (error.strerror or str(error)).lower()
        raise NotAvailable(f"the file of names {file!r}", there=there) from error
    except UnicodeDecodeError as error:
        raise Malformed("the names", file, expected="UTF-8 text, a name a line") from error
