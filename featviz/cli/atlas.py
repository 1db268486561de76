"""`featviz atlas`, `coverage`, `sheet`: making what a config names, and what a store has."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from featviz.atlas.build import Means, build
from featviz.atlas.config import read_config
from featviz.atlas.entry import entries_of
from featviz.atlas.ledger import Share, ledger_of
from featviz.atlas.record import Record
from featviz.atlas.references import References, folder_references, pink_references
from featviz.atlas.sheet import MOST, contact_sheet
from featviz.atlas.store import Store
from featviz.cli.progress import progress_bar
from featviz.engine.memory import parse_bytes
from featviz.errors import FeatvizError, UnknownName
from featviz.files import check_writable, write_whole

store_argument = click.argument("store", type=str)


@click.command(short_help="Render what a config names, measure it, keep it in a store.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", help="The store, a folder or fsspec URL. [atlases/NAME of CONFIG]")
@click.option("--weights", metavar="default|none|FILE", help="Instead of the config's.")
@click.option("--device", help="cpu, cuda, cuda:N or mps. [cpu]")
@click.option("--memory", help="What may be used, such as 8G. [most of what is free]")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Reference images for the evidence. [512 of pink noise]",
)
@click.option("--no-evidence", is_flag=True, help="Pictures only.")
def atlas(config: Path, out: str | None, weights: str | None, **options: Any) -> None:
    """Render what CONFIG (TOML or YAML) names into a store; what is there already is kept."""
    wanted = read_config(config)
    store = Store.at(str(Path("atlases") / config.stem) if out is None else out)
    if store.folder is not None:
        check_writable(store.folder)
    images, memory = options["images"], options["memory"]
    references = None
    if not options["no_evidence"]:
        references = pink_references() if images is None else _photographs(images)
    means = Means(
        device=options["device"],
        memory=None if memory is None else parse_bytes(memory),
        references=references,
    )
    try:
        result = build(wanted, store, weights=weights, means=means, progress=progress_bar)
    except KeyboardInterrupt:
        click.echo("stopped: what is finished is kept, and the same command goes on", err=True)
        raise
    click.echo(
        f"{result.rendered} pictures rendered, {result.kept} kept; "
        f"{result.count('dead')} dead, {result.count('not finite')} not finite; "
        f"evidence of {result.measured} measured\nstore: {store.place}"
    )
    if store.folder is None or len(result.records) > MOST:
        return
    shown = _readable(store, result.records)
    if shown:
        sheet = store.folder / "sheet.png"
        write_whole(sheet, contact_sheet(store, shown, columns=wanted.columns))
        click.echo(f"sheet: {sheet}")


@click.command(short_help="Say which units of the network have a picture, failed or lack one.")
@store_argument
@click.option("--json", "is_json", is_flag=True, help="For programs.")
@click.option("--layers", "by_layer", is_flag=True, help="Also layer by layer.")
def coverage(store: str, is_json: bool, by_layer: bool) -> None:
    """Count the unique units of the network that a STORE has pictures of; then the config's
    pictures, then views. All are counted of what the last config names."""
    found = ledger_of(Store.at(store))
    if is_json:
        click.echo(json.dumps(found.to_data(), indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("", "units", "pictured", "failed", "missing", "accounted for"):
        table.add_column(name, justify="left" if not name else "right")
    shares = {
        "network, unique units": found.network,
        "config, pictures": found.of_config,
        "network, channels of views": found.views,
    }
    for name, share in {**shares, **(found.by_layer if by_layer else {})}.items():
        table.add_row(name, *_cells(share))
    Console(width=None if Console().is_terminal else 120).print(table)
    for reason, count in found.of_config.failed.most_common():
        click.echo(f"{count} pictures {reason}")


@click.command(short_help="Draw a contact sheet of pictures in a store.")
@store_argument
@click.argument("addresses", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path), default="sheet.png", show_default=True)
@click.option("--columns", type=click.IntRange(min=1), default=8, show_default=True)
def sheet(store: str, addresses: tuple[str, ...], out: Path, columns: int) -> None:
    """Draw a PNG of what the last config of a STORE names, or of the layers or units at
    ADDRESSES."""
    source = Store.at(store)
    source.head()
    entries = entries_of(source) or ()
    known = {word for each in entries for word in (each.address, each.layer) if word}
    for address in addresses:
        if address not in known:
            raise UnknownName("layer or unit of the store", address, sorted(known))
    wanted = set(addresses)
    found = [
        record
        for each in entries
        if not addresses or {each.address, each.layer} & wanted
        if (record := source.get(each.key)) is not None
    ]
    check_writable(out.parent)
    write_whole(out, contact_sheet(source, _readable(source, found), columns=columns))
    click.echo(out)


def _readable(store: Store, records: Sequence[Record]) -> list[Record]:
    """Those whose picture can be read; the others are named."""
    kept = []
    for record in records:
        try:
            store.read(record)
            record.asked()
        except (FileNotFoundError, FeatvizError) as error:
            is_gone = isinstance(error, FileNotFoundError)
            said = f"{record.files['picture'][0]} is missing" if is_gone else str(error)
            hint = f"`featviz store check {store.place} --repair`"
            click.echo(f"left out: {' '.join(said.split())}; see {hint}", err=True)
        else:
            kept.append(record)
    return kept


def _photographs(folder: Path) -> References:
    """The images of a folder; those that cannot be decoded are named."""
    found = folder_references(folder)
    for path in found.skipped:
        click.echo(f"not an image, left out: {path}", err=True)
    return found


def _cells(share: Share) -> list[str]:
    counts = (share.units, share.pictured, share.failed.total(), share.missing)
    return [*(f"{count:,}" for count in counts), f"{share.accounted:.1%}"]
