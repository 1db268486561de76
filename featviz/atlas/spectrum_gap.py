"""How far the spectrum of a picture is from that of natural images; no network in here."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

NATURAL_EXPONENT = 2.0
"""Power of natural images falls as 1 / frequency**2, at all scales and whatever they show.

Source: Field 1987, "Relations between the statistics of natural images and the response
properties of cortical cells" (amplitude falls as 1 / frequency); Ruderman and Bialek 1994,
"Statistics of natural images: scaling in the woods" (the exponent of their woods is 1.81, which
lies 0.06 from 2 in the units of `spectrum_gap` over four bands). A published law, not data: no
licence applies.
"""
LUMINANCE = (0.299, 0.587, 0.114)
"""Share of red, green and blue. Source: ITU-R Recommendation BT.601."""
FEWEST_CYCLES = 2.0
"""Bands begin at so many cycles along the shorter side; below, the window blurs them."""
FEWEST_BANDS = 2
_ROUNDING_VARIANCE = 1 / 12 / 255**2

Plane = NDArray[np.float64]


def spectrum_gap(pixels: NDArray[np.uint8]) -> float | None:
    """Distance of a picture's radial power spectrum from 1 / frequency**2, in log10 units.

    `pixels` are (row, column, channel) bytes. The power of its luminance, mean removed, under a
    Hann window (so that its borders are no edges), is averaged over octave bands of frequency in
    cycles per pixel: [1/4, 1/2), [1/8, 1/4), ..., as long as a band begins at FEWEST_CYCLES along
    the shorter side or more, and the corners of the plane from 1/2 on, where checkerboards are.
    Of the log10 ratios to the natural power in the same bands the mean is taken off (the overall
    contrast says nothing), and the gap is their root mean square: 0 is natural, 0.3 a factor of
    two in the usual band. White noise of 96 pixels has 0.79. Power of the size of what rounding to
    8 bits adds is added to all bands, so that none is empty.

    None where a picture is too small for FEWEST_BANDS bands, or of one grey.
    """
    rows, columns = pixels.shape[:2]
    bands, natural = _bands(rows, columns)
    grey = _luminance(pixels)
    if len(natural) < FEWEST_BANDS or grey.max() == grey.min():
        return None
    window = np.outer(_hann(rows), _hann(columns))
    centered = grey - (grey * window).sum() / window.sum()
    power = np.abs(np.fft.fft2(centered * window)) ** 2
    floor = _ROUNDING_VARIANCE * (window**2).sum()
    there = np.array([power[band].mean() for band in bands]) + floor
    ratios = np.log10(there / natural)
    return float(np.sqrt(np.square(ratios - ratios.mean()).mean()))


@lru_cache(maxsize=8)
def _bands(rows: int, columns: int) -> tuple[tuple[NDArray[np.bool_], ...], Plane]:
    """Which coefficients are in each band, highest first, and the natural power there."""
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :])
    lowest = max(FEWEST_CYCLES / min(rows, columns), math.sqrt(0.5) / 2**16)
    starts = [0.5]
    while starts[-1] / 2 >= lowest:
        starts.append(starts[-1] / 2)
    masks = tuple((frequency >= start) & (frequency < 2 * start) for start in starts)
    law = np.maximum(frequency, lowest / 2) ** -NATURAL_EXPONENT
    there = tuple(mask for mask in masks if mask.any())
    return there, np.array([law[mask].mean() for mask in there])


def _luminance(pixels: NDArray[np.uint8]) -> Plane:
    values = pixels.astype(np.float64) / 255
    return values @ np.array(LUMINANCE) if pixels.shape[2] == 3 else values.mean(axis=2)


def _hann(count: int) -> Plane:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(count) / count)
