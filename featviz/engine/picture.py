"""A finished picture with its evidence, and the image file that carries both."""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from featviz.engine import serial
from featviz.engine.algebra import short
from featviz.engine.execution import Execution
from featviz.engine.recipe import Recipe
from featviz.errors import DoesNotFit, Malformed, NotAvailable, UnknownName
from featviz.files import write_whole
from featviz.image.decoding import NO_IMAGE

Verdict = Literal["rendered", "dead", "not finite"]
SUFFIXES = (".png", ".webp")
"""Of the files that a picture can be saved to."""
KEY = "featviz"
IMAGE_CHANNELS = (1, 3)
"""Of pictures that an image file can hold."""
EXIF_DESCRIPTION = 0x010E


@dataclass(frozen=True)
class Picture:
    """What came of one recipe (of its `index`-th picture).

    `pixels` are (row, column, channel), 8 bit. `score` is the objective of exactly those pixels,
    without transforms, in float32 and in the slots of the run. `course` has the value of every
    step, under that step's transforms. `verdict`: "dead" where the value never changed, "not
    finite" where a value or gradient became NaN or infinite and the picture was given up.
    """

    pixels: NDArray[np.uint8]
    recipe: Recipe
    index: int
    score: float
    course: tuple[float, ...]
    steps: int
    verdict: Verdict
    execution: Execution

    def evidence(self) -> dict[str, Any]:
        """What a file carries beside the pixels; the same for the same recipe and execution."""
        score = self.score if math.isfinite(self.score) else None
        return {
            "digest": self.recipe.digest,
            "recipe": self.recipe.to_data(),
            "index": self.index,
            "score": score,
            "steps": self.steps,
            "verdict": self.verdict,
            "execution": asdict(self.execution),
        }

    def encoded(self, suffix: str = ".png") -> bytes:
        """A PNG or lossless WebP file that carries `evidence`. Raises UnknownName, DoesNotFit."""
        if suffix not in SUFFIXES:
            raise UnknownName("image format", suffix, SUFFIXES)
        channels = self.pixels.shape[2]
        check_channels(channels)
        image = PillowImage.fromarray(self.pixels.squeeze(2) if channels == 1 else self.pixels)
        text = serial.canonical(self.evidence())
        file = io.BytesIO()
        if suffix == ".png":
            chunks = PngImagePlugin.PngInfo()
            chunks.add_text(KEY, text)
            image.save(file, format="PNG", pnginfo=chunks)
        else:
            exif = PillowImage.Exif()
            exif[EXIF_DESCRIPTION] = text
            image.save(file, format="WEBP", lossless=True, exif=exif.tobytes())
        return file.getvalue()

    def save(self, path: str | Path) -> Path:
        """Writes a .png or .webp file, whole or not at all. Raises UnknownName, NotAvailable."""
        target = Path(path)
        write_whole(target, self.encoded(target.suffix.lower()))
        return target

    def _repr_png_(self) -> bytes | None:
        return self.encoded() if self.pixels.shape[2] in IMAGE_CHANNELS else None


class Pictures(Sequence[Picture]):
    """Pictures in the order of their recipes; shows itself in notebooks."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._pictures = tuple(pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> "Pictures": ...
    def __getitem__(self, index: int | slice) -> "Picture | Pictures":
        if isinstance(index, slice):
            return Pictures(self._pictures[index])
        return self._pictures[index]

    def __iter__(self) -> Iterator[Picture]:
        return iter(self._pictures)

    def __repr__(self) -> str:
        words = (
            f"{short(p.recipe.objective)}: {p.score:.4g} ({p.verdict})" for p in self._pictures
        )
        return f"Pictures([{', '.join(words)}])"

    def _repr_html_(self) -> str:
        return "".join(_figure(picture) for picture in self._pictures)


def check_channels(channels: int) -> None:
    """Raises DoesNotFit where pictures of so many channels cannot be image files."""
    if channels not in IMAGE_CHANNELS:
        raise DoesNotFit(
            "an image file",
            got=f"a picture of {channels} channels",
            expected="1 or 3",
            hint="featviz.render gives all of them, in Picture.pixels",
        )


def read_evidence(path: str | Path) -> dict[str, Any]:
    """What `Picture.save` put into a file, all of it readable. Raises NotAvailable, Malformed."""
    source = Path(path)
    if not source.is_file():
        raise NotAvailable(f"the picture {str(source)!r}", there="there is no such file")
    try:
        with PillowImage.open(source) as image:
            image.load()
            text = image.info.get(KEY) or image.getexif().get(EXIF_DESCRIPTION)
    except NO_IMAGE as error:
        raise Malformed("the picture", str(source), expected="a whole PNG or WebP image") from error
    if not isinstance(text, str):
        raise Malformed("the picture", str(source), expected="an image that featviz saved")
    return serial.parsed(text, f"the recipe in {source.name}")


def _figure(picture: Picture) -> str:
    name = escape(short(picture.recipe.objective))
    png = picture._repr_png_()
    if png is None:
        shown = f"{picture.pixels.shape[2]} channels: no image"
    else:
        source = base64.b64encode(png).decode()
        shown = f'<img alt="{name}" src="data:image/png;base64,{source}">'
    words = f"{name}<br>{picture.score:.4g} ({picture.verdict})"
    return (
        '<figure style="display:inline-block;margin:4px">'
        f"{shown}<figcaption>{words}</figcaption></figure>"
    )
