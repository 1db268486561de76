"""Weights of the planted network one at a time, in plain Python: an independent second opinion.

Written from the description (a balanced cosine under a Gaussian; a match of place and direction on
a circle), point by point with complex numbers, sharing no code, loop order or formula layout with
the package. Up is the positive imaginary axis.
"""

import cmath
import math

RADIUS_PX = 24.0


def gabor_weight(orientation_deg: float, phase_deg: float, row: int, column: int) -> float:
    """Weight on each color channel at (row, column) of a 9 x 9 Gabor; luminance is their mean."""
    places = [complex(right, -down) for down in range(-4, 5) for right in range(-4, 5)]
    unturn = cmath.rect(1, -math.radians(orientation_deg))
    weight = {}
    for place in places:
        # Across counts to the right-hand side of the line's direction, which is minus its normal.
        across = -(place * unturn).imag
        envelope = math.exp(-(abs(place) ** 2) / (2 * 1.8**2))
        weight[place] = (envelope, math.cos(math.tau * across / 6.0 + math.radians(phase_deg)))
    mean = sum(e * w for e, w in weight.values()) / sum(e for e, _ in weight.values())
    total = sum(e * abs(w - mean) for e, w in weight.values())
    envelope, wave = weight[complex(column - 4, -(row - 4))]
    return envelope * (wave - mean) / total / 3


def curve_weight(orientation_deg: float, source_deg: float, row: int, column: int) -> float:
    """Weight of a curve unit on the early curve of `source_deg` at (row, column) of 5 x 5."""

    def parts(source: float, place: complex) -> tuple[float, float]:
        center = cmath.rect(RADIUS_PX / 8, math.radians(orientation_deg))
        inward = center - place
        on = math.exp(-((abs(inward) - RADIUS_PX / 8) ** 2) / (2 * 0.5**2))
        turn = cmath.phase(cmath.rect(1, math.radians(source)) * inward.conjugate())
        apart = abs(math.degrees(turn))
        match = on * math.exp(-(apart**2) / (2 * 7**2))
        return match, on * math.exp(-((180 - apart) ** 2) / (2 * (2.2 * 7) ** 2))

    window = [complex(right, -down) for down in range(-2, 3) for right in range(-2, 3)]
    total = sum(parts(15.0 * index, place)[0] for index in range(24) for place in window)
    match, opposite = parts(source_deg, complex(column - 2, -(row - 2)))
    return 5.2 * (match - 0.5 * opposite - 0.1 * (1 - match)) / total
