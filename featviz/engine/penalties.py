"""What can be measured on the picture itself (or a layer), to be subtracted from an objective.

All are means over channels and sites, so that a weight means the same at every picture size.
Deviation: Lucid sums, so its weights are larger by the number of values.
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor
from torch.nn import functional

from featviz.engine.algebra import Own, OwnValue, Term
from featviz.engine.seen import IMAGE, Grid, Seen
from featviz.errors import DoesNotFit
from featviz.shapes import PerImage


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
        down = (images[:, :, 1:] - images[:, :, :-1]).abs().mean(dim=(1, 2, 3))
        return down + (images[:, :, :, 1:] - images[:, :, :, :-1]).abs().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class L1(Term):
    """Mean absolute distance to a constant, of the picture or of a layer."""

    constant: float = 0.0
    layer: str = IMAGE

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
            planes = seen.images.flatten(0, 1).unsqueeze(1)
            kernel = planes.new_tensor([[0.5, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 0.5]])
            inside = functional.conv2d(torch.ones_like(planes[:1]), kernel[None, None], padding=1)
            blurred = functional.conv2d(planes, kernel[None, None], padding=1) / inside
            blurred = blurred.squeeze(1).unflatten(0, seen.images.shape[:2])
        return 0.5 * (seen.images - blurred).square().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class ImageDistance(Term):
    """Root mean square distance of the picture to a given one, which is held as 8-bit PNG text."""

    varies = ("png",)
    png: str
    epsilon: float = 1e-12

    def __str__(self) -> str:
        return f"image_distance({self.png!r}, {self.epsilon})"

    @classmethod
    def to(cls, image: Tensor) -> "ImageDistance":
        """The distance to `image`, (channel, row, column) in [0, 1] with 1 or 3 channels."""
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise DoesNotFit(
                "the image of a distance",
                got=f"shape {tuple(image.shape)}",
                expected="(1 or 3, row, column)",
            )
        bytes_ = (image.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
        pixels = bytes_.permute(1, 2, 0).numpy()
        file = io.BytesIO()
        PillowImage.fromarray(pixels.squeeze()).save(file, format="PNG")
        return cls(base64.b64encode(file.getvalue()).decode())

    @property
    def reads(self) -> tuple[str, ...]:
        return (IMAGE,)

    def own(self, grids: Mapping[str, Grid]) -> tuple[OwnValue, ...]:
        picture, grid = _decode(self.png), grids[IMAGE]
        if tuple(picture.shape) != (grid.channels, grid.rows, grid.columns):
            raise DoesNotFit(
                "the image of a distance",
                got=f"shape {tuple(picture.shape)}",
                expected=f"the picture's ({grid.channels}, {grid.rows}, {grid.columns})",
            )
        return (picture,)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        square = (seen.images - own[0]).square().mean(dim=(1, 2, 3))
        return (self.epsilon + square).sqrt()


def _decode(png: str) -> Tensor:
    with PillowImage.open(io.BytesIO(base64.b64decode(png))) as picture:
        pixels = np.asarray(picture)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).double() / 255
