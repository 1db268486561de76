"""Making what an atlas lacks: pictures first, then their evidence; all of it goes to the store."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from featviz.atlas.claims import Claims, missing_recipes
from featviz.atlas.config import AtlasConfig
from featviz.atlas.ledger import layers_data
from featviz.atlas.measuring import measure
from featviz.atlas.plan import Plan, execution_of, network_of, plan
from featviz.atlas.quality import Judge
from featviz.atlas.record import Record
from featviz.atlas.references import References
from featviz.atlas.store import LAYERS, PLAN, Store
from featviz.atlas.tally import Progress, Tally
from featviz.atlas.writing import Writer
from featviz.engine.execution import check_device
from featviz.engine.picture import Picture
from featviz.engine.render import render_each
from featviz.errors import Malformed
from featviz.network.network import Network


@dataclass(frozen=True)
class Built:
    """What was done, and the records of all that the config names, in its order."""

    rendered: int
    kept: int
    measured: int
    records: tuple[Record, ...]

    def count(self, verdict: str) -> int:
        """How many pictures have a verdict."""
        return sum(record.verdict == verdict for record in self.records)


@dataclass(frozen=True)
class Means:
    """How a build is executed; None is decided by the engine."""

    device: str | None = None
    memory: int | None = None
    references: References | None = None
    """Of the evidence; None measures none."""


def build(
    config: AtlasConfig,
    store: Store,
    *,
    weights: str | None = None,
    means: Means = Means(),
    progress: Progress,
) -> Built:
    """Makes the atlas of a config; pictures that are there already are kept.

    Raises a FeatvizError before the first step where the config asks for what is not there.
    """
    network = network_of(config, weights)
    check_device(means.device or "cpu")
    asked = plan(config, network)
    _begin(store, network, asked)
    rendered = _render(network, store, asked, means=means, progress=progress)
    measured = 0
    if means.references is not None:
        judge = Judge(network, means.references, device=means.device)
        measured = measure(judge, store, asked, progress=progress)
    records = tuple(_records(store, asked))
    return Built(rendered, len(records) - rendered, measured, records)


def _render(
    network: Network, store: Store, asked: Plan, *, means: Means, progress: Progress
) -> int:
    """Renders what is missing; returns how many pictures it made.

    What another build has claimed is left to it until nothing else is left to do.
    """
    missing = missing_recipes(store, asked.recipes)
    if not missing:
        return 0
    how = execution_of(asked, network, device=means.device, memory=means.memory)
    layers = {entry.digest: entry.layer or "" for entry in asked.entries}
    rendered = 0
    count = sum(recipe.count for recipe in missing)
    with progress("pictures", count) as tally, Claims(store) as claims:
        timer, keeping = _Timer(tally), _Keeping(store, claims, asked.config.formats)
        for skips in (claims.is_elsewhere, claims.is_done):
            with Writer(keeping.put) as writer:  # all is written before the next look
                for picture in render_each(
                    network, missing, how, skips=skips, on_progress=timer.advance
                ):
                    rendered += 1
                    writer.put((picture, timer.seconds_a_picture))
                    is_good = picture.verdict == "rendered"
                    tally.finished(layers[picture.recipe.digest], is_good=is_good)
    return rendered


def _begin(store: Store, network: Network, asked: Plan) -> None:
    """Says in the store whose it is and what is asked for. Raises what `Store.claim` raises."""
    store.claim(network)
    store.write_json(PLAN, asked.to_data())
    layers = None
    with suppress(Malformed):
        layers = store.layers_data()
    if layers is None or layers.get("fingerprint") != network.fingerprint:
        store.write_json(LAYERS, layers_data(network))


@dataclass
class _Timer:
    """Wall seconds a picture, of all work so far."""

    tally: Tally
    done: float = 0.0
    start: float = field(default_factory=time.perf_counter)

    def advance(self, pictures: float) -> None:
        self.done += pictures
        self.tally.advance(pictures)

    @property
    def seconds_a_picture(self) -> float:
        return (time.perf_counter() - self.start) / max(self.done, 1e-9)


@dataclass(frozen=True)
class _Keeping:
    store: Store
    claims: Claims
    formats: tuple[str, ...]

    def put(self, item: tuple[Picture, float]) -> None:
        picture, seconds = item
        self.store.put(picture, seconds=seconds, formats=self.formats)
        if picture.index == picture.recipe.count - 1:
            self.claims.drop(picture.recipe)


def _records(store: Store, asked: Plan) -> Iterator[Record]:
    for entry in asked.entries:
        record = store.get(entry.key)
        if record is not None:
            yield record
