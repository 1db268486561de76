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
) -> tuple[Array, list[float]]:
    """Adam (Kingma and Ba 2015, algorithm 1) on weights . sigmoid(parameters), upwards.

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
        elif decays:
            rate *= 0.5 * (1 + math.cos(math.pi * number / steps))
        parameters = parameters + rate * unbiased_mean / (np.sqrt(unbiased_square) + epsilon)
    return parameters, values
