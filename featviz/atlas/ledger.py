"""The coverage ledger: which units of a network have pictures, which failed and why, which lack."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from featviz.atlas.entry import Entry, entries_of
from featviz.atlas.store import FORMAT, LAYERS, Store
from featviz.errors import DoesNotFit, Malformed
from featviz.network.network import Network


@dataclass(frozen=True)
class LayerUnits:
    """A layer as coverage counts it."""

    name: str
    channels: int
    is_view: bool


_LAYERS = TypeAdapter(tuple[LayerUnits, ...])


def layers_of(store: Store) -> tuple[LayerUnits, ...] | None:
    """The layers of a store's network, in order; None before the first build. Raises Malformed."""
    data = store.layers_data()
    if data is None:
        return None
    try:
        return _LAYERS.validate_python(data["layers"])
    except ValidationError as error:
        raise Malformed(
            "the file", f"{store.place}/{LAYERS}", expected="layers as `featviz atlas` writes them"
        ) from error


def layers_data(network: Network) -> dict[str, Any]:
    """layers.json: what a store must know of its network's layers, at the network's own size."""
    rows, columns = network.size
    fields = network.fields()
    described = []
    for layer in network.layers().values():
        seen = fields.get(layer.name)
        described.append(
            {
                "name": layer.name,
                "kind": layer.kind,
                "is_view": layer.is_view,
                "channels": layer.channels,
                "sites": list(layer.sites),
                "positions": layer.positions,
                "field": _pair(seen and seen.rows, seen and seen.columns),
                "stride": _pair(seen and seen.stride_rows, seen and seen.stride_columns),
                "parameters": layer.parameters,
            }
        )
    head = {"format": FORMAT, "network": network.name, "fingerprint": network.fingerprint}
    return {**head, "rows": rows, "columns": columns, "layers": described}


def _pair(first: int | float | None, second: int | float | None) -> list[int | float] | None:
    return None if first is None or second is None else [first, second]


@dataclass
class Share:
    """Of some units: how many there are, have a picture, failed (by reason); the rest is missing.

    A unit that has a picture of any technique is pictured, whatever else of it failed.
    """

    units: int = 0
    pictured: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        """Units of which nothing is known."""
        return self.units - self.pictured - self.failed.total()

    @property
    def accounted(self) -> float:
        """Share that is pictured or failed for a stated reason; 1 where there is nothing."""
        return 1 - self.missing / self.units if self.units else 1.0

    def to_data(self) -> dict[str, Any]:
        """As JSON can hold it."""
        counts = {"units": self.units, "pictured": self.pictured, "failed": dict(self.failed)}
        return {**counts, "missing": self.missing, "accounted": self.accounted}

    def add(self, other: "Share") -> None:
        """Takes another's units in."""
        self.units += other.units
        self.pictured += other.pictured
        self.failed += other.failed


@dataclass(frozen=True)
class Ledger:
    """Coverage of all unique units of the network, of what the config names, of views; by layer.

    `of_config` counts pictures, not units.
    """

    network: Share
    of_config: Share
    views: Share
    by_layer: Mapping[str, Share]

    def to_data(self) -> dict[str, Any]:
        """As JSON can hold it."""
        shares = {"network": self.network, "config": self.of_config, "views": self.views}
        by_layer = {name: share.to_data() for name, share in self.by_layer.items()}
        return {**{name: each.to_data() for name, each in shares.items()}, "by_layer": by_layer}


def ledger_of(store: Store) -> Ledger:
    """The ledger of a store. Raises DoesNotFit where it is none, or nothing was built."""
    store.head()
    layers, entries = layers_of(store), entries_of(store)
    if layers is None or entries is None:
        raise DoesNotFit(f"the store {store.place!r}", got="no plan", expected="a built atlas")
    verdicts = {record.key: (record.verdict, record.reason) for record in store.records()}
    return ledger(layers, entries, verdicts)


def ledger(
    layers: Iterable[LayerUnits],
    entries: Iterable[Entry],
    verdicts: Mapping[str, tuple[str, str]],
) -> Ledger:
    """The ledger of a store.

    `layers`: all of the network. `entries`: those of the plan. `verdicts`: by picture key, verdict
    and reason of what the store holds and the plan names.
    """
    found: dict[tuple[str, int], list[tuple[str, str] | None]] = {}
    asked = Share()
    for entry in entries:
        verdict = verdicts.get(entry.key)
        _count(asked, [verdict])
        if entry.layer is not None and entry.channel is not None:
            found.setdefault((entry.layer, entry.channel), []).append(verdict)
    by_layer: dict[str, Share] = {}
    network, views = Share(), Share()
    for layer in layers:
        share = Share()
        for channel in range(layer.channels):
            _count(share, found.get((layer.name, channel), []))
        by_layer[layer.name] = share
        (views if layer.is_view else network).add(share)
    return Ledger(network, asked, views, by_layer)


def _count(share: Share, verdicts: list[tuple[str, str] | None]) -> None:
    share.units += 1
    known = [each for each in verdicts if each is not None]
    if any(verdict == "rendered" for verdict, _ in known):
        share.pictured += 1
    elif known:
        verdict, reason = known[0]
        share.failed[f"{verdict}: {reason}"] += 1
