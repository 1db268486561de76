"""Options that several commands share, and what they stand for."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from featviz.engine.execution import DTYPES
from featviz.engine.presets import PARAMETERIZATIONS, TRANSFORMS
from featviz.engine.recipe import Adam, Recipe, lucid_preset
from featviz.engine.render import DEFAULT_SLOTS
from featviz.errors import Malformed


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
    """--slots, --device, --dtype."""
    for option in (
        click.option("--dtype", type=click.Choice(list(DTYPES)), help="Of the network. [float32]"),
        click.option("--device", help="cpu, cuda, cuda:N or mps. [cpu]"),
        click.option(
            "--slots",
            "--batch",
            "slots",
            type=click.IntRange(min=1),
            help=f"Pictures at once. [as many as asked for, up to {DEFAULT_SLOTS}]",
        ),
    ):
        command = option(command)
    return command


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What decides the pixels."""
    for option in (
        click.option(
            "--preset",
            type=click.Choice(["default", "lucid"]),
            default="default",
            show_default=True,
            help="lucid: 512 steps with Lucid's noise, transforms and learning rate.",
        ),
        click.option("--count", default=Recipe.count, show_default=True, help="Pictures a unit."),
        click.option("--seed", default=Recipe.seed, show_default=True, help="Of the noise."),
        click.option(
            "--learning-rate", default=Adam.learning_rate, show_default=True, help="Adam's."
        ),
        click.option("--steps", default=Recipe.steps, show_default=True, help="Optimizer steps."),
        click.option("--size", help="Side, or ROWSxCOLUMNS, in pixels. [the network's own]"),
        click.option("--plain-color", is_flag=True, help="RGB as it is, not decorrelated."),
        click.option(
            "--transforms",
            type=click.Choice(list(TRANSFORMS)),
            default="standard",
            show_default=True,
            help="The robustness stack.",
        ),
        click.option(
            "--parameterization",
            type=click.Choice(list(PARAMETERIZATIONS)),
            default="fourier",
            show_default=True,
        ),
    ):
        command = option(command)
    return command


def recipe_settings(options: Mapping[str, Any], *, channels: int) -> dict[str, Any]:
    """Fields of Recipe from the values of the options. Raises Malformed, OutOfRange."""
    is_plain = options["plain_color"] or channels != 3
    kind = PARAMETERIZATIONS[options["parameterization"]]
    return {
        "parameterization": kind(color="plain" if is_plain else "decorrelated"),
        "transforms": TRANSFORMS[options["transforms"]](),
        "optimizer": Adam(learning_rate=options["learning_rate"]),
        **{name: options[name] for name in ("steps", "seed", "count")},
        **({} if options["size"] is None else {"size": parse_size(options["size"])}),
    }


def preset(name: str, recipe: Recipe) -> Recipe:
    """The recipe under a preset."""
    return lucid_preset(recipe) if name == "lucid" else recipe


def parse_size(text: str) -> tuple[int, int]:
    """Rows and columns of "128" or "96x128". Raises Malformed."""
    words = text.lower().split("x")
    if not 1 <= len(words) <= 2 or not all(word.isdecimal() and int(word) for word in words):
        raise Malformed("the size", text, expected="pixels, such as 128 or 96x128 (rows x columns)")
    return int(words[0]), int(words[-1])
