"""Members that move pixels, each as an affine map; positions and angles as in `warp`."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from typing_extensions import override

from featviz.errors import DoesNotFit, OutOfRange, UnknownName
from featviz.image.seeds import uniform
from featviz.image.transforms.kinds import Draws, Geometric, check
from featviz.image.warp import (
    Affine,
    Border,
    Fill,
    Position,
    Reflect,
    rotation,
    scaling,
    translation,
)
from featviz.shapes import Seeds, Steps


@dataclass(frozen=True)
class Pad(Geometric):
    """Enlarge the canvas on every side.

    Its border is the border of the whole geometric run that it stands in; a run without a Pad
    reflects.
    """

    width_px: int
    border: Border | Literal["reflect"] | float | tuple[float, ...] = field(default_factory=Reflect)
    """Kept as Reflect or Fill; "reflect" or a color will do."""

    def __post_init__(self) -> None:
        """Raises OutOfRange when the width is negative, UnknownName, DoesNotFit for no border."""
        check("width_px", self.width_px, low=0, where="Pad")
        object.__setattr__(self, "border", border_of(self.border))

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """Nothing."""
        return _nothing(seeds)

    @override
    def affine(self, draws: Draws, rows: int, columns: int) -> Affine:
        """The old top left pixel is `width_px` further down and right."""
        return translation(draws.new_full((len(draws), 2), -self.width_px))

    @override
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Larger by twice the width."""
        return rows + 2 * self.width_px, columns + 2 * self.width_px


@dataclass(frozen=True)
class Crop(Geometric):
    """Cut a margin off every side."""

    margin_px: int

    def __post_init__(self) -> None:
        """Raises OutOfRange when the margin is negative."""
        check("margin_px", self.margin_px, low=0, where="Crop")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """Nothing."""
        return _nothing(seeds)

    @override
    def affine(self, draws: Draws, rows: int, columns: int) -> Affine:
        """The new top left pixel is `margin_px` further down and right."""
        return translation(draws.new_full((len(draws), 2), self.margin_px))

    @override
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Smaller by twice the margin; raises OutOfRange when nothing would be left."""
        if min(rows, columns) <= 2 * self.margin_px:
            raise OutOfRange(
                "margin_px",
                self.margin_px,
                low=0,
                high=(min(rows, columns) - 1) // 2,
                where=f"a canvas of {rows} x {columns}",
            )
        return rows - 2 * self.margin_px, columns - 2 * self.margin_px


@dataclass(frozen=True)
class Jitter(Geometric):
    """Shift each picture by its own amount, uniform in [-radius_px, radius_px] on both axes."""

    radius_px: int
    subpixel: bool = False
    """Any shift, at the price of a bilinear blur; else whole pixels, which move without loss."""

    def __post_init__(self) -> None:
        """Raises OutOfRange when the radius is negative."""
        check("radius_px", self.radius_px, low=0, where="Jitter")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """Shifts (down, right) in pixels."""
        numbers = uniform(seeds, steps, purpose=f"jitter {place}", count=2)
        if self.subpixel:
            return (2 * numbers - 1) * self.radius_px
        return torch.floor(numbers * (2 * self.radius_px + 1)) - self.radius_px

    @override
    def reach_px(self, distance_px: float) -> float:
        """The radius."""
        return float(self.radius_px)

    @override
    def affine(self, draws: Draws, rows: int, columns: int) -> Affine:
        """The picture moves by the shifts."""
        return translation(-draws)

    @override
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """As before."""
        return rows, columns


@dataclass(frozen=True)
class Scale(Geometric):
    """Zoom each picture about its center by a factor uniform in [low, high]; above 1 is larger."""

    low: float
    high: float

    def __post_init__(self) -> None:
        """Raises OutOfRange unless 0.01 <= low <= high."""
        check("low", self.low, low=0.01, where="Scale")
        check("high", self.high, low=self.low, where="Scale")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """The zoom factor."""
        numbers = uniform(seeds, steps, purpose=f"scale {place}", count=1)
        return self.low + (self.high - self.low) * numbers

    @override
    def affine(self, draws: Draws, rows: int, columns: int) -> Affine:
        """A larger picture is read at positions nearer to the center."""
        return scaling((1 / draws).expand(-1, 2), center=_center(rows, columns))

    @override
    def reach_px(self, distance_px: float) -> float:
        """In the picture's own pixels, of which a smaller picture shows more."""
        return distance_px * max(abs(1 / self.low - 1), abs(1 / self.high - 1))

    @override
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """As before."""
        return rows, columns


@dataclass(frozen=True)
class Rotate(Geometric):
    """Turn each picture about its center, counter-clockwise, uniform in [-degrees, degrees]."""

    degrees: float

    def __post_init__(self) -> None:
        """Raises OutOfRange unless in [0, 180]."""
        check("degrees", self.degrees, low=0, high=180, where="Rotate")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """The angle in degrees."""
        numbers = uniform(seeds, steps, purpose=f"rotate {place}", count=1)
        return (2 * numbers - 1) * self.degrees

    @override
    def affine(self, draws: Draws, rows: int, columns: int) -> Affine:
        """A picture that turns one way is read at positions that turn the other way."""
        return rotation(-draws[:, 0], center=_center(rows, columns))

    @override
    def reach_px(self, distance_px: float) -> float:
        """The chord of the largest turn."""
        return 2 * distance_px * math.sin(math.radians(self.degrees) / 2)

    @override
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """As before."""
        return rows, columns


@dataclass(frozen=True)
class Flip(Geometric):
    """Exchange left and right, with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        """Raises OutOfRange unless in [0, 1]."""
        check("probability", self.probability, low=0, high=1, where="Flip")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """1 for a flipped picture, else 0."""
        numbers = uniform(seeds, steps, purpose=f"flip {place}", count=1)
        return (numbers < self.probability).to(numbers.dtype)

    @override
    def affine(self, draws: Draws, rows: int, columns: int) -> Affine:
        """Columns are mirrored about the center where the draw is 1."""
        factors = torch.cat([torch.ones_like(draws), 1 - 2 * draws], dim=1)
        return scaling(factors, center=_center(rows, columns))

    @override
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """As before."""
        return rows, columns


def border_of(given: object) -> Border:
    """A border from itself, "reflect", or a color. Raises UnknownName, DoesNotFit, OutOfRange."""
    match given:
        case Reflect():
            return given
        case Fill(color=color):
            for value in color if isinstance(color, tuple) else (color,):
                check("color", value, low=-1e6, high=1e6, where="a border")
            return given
        case "reflect":
            return Reflect()
        case str(word):
            raise UnknownName("border", word, ["reflect"])
        case int() | float():
            return border_of(Fill(float(given)))
        case tuple() | list():
            return border_of(Fill(tuple(float(value) for value in given)))
    raise DoesNotFit("a border", got=repr(given)[:60], expected='"reflect" or a color in [0, 1]')


def _nothing(seeds: Seeds) -> Draws:
    return torch.empty((len(seeds), 0), device=seeds.device)


def _center(rows: int, columns: int) -> Position:
    return (rows - 1) / 2, (columns - 1) / 2
