"""Thumbnails: sprite sheets of many, mean colors, and features that find look-alikes."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageOps

from featviz.atlas.record import Record
from featviz.atlas.store import Store
from featviz.errors import FeatvizError
from featviz.image.decoding import decoded

Pixels = np.ndarray[Any, np.dtype[np.floating[Any]]]
CELL_PX = 64
SHEET_COLUMNS = 16
SHEET_CELLS = SHEET_COLUMNS**2
MIDDLE_GRAY = (128, 128, 128)
ORIENTATIONS = 8
SCALES = 3
NEAREST_BLOCK = 1024
"""Rows of the distance matrix that are in memory at once."""


def thumbnail_of(store: Store, record: Record, picture: bytes) -> bytes:
    """An encoded thumbnail: the record's own, or one made of the picture where that is damaged.

    Raises Malformed where the picture is none that can be decoded.
    """
    try:
        small = store.read(record, kind="thumbnail")
        cell(small)
    except (KeyError, FileNotFoundError, FeatvizError):
        file = io.BytesIO()
        cell(picture).save(file, format="WEBP", quality=80)
        small = file.getvalue()
    return small


def cell(content: bytes) -> Image.Image:
    """An image as a square of CELL_PX, RGB; what is not square has gray beside it.

    Raises Malformed.
    """
    whole = decoded(content, f"of {len(content)} bytes").convert("RGB")
    if whole.size == (CELL_PX, CELL_PX):
        return whole
    return ImageOps.pad(whole, (CELL_PX, CELL_PX), color=MIDDLE_GRAY)


def sheets(thumbnails: Iterable[bytes]) -> Iterator[bytes]:
    """WebP files of SHEET_CELLS thumbnails each, SHEET_COLUMNS a row; the last has what is left."""
    waiting: list[bytes] = []
    for thumbnail in thumbnails:
        waiting.append(thumbnail)
        if len(waiting) == SHEET_CELLS:
            yield _sheet(waiting)
            waiting = []
    if waiting:
        yield _sheet(waiting)


def _sheet(thumbnails: list[bytes]) -> bytes:
    rows = -(-len(thumbnails) // SHEET_COLUMNS)
    size = SHEET_COLUMNS * CELL_PX, rows * CELL_PX
    sheet = Image.new("RGB", size, MIDDLE_GRAY)
    for place, thumbnail in enumerate(thumbnails):
        row, column = divmod(place, SHEET_COLUMNS)
        sheet.paste(cell(thumbnail), (column * CELL_PX, row * CELL_PX))
    file = io.BytesIO()
    sheet.save(file, format="WEBP", quality=80, method=2)
    return file.getvalue()


def pixels_of(thumbnail: bytes) -> Float[Pixels, "row column channel"]:
    """RGB in [0, 1]."""
    return np.asarray(cell(thumbnail), dtype=np.float32) / 255


def mean_color(pixels: Float[Pixels, "row column channel"]) -> str:
    """RRGGBB in hexadecimal."""
    return "".join(f"{round(255 * float(value)):02x}" for value in pixels.mean(axis=(0, 1)))


def features(pixels: Float[Pixels, "row column channel"]) -> Float[Pixels, " feature"]:
    """What a texture looks like, wherever in the picture it is.

    Mean and standard deviation of lightness and two opponent colors, and at each of SCALES
    octaves the strength of edges in each of ORIENTATIONS directions.
    """
    red, green, blue = np.moveaxis(pixels, 2, 0)
    light, warm, yellow = (red + green + blue) / 3, red - green, (red + green) / 2 - blue
    colors = [moment for part in (light, warm, yellow) for moment in (part.mean(), part.std())]
    edges: list[NDArray[np.float64]] = []
    for _ in range(SCALES):
        down, right = np.gradient(light)
        strength = np.hypot(down, right)
        angle = np.arctan2(down, right) % np.pi / np.pi * ORIENTATIONS
        bins = angle.astype(int) % ORIENTATIONS
        edges.append(np.bincount(bins.ravel(), strength.ravel(), ORIENTATIONS) / light.size)
        light = (light[::2, ::2] + light[1::2, ::2] + light[::2, 1::2] + light[1::2, 1::2]) / 4
    return np.concatenate([np.asarray(colors), *map(np.sqrt, edges)]).astype(np.float32)


def most_similar(found: Float[Pixels, "picture feature"], count: int) -> list[list[int]]:
    """For each picture the `count` others with the nearest features, nearest first.

    Each feature counts in its standard deviations over all pictures; of equally near ones the
    first comes first.
    """
    spread = found.std(axis=0)
    scaled = (found - found.mean(axis=0)) / np.where(spread > 0, spread, 1)
    count = min(count, len(scaled) - 1)
    squares = (scaled**2).sum(axis=1)
    nearest: list[list[int]] = []
    for start in range(0, len(scaled), NEAREST_BLOCK):
        block = scaled[start : start + NEAREST_BLOCK]
        distances = squares - 2 * block @ scaled.T  # up to a constant of the row
        distances[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        ends = np.partition(distances, count - 1, axis=1)[:, count - 1]
        for row, end in zip(distances, ends, strict=True):
            near = np.flatnonzero(row <= end)
            nearest.append(near[np.argsort(row[near], kind="stable")][:count].tolist())
    return nearest
