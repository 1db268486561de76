"""The robustness stack: what each picture suffers before the network sees it, drawn, then applied.

Geometric members change where a pixel is read, photometric ones its value. Neighbouring geometric
members are composed to one affine map and one resampling: nothing is blurred twice, and what one
member pushes over the edge the next may bring back. Positions and angles as in `warp`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from math import ceil

import torch
from jaxtyping import Float, Int64
from kornia.filters import gaussian_blur2d
from torch import Tensor
from typing_extensions import override

from featviz.errors import DoesNotFit, OutOfRange
from featviz.image.seeds import normal_from_streams, streams, uniform
from featviz.image.warp import (
    Affine,
    Border,
    Fill,
    Position,
    Reflect,
    Resampled,
    compose,
    resample,
    rotation,
    scaling,
    translation,
)
from featviz.shapes import Images, Seeds, Steps

Draws = Float[Tensor, "batch draw"]
"""What one member drew, one row a picture; no columns for members that draw nothing."""


class Geometric(ABC):
    """A member that moves pixels."""

    @abstractmethod
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """Each row's own draw; another place in the stack is another stream."""

    @abstractmethod
    def affine(self, draws: Draws, rows: int, columns: int) -> Affine:
        """From pixels of its output to pixels of its input, which has `rows` and `columns`."""

    @abstractmethod
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of its output."""


class Photometric(ABC):
    """A member that changes values and keeps the size."""

    @abstractmethod
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Tensor:
        """Each row's own draw; another place in the stack is another stream."""

    @abstractmethod
    def apply(self, images: Images, draws: Tensor) -> Images:
        """A pure function of images and draws; the result may leave [0, 1]."""


@dataclass(frozen=True)
class Pad(Geometric):
    """Enlarge the canvas on every side.

    Its border is the border of the whole geometric run that it stands in; a run without a Pad
    reflects.
    """

    width_px: int
    border: Border = field(default_factory=Reflect)

    def __post_init__(self) -> None:
        """Raises OutOfRange when the width is negative."""
        _check("width_px", self.width_px, low=0, where="Pad")

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
        _check("margin_px", self.margin_px, low=0, where="Crop")

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
        _check("radius_px", self.radius_px, low=0, where="Jitter")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """Shifts (down, right) in pixels."""
        numbers = uniform(seeds, steps, purpose=f"jitter {place}", count=2)
        if self.subpixel:
            return (2 * numbers - 1) * self.radius_px
        return torch.floor(numbers * (2 * self.radius_px + 1)) - self.radius_px

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
        _check("low", self.low, low=0.01, where="Scale")
        _check("high", self.high, low=self.low, where="Scale")

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
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """As before."""
        return rows, columns


@dataclass(frozen=True)
class Rotate(Geometric):
    """Turn each picture about its center, counter-clockwise, uniform in [-degrees, degrees]."""

    degrees: float

    def __post_init__(self) -> None:
        """Raises OutOfRange unless in [0, 180]."""
        _check("degrees", self.degrees, low=0, high=180, where="Rotate")

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
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """As before."""
        return rows, columns


@dataclass(frozen=True)
class Flip(Geometric):
    """Exchange left and right, with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        """Raises OutOfRange unless in [0, 1]."""
        _check("probability", self.probability, low=0, high=1, where="Flip")

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


@dataclass(frozen=True)
class Noise(Photometric):
    """Add independent normal noise to every value."""

    sd: float

    def __post_init__(self) -> None:
        """Raises OutOfRange when negative."""
        _check("sd", self.sd, low=0, where="Noise")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Int64[Tensor, "batch 1"]:
        """The key of each row's noise, which has no size before it meets its picture."""
        return streams(seeds, steps, purpose=f"noise {place}")[:, None]

    @override
    def apply(self, images: Images, draws: Int64[Tensor, "batch 1"]) -> Images:
        """The noise depends on the size of the picture, but not on its batch."""
        count = images.shape[1] * images.shape[2] * images.shape[3]
        noise = normal_from_streams(draws[:, 0], count=count, dtype=images.dtype)
        return images + noise.reshape(images.shape) * self.sd


@dataclass(frozen=True)
class Blur(Photometric):
    """Gaussian blur, each picture its own, uniform between the two standard deviations."""

    sd_px_low: float
    sd_px_high: float

    def __post_init__(self) -> None:
        """Raises OutOfRange unless 0 <= low <= high <= 64."""
        _check("sd_px_low", self.sd_px_low, low=0, where="Blur")
        _check("sd_px_high", self.sd_px_high, low=self.sd_px_low, high=64, where="Blur")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """The standard deviation in pixels."""
        numbers = uniform(seeds, steps, purpose=f"blur {place}", count=1)
        return self.sd_px_low + (self.sd_px_high - self.sd_px_low) * numbers

    @override
    def apply(self, images: Images, draws: Tensor) -> Images:
        """One kernel size for all, three times the largest standard deviation to each side.

        Raises DoesNotFit when the picture is smaller than the kernel reaches.
        """
        reach = ceil(3 * self.sd_px_high)
        if min(images.shape[-2:]) <= reach:
            raise DoesNotFit(
                "the side of a picture to blur",
                got=min(images.shape[-2:]),
                expected=f"more than {reach}",
            )
        # A standard deviation of 0 would divide 0 by 0; this one changes nothing either.
        sds = draws.clamp(min=1e-2).expand(-1, 2)
        return gaussian_blur2d(images, 2 * reach + 1, sds, border_type="reflect")


