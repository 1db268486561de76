"""Measuring the evidence that pictures of a store lack."""

import io
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featviz.atlas.entry import Entry
from featviz.atlas.evidence import Evidence
from featviz.atlas.exemplars import Exemplars
from featviz.atlas.plan import Plan
from featviz.atlas.quality import Judge, Judged, is_current, with_sets
from featviz.atlas.record import Record
from featviz.atlas.store import Store
from featviz.atlas.tally import Progress
from featviz.engine.recipe import Recipe
from featviz.errors import Malformed

JUDGED_AT_ONCE = 64
"""Pictures whose evidence is measured before it is written."""


def measure(judge: Judge, store: Store, asked: Plan, progress: Progress) -> int:
    """Measures what has no evidence yet, or evidence by other references or older measures.

    A picture that cannot be read has none. The photographs that evidence names are kept first.
    """
    recipes = {recipe.digest: recipe for recipe in asked.recipes}
    sets = _sets(asked, recipes)
    in_sets = {entry.key for entries in sets for entry in entries}
    exemplars = Exemplars(store, judge.references)
    todo: list[Entry] = []
    for entry in asked.entries:
        known = store.evidence(entry.key)
        if is_current(known, judge.references):
            exemplars.keep(known)
        else:
            todo.append(entry)
    judge.prepare({each.digest: recipes[each.digest] for each in todo}.values())
    measured = 0
    with progress("measurements", len(todo)) as tally:
        for start in range(0, len(todo), JUDGED_AT_ONCE):
            some = todo[start : start + JUDGED_AT_ONCE]
            part = [each for entry in some if (each := _judged(store, recipes, entry)) is not None]
            for judged, evidence in zip(part, judge.evidence(part), strict=True):
                key = judged.key
                data = replace(evidence, has_sets=key not in in_sets).to_data()
                exemplars.keep(data)
                store.write_evidence(key, data)
            measured += len(part)
            tally.advance(float(len(some)))
    for entries in sets:
        _measure_set(judge, store, recipes, entries)
    return measured


def _measure_set(
    judge: Judge, store: Store, recipes: Mapping[str, Recipe], entries: list[Entry]
) -> None:
    """Adds what the pictures say together, where it is not in the evidence of them all."""
    known = [
        (judged, Evidence.from_data(data))
        for entry in entries
        if (judged := _judged(store, recipes, entry)) is not None
        and (data := store.evidence(entry.key)) is not None
    ]
    if all(evidence.has_sets for _, evidence in known):
        return
    for (judged, _), evidence in zip(known, with_sets(judge, known), strict=True):
        store.write_evidence(judged.key, evidence.to_data())


def _sets(asked: Plan, recipes: Mapping[str, Recipe]) -> list[list[Entry]]:
    """Pictures that differ in nothing but the seed or their place in a set."""
    groups: dict[Recipe, list[Entry]] = {}
    for entry in asked.entries:
        groups.setdefault(replace(recipes[entry.digest], seed=0), []).append(entry)
    return [entries for entries in groups.values() if len(entries) > 1]


def _judged(store: Store, recipes: Mapping[str, Recipe], entry: Entry) -> Judged | None:
    """A picture of the store, to be measured; None where it cannot be read."""
    record = store.get(entry.key)
    if record is None:
        return None
    try:
        pixels = _pixels(store, record)
    except (FileNotFoundError, Malformed):
        return None
    return Judged(recipes[entry.digest], entry.index, pixels, record.verdict)


def _pixels(store: Store, record: Record) -> NDArray[np.uint8]:
    """A record's picture as (row, column, channel) bytes. Raises FileNotFoundError, Malformed."""
    with Image.open(io.BytesIO(store.read(record))) as image:
        pixels = np.array(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]
