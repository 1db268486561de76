"""The data of a site as classic scripts, which a page opened from a folder can load too."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from featviz.atlas.site.content import Content, Shown, ShownLayer, ShownUnit
from featviz.atlas.site.measures import FLAG, MEASURES
from featviz.atlas.site.thumbnails import CELL_PX, SHEET_CELLS, SHEET_COLUMNS

DETAILS_A_SCRIPT = 32
"""Units whose details ship together."""
LAYER_FACTS = (
    *("kind", "is_view", "channels", "sites", "positions", "field", "stride", "parameters"),
)
NUMBERS = (*(each.key for each in MEASURES), "rank_of", FLAG)
_UNSAFE = re.compile("[<>&\u2028\u2029]")


def call(name: str, *values: Any) -> bytes:
    """A script that hands values to `featviz.NAME`; harmless inside HTML too."""
    text = ",".join(json.dumps(value, separators=(",", ":")) for value in values)
    return f"featviz.{name}({safe(text)});\n".encode()


def safe(json_text: str) -> str:
    """The same JSON without what HTML or old scripts could take for an end of it."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)


def hashed(stem: str, suffix: str, content: bytes) -> str:
    """A file name that changes with the content, so that caches never mix two builds."""
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:10]}{suffix}"


def layer_script(
    number: int, layer: ShownLayer, places: dict[str, int], colors: dict[str, str]
) -> bytes:
    """What the walls need of a layer's units. `places`: of each picture among all thumbnails."""
    rows = [
        [unit.channel, unit.title, [_row(each, places, colors) for each in unit.pictures]]
        for unit in layer.units
    ]
    return call("take_layer", number, rows)


def detail_scripts(
    number: int, units: list[ShownUnit], similar: dict[int, list[list[int]]]
) -> Iterator[bytes]:
    """What the pages of a layer's units need, DETAILS_A_SCRIPT of them in each.

    `similar`: by `id` of the unit, the layer number and place of others.
    """
    for chunk in range(0, len(units), DETAILS_A_SCRIPT):
        parts = [
            f'{{"similar":{json.dumps(similar[id(unit)], separators=(",", ":"))},'
            f'"pictures":[{",".join(each.detail for each in unit.pictures)}]}}'
            for unit in units[chunk : chunk + DETAILS_A_SCRIPT]
        ]
        place = chunk // DETAILS_A_SCRIPT
        yield f"featviz.take_details({number},{place},[{safe(','.join(parts))}]);\n".encode()


def atlas_script(
    content: Content, scripts: list[tuple[str, list[str]]], sheets: list[str]
) -> bytes:
    """What every page needs: the layers and where everything is."""
    layers = [
        {
            "name": layer.name,
            **{key: layer.facts.get(key) for key in LAYER_FACTS},
            "units": len(layer.units),
            "script": script,
            "details": details,
        }
        for layer, (script, details) in zip(content.layers, scripts, strict=True)
    ]
    pictures = [each for unit in content.units for each in unit.pictures]
    atlas = {
        "network": content.network,
        "fingerprint": content.fingerprint,
        "input": [content.rows, content.columns],
        "layers": layers,
        "sheets": sheets,
        "sheet": {"columns": SHEET_COLUMNS, "cells": SHEET_CELLS, "cell_px": CELL_PX},
        "details": DETAILS_A_SCRIPT,
        "measures": [asdict(each) for each in MEASURES],
        "numbers": NUMBERS,
        "measured": [key for key in NUMBERS if any(key in each.measured for each in pictures)],
        "techniques": list(dict.fromkeys(each.entry.technique for each in pictures)),
        "verdicts": list(dict.fromkeys(each.verdict for each in pictures)),
    }
    return call("take_atlas", atlas)


def _row(shown: Shown, places: dict[str, int], colors: dict[str, str]) -> list[Any]:
    """A picture as the walls know it; what it lacks is null."""
    key = shown.entry.key
    numbers = [shown.measured.get(name) for name in NUMBERS]
    return [shown.entry.technique, shown.file, places[key], colors[key], shown.verdict, *numbers]
