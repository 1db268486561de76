"""All records of a store as one Parquet table, a row a picture, for pandas, DuckDB and the like."""

import io
from typing import Any

import pyarrow as arrow
from pyarrow import parquet

from featviz.atlas.entry import Entry, entries_of
from featviz.atlas.evidence import Evidence, evidence_of
from featviz.atlas.record import Record
from featviz.atlas.store import Store

NAMED = ("address", "layer", "channel", "technique", "title", "seed", "is_view")
"""What the plan says of a picture; null where the last config does not name it."""
MEASURED = {
    **dict.fromkeys(("held_out", "held_out_ratio", "z", "spectrum_gap"), "number"),
    **dict.fromkeys(("diversity", "seed_stability", "natural_ratio", "path_similarity"), "number"),
    **dict.fromkeys(("rank", "rank_of"), "count"),
    **dict.fromkeys(("references", "natural_best"), "word"),
    "path_flag": "flag",
}
"""Columns from the evidence, null where nothing was measured."""


def table(store: Store) -> bytes:
    """A Parquet file. Raises what reading the store raises."""
    entries = {entry.key: entry for entry in entries_of(store) or ()}
    rows = [
        _row(record, entries.get(record.key), evidence_of(store, record.key))
        for record in store.records()
    ]
    file = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows, schema=_schema()), file)
    return file.getvalue()


def _row(record: Record, entry: Entry | None, evidence: Evidence | None) -> dict[str, Any]:
    shape = record.recipe["shape"]
    return {
        "key": record.key,
        "digest": record.digest,
        "index": record.index,
        **{name: getattr(entry, name, None) for name in NAMED},
        "verdict": record.verdict,
        "reason": record.reason,
        "score": record.score,
        "steps": record.steps,
        "seconds": record.seconds,
        "made": record.made,
        "rows": shape["rows"],
        "columns": shape["columns"],
        "slots": record.execution["slots"],
        "device": record.execution["device"],
        "dtype": record.execution["dtype"],
        "picture": record.files["picture"][0] if "picture" in record.files else None,
        **{name: getattr(evidence, name, None) for name in MEASURED},
    }


def _schema() -> arrow.Schema:
    kinds = {
        "number": arrow.float64(),
        "count": arrow.int64(),
        "word": arrow.string(),
        "flag": arrow.bool_(),
    }
    plain = {
        **dict.fromkeys(("key", "digest"), "word"),
        "index": "count",
        **dict.fromkeys(("address", "layer", "technique", "title"), "word"),
        **dict.fromkeys(("channel", "seed"), "count"),
        "is_view": "flag",
        **dict.fromkeys(("verdict", "reason", "made", "device", "dtype", "picture"), "word"),
        **dict.fromkeys(("score", "seconds"), "number"),
        **dict.fromkeys(("steps", "rows", "columns", "slots"), "count"),
    }
    return arrow.schema([(name, kinds[kind]) for name, kind in {**plain, **MEASURED}.items()])
