"""The words that commands and configs use for parameterizations and transform stacks."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from featviz.engine.recipe import Recipe, fast_preset, lucid_preset
from featviz.errors import UnknownName
from featviz.image.parameterizations import Fourier, Pixel
from featviz.image.transforms import Stack, lucid, standard, strong

Named = TypeVar("Named")

TRANSFORMS: Mapping[str, Callable[[], Stack]] = MappingProxyType(
    {"standard": standard, "strong": strong, "lucid": lucid, "none": Stack}
)
PARAMETERIZATIONS: Mapping[str, type[Fourier] | type[Pixel]] = MappingProxyType(
    {"fourier": Fourier, "pixel": Pixel}
)
PRESETS: Mapping[str, Callable[[Recipe], Recipe]] = MappingProxyType(
    {"default": lambda recipe: recipe, "fast": fast_preset, "lucid": lucid_preset}
)


def transforms_under(preset: str = "default", transforms: str | None = None) -> Stack | None:
    """The transforms that the words stand for; None for the default's. Raises UnknownName."""
    if transforms is not None:
        return _named("transforms", transforms, TRANSFORMS)()
    return lucid() if preset == "lucid" else None


def adjusted(
    recipe: Recipe,
    *,
    preset: str = "default",
    steps: int | None = None,
    learning_rate: float | None = None,
    transforms: str | None = None,
    parameterization: str | None = None,
) -> Recipe:
    """The recipe under a preset, and then with what is given; None leaves what is there.

    Raises UnknownName, OutOfRange.
    """
    changes: dict[str, object] = {}
    if parameterization is not None:
        color = "decorrelated" if recipe.shape.channels == 3 else "plain"
        kind = _named("parameterization", parameterization, PARAMETERIZATIONS)
        changes["parameterization"] = kind(color=color)
    made = _named("preset", preset, PRESETS)(replace(recipe, **changes))
    if steps is not None:
        changes["steps"] = steps
    if learning_rate is not None:
        changes["optimizer"] = replace(made.optimizer, learning_rate=learning_rate)
    if transforms is not None:
        changes["transforms"] = _named("transforms", transforms, TRANSFORMS)()
    return replace(made, **changes)


def _named(kind: str, word: str, there: Mapping[str, Named]) -> Named:
    if word not in there:
        raise UnknownName(kind, word, there)
    return there[word]
