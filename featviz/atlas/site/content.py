"""What a site shows, read from a store: layers in order, their units, the pictures of each."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from featviz.atlas.entry import Entry, entries_of
from featviz.atlas.exemplars import exemplar_name, exemplars_of
from featviz.atlas.record import Record, sha256
from featviz.atlas.site.measures import measured, number
from featviz.atlas.site.thumbnails import thumbnail_of
from featviz.atlas.store import Store
from featviz.errors import DoesNotFit, FeatvizError, Malformed

TECHNIQUES = ("channel", "neuron", "diversity", "negative", "direction", "pair", "expression")
"""In the order in which a unit shows them."""
MOST_COURSE_POINTS = 256
SUFFIXES = (".png", ".webp")
"""Of pictures that a browser shows."""


@dataclass(frozen=True)
class Shown:
    """A picture of the site. `thumbnail` is an encoded image, `detail` JSON for the unit's page."""

    entry: Entry
    suffix: str
    verdict: str
    measured: dict[str, Any]
    thumbnail: bytes
    detail: str

    @property
    def file(self) -> str:
        """Its name in the site, which is its name in the store."""
        return f"pictures/{self.entry.key[:2]}/{self.entry.key}{self.suffix}"


@dataclass
class ShownUnit:
    """A unit, or something else of a layer with a title of its own, and its pictures."""

    layer: str
    channel: int | None
    title: str
    pictures: list[Shown] = field(default_factory=list)


@dataclass
class ShownLayer:
    """A layer with its units; `facts` as the store's layers say them, {} where they do not."""

    name: str
    facts: dict[str, Any]
    units: list[ShownUnit] = field(default_factory=list)


@dataclass
class Content:
    """All that a site shows. `damaged` names what could not be read; `missing` is not made yet."""

    network: str
    fingerprint: str
    rows: int
    columns: int
    layers: list[ShownLayer]
    missing: int
    damaged: list[str]

    @property
    def units(self) -> list[ShownUnit]:
        """In the order of the layers."""
        return [unit for layer in self.layers for unit in layer.units]


def read_content(store: Store, keep: Callable[[str, bytes], None]) -> Content:
    """Reads what the store's plan shows; each whole picture is handed to `keep(name, content)`.

    A record or picture that cannot be read is left out and named. Raises DoesNotFit and Malformed
    where the store has no plan, or none that can be read.
    """
    head = store.head()
    known = store.layers_data() or {}
    content = Content(
        network=str(head.get("network", "")),
        fingerprint=str(head.get("fingerprint", "")),
        rows=int(number(known.get("rows")) or 0),
        columns=int(number(known.get("columns")) or 0),
        layers=[],
        missing=0,
        damaged=[],
    )
    found: dict[str, ShownLayer] = {}
    units: dict[tuple[str, int | str], ShownUnit] = {}
    facts = _facts(known)
    source = _Source(store, keep)
    for entry in _entries(store):
        shown = _shown(source, entry, content)
        if shown is None:
            continue
        name = entry.layer or ""
        layer = found.setdefault(name, ShownLayer(name, facts.get(_base(name, facts), {})))
        title = entry.title if entry.channel is None else f"{name}:{entry.channel}"
        which = entry.title if entry.channel is None else entry.channel
        if (name, which) not in units:
            units[name, which] = ShownUnit(name, entry.channel, title)
            layer.units.append(units[name, which])
        units[name, which].pictures.append(shown)
    content.layers = sorted(found.values(), key=lambda each: _place(each.name, facts))
    for layer in content.layers:
        layer.units.sort(key=lambda unit: (unit.channel is None, unit.channel or 0))
        for unit in layer.units:
            unit.pictures.sort(key=_standing)
    return content


def technique_place(technique: str) -> int:
    """Where a technique comes in order."""
    return TECHNIQUES.index(technique)


def _standing(shown: Shown) -> tuple[int, bool]:
    """The first of these stands for its unit: by technique; what enters a nonlinearity last."""
    return technique_place(shown.entry.technique), "/pre:" in shown.entry.address


