"""Reference images that a layer's responses are standardised by: generated, or a folder of them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from featviz.errors import Malformed, NotAvailable
from featviz.image.decoding import decoded
from featviz.image.parameterizations import Shape
from featviz.image.seeds import normal
from featviz.image.spectrum import hartley, pink_gain
from featviz.shapes import Images

MOST_IMAGES = 1024
"""Of a folder; of more, so many evenly spaced ones in the order of their names."""
KEPT_BYTES = 2**28
"""Decoded images that are kept; where those of one size take more they are decoded anew."""
MEAN, SD = 0.5, 0.2
"""Of each channel of pink noise, before it is clipped to [0, 1]."""


class References(ABC):
    """Some images that can be had at any size; `files` are their names, empty if generated."""

    name: str
    """What a record says: "pink-512", or "images:" and a digest of names and contents."""
    count: int
    files: tuple[str, ...]

    @abstractmethod
    def images(self, numbers: Sequence[int], shape: Shape) -> Images:
        """Some of the images, by their number from 0, in [0, 1]; each the same in any company."""


@dataclass(frozen=True)
class Pink(References):
    """Seeded 1/f noise, mean MEAN and standard deviation SD in each channel, clipped to [0, 1].

    Natural images have such a spectrum (Field 1987), and nothing else of theirs: no edges, no
    objects, no common color.
    """

    name: str
    count: int
    files: tuple[str, ...] = ()

    def images(self, numbers: Sequence[int], shape: Shape) -> Images:
        """Image n is a function of n and the shape."""
        seeds = torch.tensor(list(numbers), dtype=torch.int64)
        count = shape.channels * shape.rows * shape.columns
        white = normal(seeds, torch.zeros_like(seeds), purpose="pink reference", count=count)
        gain = pink_gain(shape.rows, shape.columns, decay_power=1.0).float()
        planes = hartley(white.view(-1, shape.channels, shape.rows, shape.columns) * gain)
        middle = planes.mean(dim=(2, 3), keepdim=True)
        sd = planes.std(dim=(2, 3), keepdim=True, correction=0).clamp(min=1e-12)
        return (MEAN + SD * (planes - middle) / sd).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Photographs(References):
    """The images of a folder, in the order of their names; `skipped` could not be decoded.

    Resized with antialiasing to cover a picture's size, and cropped around the center. Decoded
    ones are kept for the next pass while they take at most KEPT_BYTES.
    """

    name: str
    count: int
    files: tuple[str, ...]
    folder: Path
    skipped: tuple[str, ...]
    _kept: dict[tuple[Shape, int], NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    def images(self, numbers: Sequence[int], shape: Shape) -> Images:
        """Raises NotAvailable where a file is gone or was changed to something else."""
        pixels = np.stack([self._decoded(number, shape) for number in numbers])
        return torch.from_numpy(pixels).movedim(-1, 1).float() / 255

    def _decoded(self, number: int, shape: Shape) -> NDArray[np.uint8]:
        key = shape, number
        if key in self._kept:
            return self._kept[key]
        path = self.folder / self.files[number]
        try:
            pixels = _fitted(path, shape)
        except (OSError, Malformed) as error:
            raise NotAvailable(
                f"the reference image {str(path)!r}", there="it could be read before"
            ) from error
        if self.count * pixels.nbytes <= KEPT_BYTES:
            if sum(each.nbytes for each in self._kept.values()) + pixels.nbytes > KEPT_BYTES:
                self._kept.clear()
            self._kept[key] = pixels
        return pixels


def pink_references(count: int = 512) -> Pink:
    """So many images of pink noise; always the same ones."""
    return Pink(f"pink-{count}", count)


def folder_references(folder: str | Path, *, most: int = MOST_IMAGES) -> Photographs:
    """The images in a folder and the folders in it, at most `most` of them.

    Every file is decoded once to see that it can be; hidden files are passed over. Raises
    NotAvailable where there is no such folder, or nothing in it that can be decoded.
    """
    place = Path(folder)
    if not place.is_dir():
        there = "it is a file" if place.exists() else "there is no such folder"
        raise NotAvailable(f"the folder {str(place)!r} of reference images", there=there)
    names = sorted(path.relative_to(place).as_posix() for path in _files(place))
    if len(names) > most:
        names = [names[number * len(names) // most] for number in range(most)]
    digest, files, skipped = hashlib.sha256(), [], []
    for name in names:
        content = _content(place / name)
        if content is None:
            skipped.append(name)
            continue
        files.append(name)
        digest.update(hashlib.sha256(name.encode()).digest() + hashlib.sha256(content).digest())
    if not files:
        there = f"none of its {len(names)} files is one: {', '.join(skipped[:3])}"
        raise NotAvailable(
            f"an image in {str(place)!r}", there=there if names else "the folder is empty"
        )
    name = f"images:{digest.hexdigest()[:12]}"
    return Photographs(name, len(files), tuple(files), place, tuple(skipped))


def _files(folder: Path) -> list[Path]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if not any(p[0] == "." for p in path.relative_to(folder).parts)]


def _content(path: Path) -> bytes | None:
    """The bytes of an image; None where they cannot be read or decoded."""
    try:
        content = path.read_bytes()
        _in_bytes(decoded(content, path.name), path.name)
    except (OSError, Malformed):
        return None
    return content


def _fitted(path: Path, shape: Shape) -> NDArray[np.uint8]:
    upright = _in_bytes(decoded(path.read_bytes(), path.name), path.name)
    image = upright.convert("L" if shape.channels == 1 else "RGB")
    fitted = ImageOps.fit(image, (shape.columns, shape.rows), Image.Resampling.BICUBIC)
    return np.asarray(fitted).reshape(shape.rows, shape.columns, shape.channels)


def _in_bytes(image: Image.Image, name: str) -> Image.Image:
    """The image with 8 bits a channel: of 16 bits the upper ones, which Pillow would clip.

    Raises Malformed for numbers whose range is not known.
    """
    if image.mode == "F":
        raise Malformed("the image", name, expected="8 or 16 bits a channel")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).clip(0, 65535) // 256).astype(np.uint8))
