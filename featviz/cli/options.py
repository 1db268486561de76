"""Options that several commands share, and what they stand for.

An option that was not given is None: what it stands for then is decided in one place, the
engine, and said in its help.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from featviz.engine.execution import DTYPES
from featviz.engine.given import GivenImage
from featviz.engine.objectives import Objective
from featviz.engine.presets import (
    PARAMETERIZATIONS,
    PRESETS,
    TRANSFORMS,
    adjusted,
    transforms_under,
)
from featviz.engine.recipe import Adam, Plateau, Recipe, default_recipe
from featviz.engine.render import DEFAULT_SLOTS
from featviz.errors import Malformed
from featviz.image.parameterizations import Fourier, Pixel
from featviz.network.network import Network

Options = Mapping[str, Any]

RECIPE_OPTIONS = (
    *("parameterization", "transforms", "plain_color", "size", "steps", "learning_rate", "seed"),
    *("count", "preset", "negative", "start", "plateau"),
)


def weights_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--weights."""
    return click.option(
        "--weights",
        default="default",
        show_default=True,
        metavar="default|none|FILE",
        help="Published weights, random ones, or a .npz, .safetensors, .pt or .pth file.",
    )(command)


def execution_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--slots, --memory, --device, --dtype."""
    for option in (
        click.option("--dtype", type=click.Choice(list(DTYPES)), help="Of the network. [float32]"),
        click.option("--device", help="cpu, cuda, cuda:N or mps. [cpu]"),
        click.option(
            "--slots",
            "--batch",
            "slots",
            type=click.IntRange(min=1),
            help="Pictures at once. [as many as asked for and fit into --memory, up to "
            f"{DEFAULT_SLOTS['cpu']}, on CUDA {DEFAULT_SLOTS['cuda']}]",
        ),
        click.option("--memory", help="What may be used, such as 8G. [most of what is free]"),
    ):
        command = option(command)
    return command


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What decides the pixels: RECIPE_OPTIONS."""
    for option in (
        click.option("--negative", is_flag=True, help="What makes the unit fire least."),
        click.option(
            "--preset",
            type=click.Choice(list(PRESETS)),
            help="fast: 28 steps, by an optimizer that gets far in few. lucid: 512 steps with "
            "Lucid's noise, transforms and learning rate. Other options still count. [default]",
        ),
        click.option(
            "--count", type=int, help=f"Pictures of each unit, seeds in a row. [{Recipe.count}]"
        ),
        click.option("--seed", type=int, help=f"Of the noise. [{Recipe.seed}]"),
        click.option("--learning-rate", type=float, help=f"Adam's. [{Adam.learning_rate}]"),
        click.option("--steps", type=int, help=f"Optimizer steps. [{Recipe.steps}]"),
        click.option("--size", help="Side, or ROWSxCOLUMNS, in pixels. [auto: what the unit sees]"),
        click.option(
            "--start", type=click.Path(path_type=Path), help="Begin from this image, not noise."
        ),
        click.option("--plateau", is_flag=True, help="Stop a picture when it gains no more."),
        click.option("--plain-color", is_flag=True, help="RGB as it is, not decorrelated."),
        click.option(
            "--transforms",
            type=click.Choice(list(TRANSFORMS)),
            help="The robustness stack. [standard]",
        ),
        click.option(
            "--parameterization",
            type=click.Choice(list(PARAMETERIZATIONS)),
            help="What the optimizer moves. [fourier]",
        ),
    ):
        command = option(command)
    return command


def given(options: Options, names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the named options that stand on the command line."""
    asked = {name: options[name] for name in names}
    return {
        name: value for name, value in asked.items() if value is not None and value is not False
    }


def recipe_of(network: Network, objective: Objective, options: Options) -> Recipe:
    """The recipe that the options describe. Raises Malformed, OutOfRange, DoesNotFit."""
    settings = given(options, ("seed", "count"))
    if options["size"] not in (None, "auto"):
        settings["size"] = parse_size(options["size"])
    moving = transforms_under(**given(options, ("preset", "transforms")))
    if moving is not None:
        settings["transforms"] = moving
    sign = -1 if options["negative"] else 1
    recipe = adjusted(
        default_recipe(network, sign * objective, **settings),
        **given(options, ("preset", "steps", "learning_rate", "transforms", "parameterization")),
    )
    made = recipe.parameterization
    if options["plain_color"] and isinstance(made, (Fourier, Pixel)):
        recipe = replace(recipe, parameterization=replace(made, color="plain"))
    if options["start"] is not None:
        recipe = replace(recipe, start=GivenImage.open(options["start"], recipe.shape))
    return replace(recipe, stop=Plateau()) if options["plateau"] else recipe


def parse_size(text: str) -> tuple[int, int]:
    """Rows and columns of "128" or "96x128". Raises Malformed."""
    words = text.lower().split("x")
    if not 1 <= len(words) <= 2 or not all(word.isdecimal() and int(word) for word in words):
        raise Malformed("the size", text, expected="pixels, such as 128 or 96x128 (rows x columns)")
    return int(words[0]), int(words[-1])
