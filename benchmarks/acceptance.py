"""A whole atlas, made in one go: how long it takes, what it covers, how good its pictures are.

python -m benchmarks.acceptance [--config configs/early-vision.toml] [--store FOLDER] [--out FILE]

The store is made anew where it is not there; one that is gives its pictures, and only what is
missing counts for the time.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import line, write_result
from featviz.atlas.build import Means, build
from featviz.atlas.config import read_config
from featviz.atlas.entry import Entry, entries_of
from featviz.atlas.evidence import Evidence, specificity
from featviz.atlas.ledger import ledger_of
from featviz.atlas.references import pink_references
from featviz.atlas.site.write import write_site
from featviz.atlas.store import Store
from featviz.cli.progress import progress_bar
from featviz.engine.execution import available_cores

NUMBERS = ("score", "held_out_ratio", "spectrum_gap")


def main() -> None:
    """Builds, prints a line a layer, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/early-vision.toml"))
    parser.add_argument("--store", type=Path, help="[atlases/NAME of the config]")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/acceptance-DATE-NAME.json]")
    parser.add_argument("--note", default="", help="on the conditions; goes into the result")
    options = parser.parse_args()
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))
    folder = options.store or Path("atlases") / options.config.stem
    store, config = Store.at(folder), read_config(options.config)
    without = Means()
    pictures_s, made = _timed(lambda: build(config, store, means=without, progress=progress_bar))
    means = Means(references=pink_references())
    evidence_s, measured = _timed(lambda: build(config, store, means=means, progress=progress_bar))
    site_s, site = _timed(lambda: write_site(store, folder / "site"))
    rows = [
        {"layer": layer, **quality(store, keys)}
        for layer, keys in _by_layer(entries_of(store) or ()).items()
    ]
    for row in rows:
        print(line(row))
    content = {
        "settings": {"config": options.config.name, "note": options.note, **config.given()},
        "pictures": len(made.records),
        "rendered": made.rendered,
        "pictures_s": pictures_s,
        "cpu_s": sum(resource.getrusage(resource.RUSAGE_SELF)[:2]),
        "evidence": measured.measured,
        "evidence_s": evidence_s,
        "site_s": site_s,
        "site_bytes": site.size,
        "store_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "coverage": {
            name: share for name, share in ledger_of(store).to_data().items() if name != "by_layer"
        },
        "rows": rows,
    }
    print(line({name: value for name, value in content.items() if name != "rows"}))
    suffix = f"-{options.config.stem}"
    write_result("acceptance", torch.device("cpu"), content, out=options.out, suffix=suffix)


def quality(store: Store, keys: Iterable[str]) -> dict[str, Any]:
    """Of the pictures of a layer: how many, their verdicts, medians of their evidence."""
    records = [store.get(key) for key in keys]
    verdicts = [record.verdict for record in records if record is not None]
    found = [
        Evidence.from_data(data)
        for record in records
        if record is not None and (data := store.evidence(record.key)) is not None
    ]
    ranks = specificity(each.rank for each in found)
    row: dict[str, Any] = {
        "pictures": len(verdicts),
        "rendered": verdicts.count("rendered"),
        "dead": verdicts.count("dead"),
        "not_finite": verdicts.count("not finite"),
        **({} if ranks is None else {"rank_" + k: v for k, v in asdict(ranks).items()}),
    }
    for name in NUMBERS:
        values = [getattr(each, name) for each in found if getattr(each, name) is not None]
        row[f"median_{name}"] = statistics.median(values) if values else None
    return row


def _by_layer(entries: Iterable[Entry]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.layer or "several", []).append(entry.key)
    return found


def _timed(work: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
