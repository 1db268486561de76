"""What can be measured on the picture itself (or a layer), to be subtracted from an objective.

All are means over channels and sites, so that a weight means the same at every picture size.
Deviation: Lucid sums, so its weights are larger by the number of values.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from featviz.engine.algebra import Own, OwnValue, Term, check_number
from featviz.engine.given import GivenImage
from featviz.engine.seen import IMAGE, Grid, Seen
from featviz.image.parameterizations import Shape
from featviz.shapes import Images, PerImage


@dataclass(frozen=True)
class TotalVariation(Term):
    """Mean absolute difference of neighbouring pixels, down plus across."""

    def __str__(self) -> str:
        return "total_variation()"

    @property
    def reads(self) -> tuple[str, ...]:
        return (IMAGE,)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        images = seen.images
        down = (images[:, :, 1:] - images[:, :, :-1]).abs().sum(dim=(1, 2, 3))
        across = (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().sum(dim=(1, 2, 3))
        _, channels, rows, columns = images.shape
        downs, acrosses = channels * (rows - 1) * columns, channels * rows * (columns - 1)
        return down / max(downs, 1) + across / max(acrosses, 1)


@dataclass(frozen=True)
class L1(Term):
    """Mean absolute distance to a constant, of the picture or of a layer."""

    constant: float = 0.0
    layer: str = IMAGE

    def __post_init__(self) -> None:
        """Raises OutOfRange."""
        check_number("constant", self.constant, where="l1")

    def __str__(self) -> str:
        return f"l1({self.constant}, {self.layer})"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.layer,)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        return (seen.read(self.layer).values - self.constant).abs().mean(dim=(1, 2))


@dataclass(frozen=True)
class L2(Term):
    """Root mean square distance to a constant, of the picture or of a layer."""

    constant: float = 0.0
    layer: str = IMAGE
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Raises OutOfRange."""
        check_number("constant", self.constant, where="l2")
        check_number("epsilon", self.epsilon, low=0, where="l2")

    def __str__(self) -> str:
        return f"l2({self.constant}, {self.layer}, {self.epsilon})"

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.layer,)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        square = (seen.read(self.layer).values - self.constant).square().mean(dim=(1, 2))
        return (self.epsilon + square).sqrt()


@dataclass(frozen=True)
class Roughness(Term):
    """Half the mean square difference between the picture and its 3x3 blur, which is held fixed.

    Lucid's `blur_input_each_step`: its kernel has 1 in the center and .5 around, normalised by
    what lies inside the picture.
    """

    def __str__(self) -> str:
        return "roughness()"

    @property
    def reads(self) -> tuple[str, ...]:
        return (IMAGE,)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        with torch.no_grad():
            blurred = _weighted3(seen.images) / _weighted3(torch.ones_like(seen.images[:1]))
        return 0.5 * (seen.images - blurred).square().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class ImageDistance(Term):
    """Root mean square distance of the picture to a given one, which is held as 8-bit PNG text."""

    varies = ("png",)
    png: str
    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        """Raises OutOfRange."""
        check_number("epsilon", self.epsilon, low=0, where="an image distance")

    def __str__(self) -> str:
        return f"image_distance({self.png!r}, {self.epsilon})"

    @classmethod
    def to(cls, image: Tensor) -> "ImageDistance":
        """The distance to `image`, (channel, row, column) in [0, 1] with 1 or 3 channels."""
        return cls(GivenImage.of(image).png)

    @property
    def reads(self) -> tuple[str, ...]:
        return (IMAGE,)

    def own(self, grids: Mapping[str, Grid]) -> tuple[OwnValue, ...]:
        grid = grids[IMAGE]
        shape = Shape(grid.channels, grid.rows, grid.columns)
        return (GivenImage(self.png).decoded(shape),)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        square = (seen.images - own[0]).square().mean(dim=(1, 2, 3))
        return (self.epsilon + square).sqrt()


def _weighted3(images: Images) -> Images:
    """Sum over the 3x3 neighbours inside the picture: half of each, and all of the center."""
    box = functional.avg_pool2d(images, 3, stride=1, padding=1)  # a ninth each, zeros outside
    return 4.5 * box + 0.5 * images
