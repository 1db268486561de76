"""The definitions of featviz.image, written out in NumPy float64: slow and obvious."""

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Words = NDArray[np.uint64]

COLOR = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix(words: Words) -> Words:
    """The finalizer of splitmix64, on unsigned words."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def words(seed: int, step: int, purpose: str, count: int) -> Words:
    """The first `count` words of one stream."""
    digest = blake2b(purpose.encode(), digest_size=8).digest()
    start = np.frombuffer(digest, dtype="<u8") + np.array([seed], dtype=np.int64).view(np.uint64)
    key = splitmix(splitmix(start) + np.array([step + 1], dtype=np.uint64) * _GOLDEN)
    return splitmix((key + np.arange(1, count + 1, dtype=np.uint64)) * _GOLDEN)


def uniform(seed: int, step: int, purpose: str, count: int) -> Array:
    return (words(seed, step, purpose, count) >> np.uint64(40)).astype(np.float64) / 2**24


def normal(seed: int, step: int, purpose: str, count: int) -> Array:
    drawn = words(seed, step, purpose, (count + 1) // 2)
    first = ((drawn >> np.uint64(40)).astype(np.float64) + 1) / 2**24
    second = ((drawn >> np.uint64(16)) & np.uint64(2**24 - 1)).astype(np.float64) / 2**24
    radius, angle = np.sqrt(-2 * np.log(first)), 2 * np.pi * second
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def rgb_from_decorrelated(planes: Array) -> Array:
    matrix = COLOR / np.linalg.norm(COLOR, axis=0).max()
    return np.einsum("ij,...jrc->...irc", matrix, planes)


def hartley(planes: Array) -> Array:
    """Every coefficient as the sum over all pixels that defines it."""
    rows, columns = planes.shape[-2:]
    row, column = np.arange(rows), np.arange(columns)
    turns = (row[:, None] * row)[:, None, :, None] / rows + (column[:, None] * column)[
        None, :, None, :
    ] / columns
    kernel = np.cos(2 * np.pi * turns) + np.sin(2 * np.pi * turns)  # to row, column; from row, col
    return np.einsum("abrc,...rc->...ab", kernel, planes) / np.sqrt(rows * columns)


def frequencies(rows: int, columns: int) -> Array:
    return np.sqrt(np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.fftfreq(columns)[None, :] ** 2)


def pink_gain(rows: int, columns: int, decay_power: float) -> Array:
    gain = 1 / np.maximum(frequencies(rows, columns), 1 / max(rows, columns)) ** decay_power
    return gain / np.sqrt(np.mean(gain**2))


def lucid_pixels(parameters: Array, rows: int, columns: int, decay_power: float) -> Array:
    """Lucid's picture before color; parameters are [..., rows, half columns, (real, imaginary)]."""
    half = parameters.shape[-2]
    gain = 1 / np.maximum(frequencies(rows, columns), 1 / max(rows, columns)) ** decay_power
    spectrum = (
        (parameters[..., 0] + 1j * parameters[..., 1]) * gain[:, :half] * np.sqrt(rows * columns)
    )
    inverted = np.fft.irfft2(spectrum, s=(rows, 2 * (half - 1)))
    return inverted[..., :rows, :columns] / 4


def fourier_image(parameters: Array, decay_power: float) -> Array:
    """The picture of Hartley coefficients [3, row, column], with decorrelated color."""
    _, rows, columns = parameters.shape
    gain = pink_gain(rows, columns, decay_power)
    return 1 / (1 + np.exp(-rgb_from_decorrelated(hartley(parameters * gain))))


def resampled(
    image: Array, affine: Array, rows: int, columns: int, fill: float | None = None
) -> Array:
    """One plane read pixel by pixel; without a fill, mirrored at the pixels' edges."""
    result = np.zeros((rows, columns))
    for row in range(rows):
        for column in range(columns):
            at_row, at_column = affine @ np.array([row, column, 1.0])
            low_row, low_column = int(np.floor(at_row)), int(np.floor(at_column))
            for pixel_row in (low_row, low_row + 1):
                for pixel_column in (low_column, low_column + 1):
                    weight = (1 - abs(at_row - pixel_row)) * (1 - abs(at_column - pixel_column))
                    result[row, column] += weight * _pixel(image, pixel_row, pixel_column, fill)
    return result


def _pixel(image: Array, row: int, column: int, fill: float | None) -> float:
    rows, columns = image.shape
    if 0 <= row < rows and 0 <= column < columns:
        return float(image[row, column])
    if fill is not None:
        return fill
    return float(image[_mirrored(row, rows), _mirrored(column, columns)])


def _mirrored(index: int, size: int) -> int:
    index %= 2 * size
    return index if index < size else 2 * size - 1 - index
