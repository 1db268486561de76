"""Drawn arcs and lines in float64 NumPy, and a judge that finds the arc in a picture by itself.

Angles are degrees, counter-clockwise as seen on the screen (0 right, 90 up, while rows count down).
The orientation of an arc points from its apex to the center of its circle; that of a line goes
along it. Pictures are (row, column), grey .5, and lie in [0, 1]; no network is involved anywhere.
"""

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float64]
Numbers = NDArray[np.float64]

GREY = 0.5


def draw_arc(
    orientation_deg: float,
    radius_px: float,
    *,
    size_px: int = 112,
    width_px: float = 3.0,
    contrast: float = 1.0,
    half_span_deg: float = 65.0,
    apex: tuple[int, int] | None = None,
) -> Picture:
    """An anti-aliased arc with its apex at (row, column); None is the pixel size_px // 2 of both.

    `contrast` 1 draws white, -1 black. The ends are cut square.
    """
    outward, along = _polar(orientation_deg, radius_px, size_px=size_px, apex=apex)
    ends = _inside(along, np.radians(half_span_deg) * radius_px)
    return GREY + GREY * contrast * _inside(outward, width_px / 2) * ends


def draw_line(
    orientation_deg: float,
    *,
    size_px: int = 112,
    width_px: float = 3.0,
    contrast: float = 1.0,
    half_length_px: float = 200.0,
    center: tuple[int, int] | None = None,
) -> Picture:
    """An anti-aliased straight line through (row, column); None is size_px // 2 of both."""
    row, column = (size_px // 2, size_px // 2) if center is None else center
    rows, columns = np.mgrid[:size_px, :size_px].astype(np.float64)
    angle = np.radians(orientation_deg)
    across = (columns - column) * np.sin(angle) + (rows - row) * np.cos(angle)
    along = (columns - column) * np.cos(angle) - (rows - row) * np.sin(angle)
    ends = _inside(along, half_length_px)
    return GREY + GREY * contrast * _inside(across, width_px / 2) * ends


def arc_correlations(
    picture: Picture,
    radius_px: float,
    *,
    orientations_deg: Numbers,
    wavelength_px: float = 6.0,
    half_span_deg: float = 90.0,
    shift_px: int = 6,
) -> Numbers:
    """How well an arc of each orientation correlates with a picture: root mean square over shifts.

    The arc is a line with its flanks (a cosine across under a Gaussian of one wavelength), apex
    within `shift_px` rows and columns of the middle pixel, size // 2. A square of the correlation,
    so white and black count alike; a mean over shifts of about a wavelength, so the phase of the
    stripes does not matter. 0 for a flat picture. The picture is square.
    """
    inner = picture.shape[0] - 2 * shift_px
    middle = picture.shape[0] // 2 - shift_px
    arcs = []
    for orientation_deg in orientations_deg:
        outward, along = _polar(orientation_deg, radius_px, size_px=inner, apex=(middle, middle))
        stripes = np.cos(2 * np.pi * outward / wavelength_px)
        stripes *= np.exp(-((outward / wavelength_px) ** 2) / 2)
        arcs.append((stripes * _inside(along, np.radians(half_span_deg) * radius_px)).ravel())
    starts = range(2 * shift_px + 1)
    windows = [
        picture[row : row + inner, column : column + inner].ravel()
        for row in starts
        for column in starts
    ]
    correlations = _standardized(np.stack(arcs)) @ _standardized(np.stack(windows)).T
    return np.sqrt((correlations**2).mean(axis=1))


def best_arc_orientation(
    picture: Picture,
    radius_px: float,
    *,
    step_deg: float = 2.5,
    wavelength_px: float = 6.0,
    shift_px: int = 6,
) -> float:
    """The orientation, degrees in [0, 360), of the arc that the picture shows in its middle.

    The middle of the peak of `arc_correlations`: the mean orientation within 30 degrees of the
    best one, weighted by what the correlation exceeds .6 of the best by.
    """
    orientations_deg = np.arange(0.0, 360.0, step_deg)
    scores = arc_correlations(
        picture,
        radius_px,
        orientations_deg=orientations_deg,
        wavelength_px=wavelength_px,
        shift_px=shift_px,
    )
    best_deg = orientations_deg[scores.argmax()]
    away_deg = (orientations_deg - best_deg + 180) % 360 - 180
    excess = np.where(np.abs(away_deg) <= 30, np.maximum(scores - 0.6 * scores.max(), 0), 0)
    if excess.sum() == 0:  # a flat picture
        return float(best_deg)
    return float((best_deg + (excess * away_deg).sum() / excess.sum()) % 360)


def turn_deg(left_deg: float, right_deg: float, *, period_deg: float = 360.0) -> float:
    """Degrees from right to left, the short way round: in [-period / 2, period / 2)."""
    return float((left_deg - right_deg + period_deg / 2) % period_deg - period_deg / 2)


def _polar(
    orientation_deg: float, radius_px: float, *, size_px: int, apex: tuple[int, int] | None
) -> tuple[Picture, Picture]:
    """For every pixel: distance outward from the circle, and along it from the apex, both in px."""
    row, column = (size_px // 2, size_px // 2) if apex is None else apex
    angle = np.radians(orientation_deg)
    rows, columns = np.mgrid[:size_px, :size_px].astype(np.float64)
    down = rows - (row - radius_px * np.sin(angle))
    right = columns - (column + radius_px * np.cos(angle))
    # Seen from the center of the circle the apex lies opposite to the orientation.
    turn = (np.arctan2(-down, right) - angle) % (2 * np.pi) - np.pi
    return np.hypot(down, right) - radius_px, turn * radius_px


def _inside(distance: Picture, half_width: float) -> Picture:
    """1 where |distance| is below the half width, 0 above, a ramp of one pixel between."""
    return np.clip(half_width + 0.5 - np.abs(distance), 0, 1)


def _standardized(rows: Numbers) -> Numbers:
    centered = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    return centered / np.where(length > 0, length, 1)