def _entries(store: Store) -> tuple[Entry, ...]:
    """What the plan shows. Raises DoesNotFit, Malformed."""
    entries = entries_of(store)
    if entries is None:
        raise DoesNotFit(
            f"the store {store.place!r}", got="no plan.json", expected="what `featviz atlas` makes"
        )
    return entries


@dataclass
class _Source:
    """A store, and who takes the files that a site shows of it."""

    store: Store
    keep: Callable[[str, bytes], None]
    photographs: dict[str, str | None] = field(default_factory=dict)
    """By SHA-256: the name in the site; None where the store has not got it whole."""

    def photograph(self, sha: str) -> str | None:
        """Hands a copy that evidence names over, once."""
        if sha not in self.photographs:
            name = exemplar_name(sha)
            self.photographs[sha] = None
            with suppress(FileNotFoundError):
                content = self.store.files.read(name)
                if sha256(content) == sha:
                    self.keep(name, content)
                    self.photographs[sha] = name
        return self.photographs[sha]


def _shown(source: _Source, entry: Entry, content: Content) -> Shown | None:
    """The picture of an entry; None, and it is counted, where it is missing or damaged."""
    store = source.store
    try:
        record = store.record(entry.key)
    except FileNotFoundError:
        content.missing += 1
        return None
    except FeatvizError:
        content.damaged.append(f"records/{entry.key[:2]}/{entry.key}.json")
        return None
    name = record.files.get("picture", ("", ""))[0]
    try:
        suffix = PurePosixPath(name).suffix
        if suffix not in SUFFIXES:
            raise Malformed("the picture", name, expected=" or ".join(SUFFIXES))
        whole = store.read(record)
        thumbnail = thumbnail_of(store, record, whole)
    except (FileNotFoundError, FeatvizError):
        content.damaged.append(name or f"the picture of {entry.key}")
        return None
    data = store.evidence(entry.key)
    evidence = measured(data, record.score)
    exemplars = [
        [source.photograph(sha), file, number(value)] for file, value, sha in exemplars_of(data)
    ]
    shown = Shown(
        entry=entry,
        suffix=suffix,
        verdict=str(record.verdict),
        measured=evidence,
        thumbnail=thumbnail,
        detail=json.dumps(_detail(entry, record, evidence, exemplars), separators=(",", ":")),
    )
    source.keep(shown.file, whole)
    return shown


def _detail(
    entry: Entry, record: Record, evidence: dict[str, Any], exemplars: list[list[Any]]
) -> dict[str, Any]:
    """What only the unit's page needs."""
    stride = -(-len(record.course) // MOST_COURSE_POINTS) or 1
    shape = record.recipe.get("shape")
    return {
        "address": entry.address,
        "index": entry.index,
        "seed": entry.seed,
        "count": number(record.recipe.get("count")),
        "steps": number(record.steps),
        "seconds": number(record.seconds),
        "made": str(record.made),
        "reason": str(record.reason),
        "shape": shape if isinstance(shape, dict) else {},
        "stride": stride,
        "course": [number(value, digits=4) for value in record.course[::stride]],
        "evidence": evidence,
        "exemplars": exemplars,
        "recipe": record.recipe,
        "execution": record.execution,
    }


def _facts(known: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the store says of each layer, in order."""
    layers = known.get("layers")
    listed = layers if isinstance(layers, list) else []
    return {str(each["name"]): each for each in listed if isinstance(each, dict) and "name" in each}


def _base(name: str, facts: dict[str, dict[str, Any]]) -> str:
    """The layer of a read point such as "blocks.4/pre"."""
    return name if name in facts else name.rpartition("/")[0]


def _place(name: str, facts: dict[str, dict[str, Any]]) -> tuple[int, str]:
    """Layers in the order of the network, what reads several of them last."""
    base = _base(name, facts)
    return (list(facts).index(base) if base in facts else len(facts), name)
