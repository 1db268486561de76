"""`featviz atlas`: the pictures that a config names, a contact sheet and an index."""

from pathlib import Path

import click

from featviz.atlas.build import build
from featviz.atlas.config import read_config
from featviz.cli.progress import progress_bar
from featviz.engine.memory import parse_bytes
from featviz.files import check_writable


@click.command(short_help="Render what a config names; add an index and a contact sheet.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The folder. [atlases/NAME of CONFIG]")
@click.option(
    "--weights",
    metavar="default|none|FILE",
    help="Instead of the config's.",
)
@click.option("--device", help="cpu, cuda, cuda:N or mps. [cpu]")
@click.option("--memory", help="What may be used, such as 8G. [most of what is free]")
def atlas(
    config: Path, out: Path | None, weights: str | None, device: str | None, memory: str | None
) -> None:
    """Render what CONFIG (TOML or YAML) names into a folder; what is there already is kept."""
    wanted = read_config(config)
    folder = Path("atlases") / config.stem if out is None else out
    check_writable(folder)
    result = build(
        wanted,
        folder,
        weights=weights,
        device=device,
        memory=None if memory is None else parse_bytes(memory),
        progress=progress_bar,
    )
    click.echo(
        f"{result.rendered} pictures rendered, {result.kept} kept; "
        f"{result.dead} dead, {result.not_finite} not finite\n"
        f"pictures: {result.pictures}\nindex:    {result.index}\nsheet:    {result.sheet}"
    )
