"""The definitions of featviz.engine's objectives, written out in NumPy float64: slow and obvious.

Activations are (batch, channel, site); pictures (batch, channel, row, column).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def channel(values: Array, channel: int) -> Array:
    return np.array([image[channel].mean() for image in values])


def neuron(values: Array, channel: int, site: int) -> Array:
    return np.array([image[channel, site] for image in values])


def deepdream(values: Array) -> Array:
    return np.array([(image**2).mean() for image in values])


def dot_cosine(site: Array, vector: Array, power: float) -> float:
    """The dot product of one site with a vector, times max(0.1, cosine) ** power."""
    dot = float(site @ vector)
    if power == 0:
        return dot
    cosine = dot / ((1e-4 + np.linalg.norm(site)) * (1e-4 + np.linalg.norm(vector)))
    return dot * max(0.1, float(cosine)) ** power


def direction(values: Array, vector: Array, power: float) -> Array:
    result = [np.mean([dot_cosine(site, vector, power) for site in image.T]) for image in values]
    return np.array(result, dtype=np.float64)


def neuron_direction(values: Array, vector: Array, site: int, power: float) -> Array:
    return np.array([dot_cosine(image[:, site], vector, power) for image in values])


def tensor_direction(maps: Array, tensor: Array, power: float) -> Array:
    """Maps and tensor are (..., row, column); the crop starts at (map - shape) // 2."""
    rows, columns = tensor.shape[1:]
    top, left = (maps.shape[2] - rows) // 2, (maps.shape[3] - columns) // 2
    result = []
    for image in maps:
        places = [(row, column) for row in range(rows) for column in range(columns)]
        result.append(
            np.mean(
                [
                    dot_cosine(image[:, top + row, left + column], tensor[:, row, column], power)
                    for row, column in places
                ]
            )
        )
    return np.array(result)


def gram(image: Array) -> Array:
    return image @ image.T


def likeness(values: Array, count: int) -> Array:
    """Mean cosine of each picture's Gram matrix with those of the others of its recipe."""
    result = []
    for start in range(0, len(values), count):
        grams = [gram(image) for image in values[start : start + count]]
        for i, one in enumerate(grams):
            others = [
                (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
                for j, other in enumerate(grams)
                if j != i
            ]
            result.append(np.mean(others) if others else 0.0)
    return np.array(result)


def misalignment(values: Array, count: int, decay: float) -> Array:
    """Half of each pair's weighted mean square difference goes to each picture of the pair."""
    result = np.zeros(len(values))
    for start in range(0, len(values), count):
        for i in range(count):
            for distance in range(1, 5):
                if i + distance < count:
                    gap = ((values[start + i] - values[start + i + distance]) ** 2).mean()
                    result[start + i] += gap / decay**distance / 2
                    result[start + i + distance] += gap / decay**distance / 2
    return result


def total_variation(images: Array) -> Array:
    return np.array(
        [
            np.abs(np.diff(image, axis=1)).mean() + np.abs(np.diff(image, axis=2)).mean()
            for image in images
        ]
    )


def l1(values: Array, constant: float) -> Array:
    return np.array([np.abs(image - constant).mean() for image in values])


def l2(values: Array, constant: float, epsilon: float) -> Array:
    return np.array([np.sqrt(epsilon + ((image - constant) ** 2).mean()) for image in values])


def blurred(plane: Array) -> Array:
    """The 3x3 neighbours inside the picture: the center counts 1, the others one half."""
    result = np.zeros_like(plane)
    for row, column in np.ndindex(plane.shape):
        total = weight = 0.0
        for r in range(max(row - 1, 0), min(row + 2, plane.shape[0])):
            for c in range(max(column - 1, 0), min(column + 2, plane.shape[1])):
                factor = 1.0 if (r, c) == (row, column) else 0.5
                total, weight = total + factor * plane[r, c], weight + factor
        result[row, column] = total / weight
    return result


def roughness(images: Array) -> Array:
    result = [np.mean([(plane - blurred(plane)) ** 2 for plane in image]) for image in images]
    return 0.5 * np.array(result, dtype=np.float64)


def roughness_gradient(images: Array) -> Array:
    """Of the roughness with the blurred picture held fixed."""
    return np.array(
        [[(plane - blurred(plane)) / image.size for plane in image] for image in images]
    )


def image_distance(images: Array, target: Array, epsilon: float) -> Array:
    return np.array([np.sqrt(epsilon + ((image - target) ** 2).mean()) for image in images])
