"""`featviz render`: pictures of some units, or of an expression, or again of a picture's recipe."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from featviz.cli.options import (
    execution_options,
    preset,
    recipe_options,
    recipe_settings,
    weights_option,
)
from featviz.cli.progress import progress_bar
from featviz.engine.again import again, stored
from featviz.engine.execution import execution
from featviz.engine.objectives import title
from featviz.engine.picture import Picture
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import DEFAULT_SLOTS, objectives_of, render_each
from featviz.errors import DoesNotFit
from featviz.files import check_writable, file_name
from featviz.network.network import Network
from featviz.network.zoo import load


@click.command()
@click.argument("network", required=False)
@click.argument("wishes", nargs=-1, metavar="SELECTION...")
@click.option("--recipe", "source", type=click.Path(), help="A picture to make again.")
@weights_option
@recipe_options
@click.option("--negative", is_flag=True, help="What makes the unit fire least.")
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
    "channel(blocks.4, 7) - 0.5 * channel(blocks.4, 3)".
    """
    check_writable(out)
    if source is not None:
        _again(source, network, out, options)
        return
    if network is None or not wishes:
        raise click.UsageError("a NETWORK and at least one SELECTION, or --recipe PICTURE")
    loaded = load(network, weights=options["weights"])
    recipes = _recipes(loaded, wishes, options)
    number = sum(recipe.count for recipe in recipes)
    if out.suffix and number > 1:
        raise DoesNotFit(f"the file {str(out)!r}", got=f"{number} pictures", expected="a folder")
    how = execution(
        slots=options["slots"] or max(1, min(number, DEFAULT_SLOTS)),
        device=options["device"] or "cpu",
        dtype=options["dtype"] or "float32",
        weights=options["weights"],
    )
    with progress_bar(number) as advance:
        for picture in render_each(loaded, recipes, how, on_progress=advance):
            _save(picture, out)


def _recipes(network: Network, wishes: Iterable[str], options: Mapping[str, Any]) -> list[Recipe]:
    settings = recipe_settings(options, channels=network.preprocessing.channels)
    sign = -1 if options["negative"] else 1
    return [
        preset(options["preset"], default_recipe(network, sign * objective, **settings))
        for wish in wishes
        for objective in objectives_of(network, wish)
    ]


def _again(source: str, network: str | None, out: Path, options: Mapping[str, Any]) -> None:
    found = stored(source)
    recorded = found.execution.weights
    weights = recorded if options["weights"] == "default" else options["weights"]
    loaded = load(network or found.recipe.network_name, weights=weights)
    how = {name: options[name] for name in ("slots", "device", "dtype")}
    picture, differences = again(loaded, found, **how)
    for difference in differences:
        click.echo(f"not as recorded: {difference}; the bytes may differ", err=True)
    _save(picture, out)


def _save(picture: Picture, out: Path) -> None:
    """Writes one picture and prints a line for it."""
    name = file_name(title(picture.recipe.objective))[:100]
    many = f"-{picture.index}" if picture.recipe.count > 1 else ""
    path = out if out.suffix else out / f"{name}-{picture.recipe.digest[:8]}{many}.png"
    picture.save(path)
    start = picture.course[0] if picture.course else float("nan")
    click.echo(
        f"{path}  {title(picture.recipe.objective)}  {picture.verdict}  "
        f"{start:.4g} -> {picture.score:.4g} in {picture.steps} steps"
    )
