"""`featviz animate`: a picture coming about."""

from pathlib import Path
from typing import Any

import click

from featviz.cli.options import recipe_of, recipe_options, weights_option
from featviz.cli.progress import progress_bar
from featviz.engine.animation import FORMATS, animated, frames
from featviz.engine.picture import check_channels
from featviz.engine.render import objectives_of
from featviz.errors import DoesNotFit, UnknownName
from featviz.files import check_writable, write_whole
from featviz.network.zoo import load


@click.command(short_help="Show how a unit's picture comes about, as WebP or GIF.")
@click.argument("network")
@click.argument("unit")
@click.option("--out", type=click.Path(path_type=Path), default="unit.webp", show_default=True)
@click.option("--every", type=click.IntRange(min=1), default=4, show_default=True, help="Steps.")
@weights_option
@recipe_options
def animate(network: str, unit: str, out: Path, every: int, **options: Any) -> None:
    """Render one UNIT (an address or expression) and keep what each step saw."""
    if out.suffix.lower() not in FORMATS:
        raise UnknownName("kind of animation", out.suffix, FORMATS)
    check_writable(out.parent)
    loaded = load(network, weights=options["weights"])
    check_channels(loaded.preprocessing.channels)
    objectives = objectives_of(loaded, unit)
    if len(objectives) != 1:
        raise DoesNotFit("an animation", got=f"{len(objectives)} units", expected="one")
    recipe = recipe_of(loaded, objectives[0], options)
    with progress_bar("frames", -(-recipe.steps // every) + 1) as bar:
        kept = []
        for picture in frames(loaded, recipe, every=every):
            kept.append(picture)
            bar.advance(1.0)
    write_whole(out, animated(iter(kept), out.suffix.lower()))
    click.echo(out)
