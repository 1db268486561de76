"""Rendering what an atlas lacks, then its index and contact sheet from what is kept."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from featviz.atlas.config import AtlasConfig
from featviz.atlas.plan import plan
from featviz.atlas.sheet import contact_sheet
from featviz.atlas.store import Record, Store
from featviz.atlas.writing import Writer
from featviz.engine.algebra import short
from featviz.engine.execution import execution
from featviz.engine.picture import check_channels
from featviz.engine.render import fitting_slots, render_each
from featviz.files import write_whole
from featviz.network.zoo import load

Progress = Callable[[int], AbstractContextManager[Callable[[float], None]]]
"""Given how many pictures: a context whose value is told of work done, in pictures."""


@dataclass(frozen=True)
class Built:
    """Where an atlas is, and what was done."""

    pictures: Path
    index: Path
    sheet: Path
    rendered: int
    kept: int
    dead: int
    not_finite: int


def build(
    config: AtlasConfig,
    folder: Path,
    *,
    weights: str | None = None,
    device: str | None = None,
    memory: int | None = None,
    progress: Progress,
) -> Built:
    """Makes the atlas of a config in a folder; pictures that are there already are kept.

    Raises a FeatvizError before the first step where the config asks for what is not there.
    """
    source = config.weights if weights is None else weights
    network = load(config.network, weights=source)
    check_channels(network.preprocessing.channels)
    recipes = plan(config, network)
    store = Store(folder)
    missing = [recipe for recipe in recipes if store.get(recipe) is None]
    if missing:
        place = {"device": "cpu" if device is None else device, "dtype": config.dtype}
        slots = fitting_slots(network, recipes, config.slots, **place, memory=memory)
        how = execution(slots=slots, **place, weights=source)
        with progress(len(missing)) as advance, Writer(store.put) as writer:
            for picture in render_each(network, missing, how, on_progress=advance):
                writer.put(picture)
    records = [record for recipe in recipes if (record := store.get(recipe)) is not None]
    index, sheet = folder / "index.json", folder / "sheet.png"
    write_whole(index, _index(network.name, records, folder).encode())
    write_whole(sheet, contact_sheet(records, columns=config.columns))
    return Built(
        pictures=store.pictures,
        index=index,
        sheet=sheet,
        rendered=len(missing),
        kept=len(recipes) - len(missing),
        dead=_count(records, "dead"),
        not_finite=_count(records, "not finite"),
    )


def _count(records: list[Record], verdict: str) -> int:
    return sum(record.verdict == verdict for record in records)


def _index(network: str, records: list[Record], folder: Path) -> str:
    rows = [
        {
            "objective": short(record.recipe.objective),
            "digest": record.recipe.digest,
            "picture": str(record.path.relative_to(folder)),
            "score": record.score,
            "verdict": record.verdict,
            "steps": record.steps,
        }
        for record in records
    ]
    return json.dumps({"network": network, "pictures": rows}, indent=1) + "\n"
