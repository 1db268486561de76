"""The config of an atlas: a TOML or YAML file, checked; errors name the key and the nearest one."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from featviz.engine.execution import DTYPES
from featviz.engine.presets import PRESETS, TRANSFORMS
from featviz.engine.recipe import Adam, Recipe
from featviz.errors import (
    DoesNotFit,
    FeatvizError,
    Malformed,
    NotAvailable,
    UnknownName,
    said_of,
)
from featviz.image.parameterizations import MOST_PX

TECHNIQUES = ("channel", "neuron", "negative", "diversity")
"""What a config can ask of each unit."""
LEAST_PX = 8


def one_of(there: Iterable[str]) -> AfterValidator:
    """Only these words."""
    words = list(there)

    def check(word: str) -> str:
        if word not in words:
            nearest = get_close_matches(word, words, n=1, cutoff=0.4)
            hint = f"; nearest: {nearest[0]!r}" if nearest else ""
            raise _refused(f"one of {', '.join(map(repr, words))}{hint}")
        return word

    return AfterValidator(check)


def _refused(expected: str) -> PydanticCustomError:
    return PydanticCustomError("not_as_expected", "{message}", {"message": expected})


def _check_size(size: object) -> object:
    sides = re.fullmatch(r"(\d+)x(\d+)", size) if isinstance(size, str) else None
    given = [int(side) for side in sides.groups()] if sides is not None else []
    if isinstance(size, int) and not isinstance(size, bool):
        given = [size]
    is_fit = bool(given) and all(LEAST_PX <= side <= MOST_PX for side in given)
    if not is_fit and size != "auto":
        raise _refused(
            f'"auto", a side of {LEAST_PX} to {MOST_PX} pixels, or rows and columns: "96x128"'
        )
    return size


def _check_formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    if {"png", "webp"} <= set(formats):
        raise _refused('one lossless format, "png" or "webp"; the other kind is "jpeg"')
    return formats


class Part(BaseModel):
    """Keys of a file; no others, nothing converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Diversity(Part):
    """A set of pictures of one unit that are pushed apart: the unit minus weight * likeness."""

    count: int = Field(default=4, ge=2)
    weight: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Of the mean cosine between Gram matrices, against the unit's activation."""


class Directions(Part):
    """Rows of a matrix in a .safetensors file, each a direction in the channels of a layer."""

    file: str
    """Relative to the config."""
    tensor: str
    """Of the shape (rows, channels of the layer)."""
    layer: str
    rows: str = "*"
    """As channels are selected: "0-63", "*/8", "3,5,7"."""
    names: list[str] | str | None = None
    """A list, or a text file with a name a line: one for each row of the tensor or of `rows`."""

    def in_folder(self, folder: Path) -> "Directions":
        """The same, its files relative to where the command runs."""
        names = self.names
        if isinstance(names, str):
            names = str(folder / names)
        return self.model_copy(update={"file": str(folder / self.file), "names": names})


class AtlasConfig(Part):
    """What an atlas shows; the keys of the file. Raises DoesNotFit where it asks for nothing."""

    network: str = "efficientnet_lite0"
    """As `featviz networks` names them."""
    weights: str = "default"
    """default, none or a file."""
    units: list[str] = []
    """Selections and expressions."""
    techniques: Annotated[list[Annotated[str, one_of(TECHNIQUES)]], Field(min_length=1)] = [
        "channel"
    ]
    """Pictures of each selected channel; neuron: the one at the center of its map."""
    diversity: Diversity = Diversity()
    pairs: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    """Addresses of two units, of whose sum a picture is made."""
    directions: list[Directions] = []
    size: Annotated[int | str, BeforeValidator(_check_size)] = "auto"
    """Side in pixels, ROWSxCOLUMNS, or auto: as large as each unit sees."""
    steps: int = Field(default=Recipe.steps, ge=1)
    learning_rate: float = Field(default=Adam.learning_rate, gt=0, allow_inf_nan=False)
    transforms: Annotated[str, one_of(TRANSFORMS)] = "standard"
    preset: Annotated[str, one_of(PRESETS)] = "default"
    """fast: 28 steps of another optimizer; lucid: Lucid's steps, learning rate, transforms and
    noise; where the file gives no others."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**61)]], Field(min_length=1)] = [
        Recipe.seed
    ]
    """Of the noise; a picture for each."""
    slots: int | None = Field(default=None, ge=1)
    """Pictures at once, at most: fewer where memory is short; None for the device's usual."""
    dtype: Annotated[str, one_of(DTYPES)] = "float32"
    columns: int = Field(default=8, ge=1)
    """Of the contact sheet."""
    formats: Annotated[
        tuple[Annotated[str, one_of(("png", "webp", "jpeg"))], ...],
        Field(strict=False),
        AfterValidator(_check_formats),
    ] = ("png",)
    """Of the lossless picture, and jpeg for a lossy copy of each."""

    def model_post_init(self, _context: object, /) -> None:
        """Raises DoesNotFit."""
        if not (self.units or self.pairs or self.directions):
            raise DoesNotFit(
                "'units'", got="none, and no pairs or directions", expected="at least one of them"
            )

    @property
    def size_px(self) -> tuple[int, int] | Literal["auto"]:
        """Rows and columns, or "auto"."""
        if self.size == "auto":
            return "auto"
        rows, _, columns = str(self.size).partition("x")
        return int(rows), int(columns or rows)

    def given(self) -> dict[str, Any]:
        """The keys that the file has, as JSON can hold them."""
        return self.model_dump(mode="json", exclude_unset=True)


