"""`featviz store`: damage found and repaired, and a table of all records."""

from pathlib import Path

import click

from featviz.atlas.check import check, repair
from featviz.atlas.store import Store
from featviz.atlas.table import table
from featviz.cli.atlas import store_argument
from featviz.errors import Malformed
from featviz.files import check_writable, write_whole


@click.group(short_help="Look after an atlas's store: check, table.")
def store() -> None:
    """Look after the folder or URL of an atlas."""


@store.command(name="check", short_help="Find damage; --repair makes it missing again.")
@store_argument
@click.option("--repair", "repairs", is_flag=True, help="Remove what is damaged or left over.")
def check_command(store: str, repairs: bool) -> None:
    """Read every file of a STORE and name what is damaged; exit code 2 where anything is.

    With --repair damaged pictures are removed, and the next `featviz atlas` makes them again; no
    build may be at work meanwhile.
    """
    source = Store.at(store)
    found = check(source)
    for damage in found.damages:
        click.echo(damage)
    left = f"; {len(found.leftovers)} files that nothing names" if found.leftovers else ""
    if repairs:
        repair(source, found)
        click.echo(f"{found.whole} pictures whole; {len(found.damages)} damaged{left}; removed")
        return
    click.echo(f"{found.whole} pictures whole; {len(found.damages)} damaged{left}")
    if found.damages:
        raise Malformed(
            "all of the store", source.place, expected="whole files; --repair removes the others"
        )


@store.command(name="table", short_help="Write all records as a Parquet table.")
@store_argument
@click.option(
    "--out", type=click.Path(path_type=Path), default="records.parquet", show_default=True
)
def table_command(store: str, out: Path) -> None:
    """Write a row for each picture of a STORE: address, scores, evidence, execution."""
    source = Store.at(store)
    source.head()
    check_writable(out.parent)
    write_whole(out, table(source))
    click.echo(out)
