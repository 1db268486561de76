"""A picture coming about: what each step of the reference loop saw, as an animated image."""

import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featviz.engine.optimize import optimize
from featviz.engine.recipe import Recipe
from featviz.engine.render import hwc_uint8_from_images, is_for
from featviz.errors import UnknownName
from featviz.network.network import Network

FORMATS = {".webp": "WEBP", ".gif": "GIF"}
HOLD_MS = 1200
"""How long the finished picture stays."""


def frames(network: Network, recipe: Recipe, *, every: int = 4) -> Iterator[NDArray[np.uint8]]:
    """The recipe's first picture, (row, column, channel), at each `every`-th step and at its end.

    Its end is what `render` makes, up to rounding: this is the loop that defines it. Raises
    DoesNotFit where the recipe is for another network.
    """
    is_for(network, recipe)
    for step in optimize(network, recipe):
        if step.number % every == 0 or step.number == recipe.steps:
            yield hwc_uint8_from_images(step.images[:1])[0]


def animated(pictures: Iterator[NDArray[np.uint8]], suffix: str, *, frame_ms: int = 60) -> bytes:
    """A looping .webp (lossless) or .gif file; the last picture stays for a while.

    Raises UnknownName for another suffix.
    """
    if suffix not in FORMATS:
        raise UnknownName("kind of animation", suffix, FORMATS)
    images = [Image.fromarray(each.squeeze()) for each in pictures]
    times = [frame_ms] * (len(images) - 1) + [HOLD_MS]
    file = io.BytesIO()
    options = {"lossless": True} if suffix == ".webp" else {}
    images[0].save(
        file,
        format=FORMATS[suffix],
        save_all=True,
        append_images=images[1:],
        duration=times,
        loop=0,
        **options,
    )
    return file.getvalue()
