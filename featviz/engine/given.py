"""An image that is part of a recipe: held as the text of an 8-bit PNG, so that it compares,
hashes and goes into JSON like everything else."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from featviz.errors import DoesNotFit, Malformed, NotAvailable, OutOfRange
from featviz.image.decoding import NO_IMAGE
from featviz.image.parameterizations import Shape

ROUNDING = 1e-5
"""How far outside [0, 1] a value may lie by arithmetic in float32."""


@dataclass(frozen=True)
class GivenImage:
    """A grey or RGB picture of 8 bits."""

    png: str

    @classmethod
    def of(cls, image: Tensor) -> "GivenImage":
        """From (channel, row, column) in [0, 1] with 1 or 3 channels.

        Raises DoesNotFit, OutOfRange.
        """
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise DoesNotFit(
                "a given image", got=f"shape {tuple(image.shape)}", expected="(1 or 3, row, column)"
            )
        outside = image[~((image > -ROUNDING) & (image < 1 + ROUNDING))]  # NaN too
        if outside.numel():
            value = outside[0].item()
            raise OutOfRange("value", value, low=0, high=1, where="a given image")
        bytes_ = (image.detach().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
        pixels = bytes_.permute(1, 2, 0).numpy()
        return cls(_png(PillowImage.fromarray(pixels[:, :, 0] if len(image) == 1 else pixels)))

    @classmethod
    def open(cls, path: str | Path, shape: Shape) -> "GivenImage":
        """From an image file, resized to a picture's shape. Raises NotAvailable, Malformed."""
        if not Path(path).is_file():
            raise NotAvailable(f"the image {str(path)!r}", there="there is no such file")
        try:
            with PillowImage.open(path) as image:
                fitted = image.convert("L" if shape.channels == 1 else "RGB").resize(
                    (shape.columns, shape.rows), PillowImage.Resampling.LANCZOS
                )
        except NO_IMAGE as error:
            raise Malformed("the image", str(path), expected="an image file") from error
        return cls(_png(fitted))

    def decoded(self, shape: Shape) -> Tensor:
        """Float64 (channel, row, column) in [0, 1]. Raises DoesNotFit, Malformed."""
        try:
            with PillowImage.open(io.BytesIO(base64.b64decode(self.png))) as picture:
                pixels = np.asarray(picture)
        except NO_IMAGE as error:
            raise Malformed("a given image", self.png[:20], expected="a PNG as base64") from error
        planes = pixels[:, :, None] if pixels.ndim == 2 else pixels
        image = torch.from_numpy(planes.copy()).permute(2, 0, 1).double() / 255
        expected = (shape.channels, shape.rows, shape.columns)
        if tuple(image.shape) != expected:
            raise DoesNotFit(
                "a given image",
                got=f"shape {tuple(image.shape)}",
                expected=f"the picture's {expected}",
            )
        return image


def _png(image: PillowImage.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()
