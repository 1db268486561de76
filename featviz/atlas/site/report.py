"""The report page's numbers: distributions of each layer, and the worst units of all."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from featviz.atlas.evidence import Specificity, specificity
from featviz.atlas.site.content import Content, ShownLayer, ShownUnit
from featviz.atlas.site.measures import FLAG, MEASURES, Measure
from featviz.atlas.site.thumbnails import CELL_PX, SHEET_CELLS, SHEET_COLUMNS

MOST_WORST = 24
"""Units in each list of the worst."""
BOXES = ("rank", "held_out_ratio", "spectrum_gap", "score")
PERCENTILES = (5, 25, 50, 75, 95)
OWN_SCALE = ("score", "rank")
"""Measures that are not compared between layers: scores have a layer's unit, ranks its count."""


@dataclass(frozen=True)
class Box:
    """Five percentiles (PERCENTILES), in numbers and as shares of a scale, in percent."""

    values: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class LayerReport:
    """A row of the table; None where nothing was measured. Shares in [0, 1]."""

    name: str
    units: int
    channels: int | None
    dead: int
    not_finite: int
    flagged: int
    specificity: Specificity | None
    boxes: dict[str, Box | None]


@dataclass(frozen=True)
class WorstUnit:
    """A unit with where its thumbnail is, in pixels of a sheet."""

    title: str
    link: str
    sheet: str
    left: int
    top: int
    value: str


@dataclass(frozen=True)
class Worst:
    """A list of units, worst first; `total` counts those that did not fit too."""

    label: str
    words: str
    units: list[WorstUnit]
    total: int


@dataclass(frozen=True)
class Report:
    """All of the page."""

    layers: list[LayerReport]
    boxes: list[Measure]
    worst: list[Worst]
    total: LayerReport
    cell_px: int
    sheet_px: int


def report(content: Content, sheets: list[str], places: dict[str, int]) -> Report:
    """From the picture that stands for each unit. `places`: of thumbnails among all."""
    measures = {each.key: each for each in MEASURES}
    boxes = [measures[key] for key in BOXES if _values(content.units, key)]
    scales = {each.key: _ends(_values(content.units, each.key)) for each in boxes}
    layers = [_layer(layer, boxes, scales) for layer in content.layers]

    def shown(unit: ShownUnit, value: str) -> WorstUnit:
        sheet, cell = divmod(places[unit.pictures[0].entry.key], SHEET_CELLS)
        row, column = divmod(cell, SHEET_COLUMNS)
        place = column * CELL_PX, row * CELL_PX
        return WorstUnit(unit.title, unit_link(unit), sheets[sheet], *place, value)

    return Report(
        layers=layers,
        boxes=boxes,
        worst=[each for each in _worst(content.units, shown) if each.total],
        total=_layer(ShownLayer("all layers", {}, content.units), boxes, scales),
        cell_px=CELL_PX,
        sheet_px=CELL_PX * SHEET_COLUMNS,
    )


def unit_link(unit: ShownUnit) -> str:
    """The address of a unit's page, the same in every build."""
    layer = quote(unit.layer, safe="")
    if unit.channel is None:
        return f"index.html#/named/{layer}/{quote(unit.title, safe='')}"
    return f"index.html#/unit/{layer}/{unit.channel}"


def _layer(
    layer: ShownLayer, boxes: list[Measure], scales: dict[str, tuple[float, float]]
) -> LayerReport:
    verdicts = [unit.pictures[0].verdict for unit in layer.units]
    return LayerReport(
        name=layer.name,
        units=len(layer.units),
        channels=layer.facts.get("channels"),
        dead=verdicts.count("dead"),
        not_finite=verdicts.count("not finite"),
        flagged=sum(unit.pictures[0].measured.get(FLAG) is True for unit in layer.units),
        specificity=specificity(_values(layer.units, "rank")),
        boxes={each.key: _box(layer.units, each.key, scales[each.key]) for each in boxes},
    )


def _box(units: list[ShownUnit], key: str, scale: tuple[float, float]) -> Box | None:
    values = _values(units, key)
    if not values:
        return None
    low, high = _ends(values) if key in OWN_SCALE else scale
    found = np.percentile(values, PERCENTILES)
    shares = np.clip((found - low) / (high - low or 1), 0, 1) * 100
    return Box(tuple(map(float, found)), tuple(round(float(share), 2) for share in shares))


def _ends(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, [1, 99])
    return float(low), float(high)


def _values(units: Iterable[ShownUnit], key: str) -> list[float]:
    found = (unit.pictures[0].measured.get(key) for unit in units)
    return [float(value) for value in found if value is not None]


def _worst(units: list[ShownUnit], shown: Callable[[ShownUnit, str], WorstUnit]) -> Iterable[Worst]:
    """What failed first, then the far end of each measure that has a worse one."""
    verdicts = (("not finite", "Given up: a value or a gradient became NaN or infinite."),)
    verdicts += (("dead", "What the network says never changed in any step."),)
    for verdict, words in verdicts:
        some = [unit for unit in units if unit.pictures[0].verdict == verdict]
        listed = [shown(unit, verdict) for unit in some[:MOST_WORST]]
        yield Worst(verdict.capitalize(), words, listed, len(some))
    some = [unit for unit in units if unit.pictures[0].measured.get(FLAG) is True]
    words = "The path through earlier layers is unlike that of the unit's best natural images."
    yield Worst("Path flag", words, [shown(each, "flag") for each in some[:MOST_WORST]], len(some))
    for measure in MEASURES:
        if measure.worse:
            yield _far_end(units, measure, shown)


def _far_end(
    units: list[ShownUnit], measure: Measure, shown: Callable[[ShownUnit, str], WorstUnit]
) -> Worst:
    def value_of(unit: ShownUnit) -> Any:
        return unit.pictures[0].measured[measure.key]

    alive = [unit for unit in units if unit.pictures[0].verdict == "rendered"]
    some = [unit for unit in alive if measure.key in unit.pictures[0].measured]
    if measure.key == "rank":
        some = [unit for unit in some if value_of(unit) > 0]
    some.sort(key=value_of, reverse=measure.worse == "high")
    listed = [shown(unit, f"{value_of(unit):.4g}") for unit in some[:MOST_WORST]]
    worse = "Highest" if measure.worse == "high" else "Lowest"
    return Worst(f"{worse} {measure.label.lower()}", _plain(measure.words), listed, len(some))


def _plain(words: str) -> str:
    """The words of a measure where no one picture fills its places."""
    for place in (" {rank_of}", " ({references})", " ({natural_best})", " ({held_out_family})"):
        words = words.replace(place, "")
    return words
