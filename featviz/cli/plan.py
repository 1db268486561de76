"""`featviz plan`: what a config means, what of it is there, what the rest will cost."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from featviz.atlas.config import read_config
from featviz.atlas.entry import Entry
from featviz.atlas.estimate import Estimate, disk_bytes, estimate
from featviz.atlas.plan import Plan, execution_of, network_of, plan
from featviz.atlas.store import HEAD, Store
from featviz.cli.progress import in_words
from featviz.engine.memory import parse_bytes
from featviz.network.network import Network

MIB = 2**20
COUNTS = ("pictures", "kept", "missing")


@click.command(name="plan", short_help="Show what a config means, and what it will cost.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", help="The store, a folder or fsspec URL. [atlases/NAME of CONFIG]")
@click.option("--weights", metavar="default|none|FILE", help="Instead of the config's.")
@click.option("--device", help="cpu, cuda, cuda:N or mps. [cpu]")
@click.option("--memory", help="What may be used, such as 8G. [most of what is free]")
@click.option("--no-timing", is_flag=True, help="Estimate no time; takes none either.")
@click.option("--json", "is_json", is_flag=True, help="For programs.")
def plan_command(
    config: Path, out: str | None, weights: str | None, is_json: bool, **options: Any
) -> None:
    """Show which pictures CONFIG (TOML or YAML) asks for, which of them its store has already, and
    how long the others will take, measured with a few steps. Nothing is written."""
    wanted = read_config(config)
    store = Store.at(str(Path("atlases") / config.stem) if out is None else out)
    network = network_of(wanted, weights)
    asked = plan(wanted, network)
    there = kept_entries(asked, store, network)
    missing = asked.lacking(there)
    cost = None
    if missing and not options["no_timing"]:
        memory = None if options["memory"] is None else parse_bytes(options["memory"])
        place = {"device": options["device"], "memory": memory}
        cost = estimate(network, missing, execution_of(asked, network, **place))
    parts, disk = parts_of(asked, there), disk_bytes(network, missing, wanted.formats)
    if is_json:
        content = {"network": network.name, "fingerprint": network.fingerprint}
        sums = {name: sum(part[name] for part in parts) for name in COUNTS}
        costs = {"bytes": disk, "estimate": None if cost is None else asdict(cost)}
        click.echo(json.dumps({**content, **sums, **costs, "parts": parts}, indent=1))
        return
    _show(parts)
    click.echo(_summary(len(asked.entries), len(there), disk, cost))


def kept_entries(asked: Plan, store: Store, network: Network) -> set[Entry]:
    """The pictures that are there already; nothing is written.

    Raises DoesNotFit where the store is another network's.
    """
    if not store.files.exists(HEAD):
        return set()
    store.check_owner(network)
    keys = set(store.kept_keys())
    return {entry for entry in asked.entries if entry.key in keys and store.holds(entry.key)}


def parts_of(asked: Plan, there: set[Entry]) -> list[dict[str, Any]]:
    """How many pictures of each layer and technique there are, in the order of the plan."""
    kinds = {entry: (entry.layer, entry.technique, entry.is_view) for entry in asked.entries}
    pictures, kept = Counter(kinds.values()), Counter(kinds[entry] for entry in there)
    return [
        {
            "layer": kind[0],
            "technique": kind[1],
            "is_view": kind[2],
            "pictures": count,
            "kept": kept[kind],
            "missing": count - kept[kind],
        }
        for kind, count in pictures.items()
    ]


def _show(parts: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("layer", "technique", "", "pictures", "in the store", "missing"):
        is_count = name in ("pictures", "in the store", "missing")
        table.add_column(name, justify="right" if is_count else "left", no_wrap=True)
    for part in parts:
        counts = (f"{part[name]:,}" for name in COUNTS)
        view = "view" if part["is_view"] else ""
        table.add_row(part["layer"] or "several", part["technique"], view, *counts)
    Console(width=None if Console().is_terminal else 160).print(table)


def _summary(pictures: int, kept: int, disk: int, cost: Estimate | None) -> str:
    missing = pictures - kept
    head = f"\n{pictures:,} pictures, {kept:,} in the store, {missing:,} missing"
    if not missing:
        return f"{head}: nothing to do"
    size = f"{max(1, round(disk / MIB)):,} MiB"
    if cost is None:
        return f"{head}: about {size}; no time is estimated (--no-timing)"
    evidence = f"{in_words(cost.evidence_s)} for their evidence"
    return (
        f"{head}: about {size}, {in_words(cost.seconds)}, and {evidence}\n"
        f"estimated from {cost.basis}"
    )