PARTS: Mapping[str, type[Part]] = MappingProxyType(
    {"diversity": Diversity, "directions": Directions}
)
"""Keys that have keys of their own."""


def read_config(path: Path) -> AtlasConfig:
    """The config in a .toml, .yaml or .yml file.

    Raises NotAvailable, Malformed, UnknownName for a key, DoesNotFit for a value.
    """
    data = _parsed(path)
    if not isinstance(data, dict):
        raise Malformed("the config", str(path), expected="keys and values, such as units = [...]")
    try:
        with said_of(path.name):
            config = AtlasConfig.model_validate({str(key): value for key, value in data.items()})
    except ValidationError as error:
        raise _in_words(error.errors(), path.name) from error
    if not config.directions:
        return config
    placed = [each.in_folder(path.parent) for each in config.directions]
    return config.model_copy(update={"directions": placed})


def _in_words(errors: list[ErrorDetails], file: str) -> FeatvizError:
    """The error to show: a wrong key before a wrong value."""
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    *outer, last = map(str, first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown_key(outer, last, file)
    got = "nothing" if first["type"] == "missing" else repr(first["input"])[:60]
    counts = first.get("ctx", {})
    match first["type"]:
        case "too_short":
            words = f"{counts['min_length']} or more"
        case "too_long":
            words = f"{counts['max_length']} at most"
        case "missing":
            words = "a value"
        case "list_type":
            words = "a list"
        case "model_type" | "dict_type":
            words = "keys and values"
        case _:
            words = first["msg"].removeprefix("Input should be ")
    return DoesNotFit(
        f"{'.'.join([*outer, last])!r} of {file}", got=got, expected=words[:1].lower() + words[1:]
    )


def _unknown_key(outer: list[str], key: str, file: str) -> FeatvizError:
    if not outer and key in TECHNIQUES:
        asked = f'techniques = ["channel", "{key}"]'
        return DoesNotFit(f"{file}", got=f"the key {key!r}", expected=asked)
    known = PARTS[outer[0]] if outer else AtlasConfig
    place = f"{outer[0]!r} of {file}" if outer else file
    return UnknownName("key", key, known.model_fields, inside=place)


def _parsed(path: Path) -> Any:
    if not path.is_file():
        there = "it is a folder" if path.is_dir() else "there is no such file"
        raise NotAvailable(f"the config {str(path)!r}", there=there)
    suffixes = (".toml", ".yaml", ".yml")
    if path.suffix not in suffixes:
        raise UnknownName("kind of config", path.suffix or path.name, suffixes)
    try:
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text) if path.suffix == ".toml" else yaml.load(text, _OnceLoader)
    except OSError as error:
        raise NotAvailable(f"the config {str(path)!r}", there=_line(error)) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # TOML's errors are ValueErrors
        raise Malformed(
            "the config", str(path), expected=f"{path.suffix[1:].upper()} ({_line(error)})"
        ) from error


class _OnceLoader(yaml.SafeLoader):
    """YAML whose keys stand once, as TOML's do."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """Raises ConstructorError for a key that stands twice."""
        known: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in known:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                known.add(key.value)
        return super().construct_mapping(node, deep)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
