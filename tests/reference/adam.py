"""Adam's ascent and a picture of plain pixels on a linear network, in NumPy float64."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def ascend(
    parameters: Array,
    weights: Array,
    *,
    steps: int,
    learning_rate: float,
    decays: bool | str,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    is_factored: bool = False,
) -> tuple[Array, list[float]]:
    """Adam (Kingma and Ba 2015, algorithm 1) on weights . sigmoid(parameters), upwards.

    Factored, of parameters (color, row, column), it divides by the 3/8th power of the second
    moments that their factors stand for (Shazeer and Stern 2018, algorithm 4).

    Returns the last parameters, and the value that every step saw before it moved.
    """
    mean = np.zeros_like(parameters)
    square = np.zeros_like(parameters)
    values = []
    for number in range(steps):
        pixels = 1 / (1 + np.exp(-parameters))
        values.append(float((weights * pixels).sum()))
        gradient = weights * pixels * (1 - pixels)
        mean = betas[0] * mean + (1 - betas[0]) * gradient
        square = betas[1] * square + (1 - betas[1]) * gradient**2
        unbiased_mean = mean / (1 - betas[0] ** (number + 1))
        unbiased_square = square / (1 - betas[1] ** (number + 1))
        rate = learning_rate
        if decays == "parabola":
            rate *= 1 - (number / steps) ** 2
        elif decays == "cubic":
            rate *= 1 - (number / steps) ** 3
        elif decays:
            rate *= 0.5 * (1 + math.cos(math.pi * number / steps))
        scale = factored(unbiased_square) if is_factored else np.sqrt(unbiased_square)
        parameters = parameters + rate * unbiased_mean / (scale + epsilon)
    return parameters, values


def factored(square: Array) -> Array:
    """What second moments (color, row, column) divide a step by, color by color."""
    scale = np.empty_like(square)
    for color, plane in enumerate(square):
        moments = np.outer(plane.mean(axis=1), plane.mean(axis=0)) / plane.mean()
        scale[color] = moments ** (3 / 8)
    return scale * square.mean() ** (1 / 8)
