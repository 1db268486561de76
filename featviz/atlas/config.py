"""The config of an atlas: a TOML or YAML file, checked; errors name the key and the nearest one."""

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from featviz.engine.execution import DTYPES
from featviz.engine.presets import PRESETS, TRANSFORMS
from featviz.engine.recipe import Adam, Recipe
from featviz.engine.render import DEFAULT_SLOTS
from featviz.errors import DoesNotFit, Malformed, NotAvailable, UnknownName


def one_of(there: Iterable[str]) -> AfterValidator:
    """Only these words."""
    words = list(there)

    def check(word: str) -> str:
        if word not in words:
            nearest = get_close_matches(word, words, n=1, cutoff=0.4)
            hint = f"; nearest: {nearest[0]!r}" if nearest else ""
            message = f"one of {', '.join(map(repr, words))}{hint}"
            raise PydanticCustomError("unknown_word", "{message}", {"message": message})
        return word

    return AfterValidator(check)


class AtlasConfig(BaseModel):
    """What an atlas shows; the keys of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    network: str = "efficientnet_lite0"
    """As `featviz networks` names them."""
    weights: str = "default"
    """default, none or a file."""
    units: list[str] = Field(min_length=1)
    """Selections and expressions."""
    negative: bool = False
    """Also render what makes each fire least."""
    size: Annotated[int, Field(ge=8)] | Literal["auto"] = "auto"
    """Side in pixels; auto: as large as each unit sees."""
    steps: int = Field(default=Recipe.steps, ge=1)
    learning_rate: float = Field(default=Adam.learning_rate, gt=0)
    transforms: Annotated[str, one_of(TRANSFORMS)] = "standard"
    preset: Annotated[str, one_of(PRESETS)] = "default"
    """fast: 40 steps; lucid: Lucid's steps, learning rate, transforms and noise; where the file
    gives no others."""
    seed: int = Field(default=Recipe.seed, ge=0)
    slots: int = Field(default=DEFAULT_SLOTS["cpu"], ge=1)
    """Pictures at once, at most: fewer where memory is short."""
    dtype: Annotated[str, one_of(DTYPES)] = "float32"
    columns: int = Field(default=8, ge=1)
    """Of the contact sheet."""


def read_config(path: Path) -> AtlasConfig:
    """The config in a .toml, .yaml or .yml file.

    Raises NotAvailable, Malformed, UnknownName for a key, DoesNotFit for a value.
    """
    data = _parsed(path)
    if not isinstance(data, dict):
        raise Malformed("the config", str(path), expected="keys and values, such as units = [...]")
    for key in data:
        if key not in AtlasConfig.model_fields:
            raise UnknownName(f"key of {path.name}", str(key), AtlasConfig.model_fields)
    try:
        return AtlasConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        got = "nothing" if first["type"] == "missing" else repr(first["input"])[:60]
        message = first["msg"].removeprefix("Input should be ").lower()
        raise DoesNotFit(f"{key!r} of {path.name}", got=got, expected=message) from error


def _parsed(path: Path) -> Any:
    suffixes = (".toml", ".yaml", ".yml")
    if path.suffix not in suffixes:
        raise UnknownName("kind of config", path.suffix or path.name, suffixes)
    if not path.is_file():
        raise NotAvailable(f"the config {str(path)!r}", there="there is no such file")
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise NotAvailable(f"the config {str(path)!r}", there=_line(error)) from error
    except (tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise Malformed(
            "the config", str(path), expected=f"{path.suffix[1:].upper()} ({_line(error)})"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
