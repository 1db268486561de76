"""`featviz render`: pictures of some units, or of an expression, or again of a picture's recipe."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from featviz.atlas.writing import Writer
from featviz.cli.options import (
    RECIPE_OPTIONS,
    Options,
    execution_options,
    given,
    recipe_of,
    recipe_options,
    weights_option,
)
from featviz.cli.progress import echo, progress_bar
from featviz.engine.again import again, stored
from featviz.engine.execution import execution
from featviz.engine.memory import parse_bytes
from featviz.engine.objectives import title
from featviz.engine.picture import SUFFIXES, Picture, check_channels
from featviz.engine.render import default_slots, fitting_slots, objectives_of, render_each
from featviz.errors import DoesNotFit, UnknownName
from featviz.files import check_writable, file_name
from featviz.network.zoo import load


@click.command(short_help="Render units from noise; print where the pictures are.")
@click.argument("network", required=False)
@click.argument("wishes", nargs=-1, metavar="SELECTION...")
@click.option("--recipe", "source", type=click.Path(), help="A picture to make again.")
@weights_option
@recipe_options
@execution_options
@click.option(
    "--out",
    default="pictures",
    show_default=True,
    type=click.Path(path_type=Path),
    help="A folder, or a .png or .webp file for one picture.",
)
def render(
    network: str | None, wishes: tuple[str, ...], source: str | None, out: Path, **options: Any
) -> None:
    """Render units of NETWORK, from noise, and print where the pictures are.

    A SELECTION is LAYER:CHANNELS[@ROW,COLUMN], such as blocks.4:17, blocks.2:0-15 or
    blocks.4:17@7,7, or an expression such as
    "blocks.4:7 - 0.5 * blocks.4:3" or "channel(blocks.4, 7) - 2 * total_variation()".

    With --recipe PICTURE, the picture is made again from what its file carries.
    """
    _check_out(out)
    if source is not None:
        _check_alone(wishes, options)
        _again(source, network, out, options)
    elif network is None or not wishes:
        raise click.UsageError("Give a NETWORK and at least one SELECTION, or --recipe PICTURE")
    else:
        _render(network, wishes, out, options)


def _render(name: str, wishes: tuple[str, ...], out: Path, options: Options) -> None:
    network = load(name, weights=options["weights"])
    check_channels(network.preprocessing.channels)
    objectives = [each for wish in wishes for each in objectives_of(network, wish)]
    recipes = {r.digest: r for r in (recipe_of(network, each, options) for each in objectives)}
    counts = [recipe.count for recipe in recipes.values()]
    if _is_file(out) and sum(counts) > 1:
        got = f"{sum(counts)} pictures"
        raise DoesNotFit(f"the file {str(out)!r}", got=got, expected="one", hint="give a folder")
    memory = None if options["memory"] is None else parse_bytes(options["memory"])
    place = {
        "device": options["device"] or "cpu",
        "dtype": options["dtype"] or "float32",
        "memory": memory,
    }
    asked = list(recipes.values())
    usual = default_slots(asked, place["device"])
    how = execution(
        slots=options["slots"] or fitting_slots(network, asked, usual, **place),
        **{name: place[name] for name in ("device", "dtype")},
        weights=options["weights"],
    )
    with progress_bar("pictures", sum(counts)) as bar, Writer(partial(_save, out=out)) as writer:
        for picture in render_each(network, recipes.values(), how, on_progress=bar.advance):
            writer.put(picture)


def _again(source: str, network: str | None, out: Path, options: Options) -> None:
    found = stored(source)
    recorded = found.execution.weights
    weights = recorded if options["weights"] == "default" else options["weights"]
    loaded = load(network or found.recipe.network_name, weights=weights)
    how = {name: options[name] for name in ("slots", "device", "dtype")}
    with progress_bar("pictures", found.recipe.count) as bar:
        picture, differences = again(loaded, found, **how, on_progress=bar.advance)
    for difference in differences:
        click.echo(f"not as recorded: {difference}; the bytes may differ", err=True)
    _save(picture, out)


def _check_out(out: Path) -> None:
    """Raises UnknownName, NotAvailable before anything is loaded."""
    if _is_file(out) and out.suffix.lower() not in SUFFIXES:
        raise UnknownName("image format", out.suffix, SUFFIXES)
    check_writable(out.parent if _is_file(out) else out)


def _check_alone(wishes: tuple[str, ...], options: Options) -> None:
    """Raises UsageError: what a recipe decides cannot be asked for beside it."""
    words = [repr(wish) for wish in wishes]
    words += [f"--{name.replace('_', '-')}" for name in given(options, RECIPE_OPTIONS)]
    if words:
        raise click.UsageError(f"--recipe decides the picture; leave out {', '.join(words)}")


def _is_file(out: Path) -> bool:
    return bool(out.suffix) and not out.is_dir()


def _save(picture: Picture, out: Path) -> None:
    """Writes one picture and prints a line for it."""
    name = title(picture.recipe.objective)
    many = f"-{picture.index}" if picture.recipe.count > 1 else ""
    file = f"{file_name(name)[:100]}-{picture.recipe.digest[:8]}{many}.png"
    path = picture.save(out if _is_file(out) else out / file)
    start = picture.course[0] if picture.course else float("nan")
    echo(
        f"{path}  {name}  {picture.verdict}  "
        f"{start:.4g} -> {picture.score:.4g} in {picture.steps} steps"
    )
