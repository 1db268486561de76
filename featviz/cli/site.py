"""`featviz site` and `featviz serve`: the pages of an atlas, and a server for them."""

from contextlib import suppress
from pathlib import Path

import click

from featviz.atlas.site.folder import site_in
from featviz.atlas.site.server import SiteServer
from featviz.atlas.site.write import write_site
from featviz.atlas.store import Store

MOST_NAMED = 5


@click.command(short_help="Write the pages of an atlas.")
@click.argument("store")
@click.option("--out", type=click.Path(path_type=Path), help="The folder. [STORE/site]")
def site(store: str, out: Path | None) -> None:
    """Write static pages of the atlas in STORE, a folder or URL; open index.html in a browser."""
    opened = Store.at(store)
    if out is None and opened.folder is None:
        raise click.UsageError("Give --out FOLDER: the site of a URL is written to this machine")
    made = write_site(opened, (opened.folder or Path()) / "site" if out is None else out)
    if made.damaged:
        named = ", ".join(made.damaged[:MOST_NAMED])
        more = ", ..." if len(made.damaged) > MOST_NAMED else ""
        click.echo(f"{len(made.damaged)} left out, not readable: {named}{more}", err=True)
    missing = f", {made.missing} not made yet" if made.missing else ""
    click.echo(
        f"{made.units} units, {made.pictures} pictures{missing}; "
        f"{made.files} files, {made.size / 1e6:.1f} MB\n"
        f"{made.folder / 'index.html'}"
    )


@click.command(short_help="Serve the pages of an atlas to a browser.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="STORE_OR_SITE")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0: any that is free.",
)
def serve(folder: Path, host: str, port: int) -> None:
    """Serve the site in STORE_OR_SITE until Ctrl-C; to this machine only, unless --host says so."""
    with SiteServer(site_in(folder), host=host, port=port) as server, suppress(KeyboardInterrupt):
        click.echo(f"{server.url}  (Ctrl-C ends)")
        server.serve_forever()