Member = Geometric | Photometric


@dataclass(frozen=True)
class Stack:
    """Transforms in the order in which they happen."""

    members: tuple[Member, ...] = ()

    def __post_init__(self) -> None:
        """Raises DoesNotFit when two Pads of one geometric run disagree about the border."""
        for run in _runs(self.members):
            _border(run)

    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the result."""
        for member in self.members:
            if isinstance(member, Geometric):
                rows, columns = member.output_size(rows, columns)
        return rows, columns

    def draw(self, seeds: Seeds, steps: Steps) -> tuple[Tensor, ...]:
        """What every member draws for every row, a pure function of its seed and step."""
        return tuple(
            member.draw(seeds, steps, place=place) for place, member in enumerate(self.members)
        )

    def apply(self, images: Images, draws: tuple[Tensor, ...]) -> Resampled:
        """The transformed pictures, a pure function of images and draws."""
        start = 0
        for run in _runs(self.members):
            drawn = draws[start : start + len(run)]
            start += len(run)
            images = _applied(run, images, drawn)
        return images


def lucid() -> Stack:
    """The standard transforms of Lucid; the canvas grows by 12 px.

    Source: tensorflow/lucid v0.3.10, lucid/optvis/transform.py, "standard_transforms".
    Deviation: each picture draws for itself; factors and angles are continuous in place of 11
    factors and of 21 angles with five more zeros (Lucid leaves 6 of 26 pictures unturned, here
    none); scaling keeps the canvas; outside lies grey throughout, also after the rotation, where
    Lucid has black; one resampling in place of two.
    """
    return Stack(
        (
            *(Pad(12, border=Fill(0.5)), Jitter(4), Crop(4)),
            *(Scale(0.9, 1.1), Rotate(10.0)),
            *(Jitter(2), Crop(2)),
        )
    )


def standard() -> Stack:
    """About half as strong as Lucid's, on a canvas of the picture's own size, without a frame.

    Source: our own trial (LOG.md); Lucid's strength costs a tenth of the clean score.
    """
    return Stack((Jitter(4), Scale(0.95, 1.05), Rotate(5.0)))


def strong() -> Stack:
    """For late layers, whose units accept larger changes and whose pictures need the help."""
    return Stack((Jitter(16), Scale(0.75, 1.25), Rotate(20.0)))


def _runs(members: tuple[Member, ...]) -> Iterator[tuple[Member, ...]]:
    """Neighbouring geometric members together, the others one by one."""
    for geometric, run in groupby(members, key=lambda member: isinstance(member, Geometric)):
        if geometric:
            yield tuple(run)
        else:
            yield from ((member,) for member in run)


def _applied(run: tuple[Member, ...], images: Images, draws: tuple[Tensor, ...]) -> Resampled:
    if isinstance(run[0], Photometric):
        return run[0].apply(images, _in_dtype(draws[0], images.dtype))
    rows, columns = images.shape[-2:]
    total: Affine | None = None
    for member, drawn in zip(run, draws, strict=True):
        if isinstance(member, Geometric):
            affine = member.affine(_in_dtype(drawn, images.dtype), rows, columns)
            # The last member knows the output's pixels, so it is asked first.
            total = affine if total is None else compose(total, affine)
            rows, columns = member.output_size(rows, columns)
    assert total is not None
    return resample(images, total, rows=rows, columns=columns, border=_border(run))


def _border(run: tuple[Member, ...]) -> Border:
    borders = {member.border for member in run if isinstance(member, Pad)}
    if len(borders) > 1:
        raise DoesNotFit(
            "borders of the pads in one geometric run",
            got=", ".join(sorted(map(str, borders))),
            expected="the same border for all",
            hint="they share one resampling; put a photometric member between them",
        )
    return borders.pop() if borders else Reflect()


def _in_dtype(draws: Tensor, dtype: torch.dtype) -> Tensor:
    return draws.to(dtype) if draws.is_floating_point() else draws


def _nothing(seeds: Seeds) -> Draws:
    return torch.empty((len(seeds), 0), device=seeds.device)


def _center(rows: int, columns: int) -> Position:
    return (rows - 1) / 2, (columns - 1) / 2


def _check(
    name: str, value: int | float, *, low: int | float, where: str, high: int | float = float("inf")
) -> None:
    if not (low <= value <= high and value < float("inf")):  # false for NaN too
        raise OutOfRange(name, value, low=low, high=high, where=where)
