"""The gap to natural spectra, where it is known in closed form."""

import math

import numpy as np
import pytest
import torch

from featviz.atlas.references import pink_references
from featviz.atlas.spectrum_gap import spectrum_gap
from featviz.engine.render import hwc_uint8_from_images
from featviz.image.parameterizations import Shape

CATALAN = 0.915965594177219


def noise(seed: int, side: int = 96) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.clip(127.5 + 30 * generator.normal(size=(side, side, 1)), 0, 255).astype(np.uint8)


def gap_of(pixels: np.ndarray) -> float:
    gap = spectrum_gap(pixels)
    assert gap is not None
    return gap


def gap_of_white_noise(octaves: int) -> float:
    """White power against the mean of f**-2 over each band, integrated by hand.

    Over an octave from f: ln 2 / (1.5 f**2). Over the corners of the unit square outside the disc
    of radius 1/2: 8 times the integral of -ln cos over [0, pi / 4], which is
    pi / 4 * ln 2 - Catalan / 2, divided by their area 1 - pi / 4.
    """
    corners = 8 * (math.pi / 4 * math.log(2) - CATALAN / 2) / (1 - math.pi / 4)
    natural = [corners, *(math.log(2) / 1.5 * 4.0 ** (1 + n) for n in range(1, octaves + 1))]
    ratios = -np.log10(natural)
    return float(ratios.std())


def test_white_noise_has_the_gap_computed_by_hand() -> None:
    # 96 px: octaves from 1/4, 1/8, 1/16 and 1/32 (3 cycles; 1/64 would have 1.5).
    expected = gap_of_white_noise(4)
    assert expected == pytest.approx(0.79, abs=0.005)
    gaps = [gap_of(noise(seed)) for seed in range(8)]
    # The lowest octave has some 40 independent coefficients: 16 % of power, 0.07 in log10, of
    # which the gap sees a half; and few grid points there are not quite an integral.
    assert np.mean(gaps) == pytest.approx(expected, abs=0.03)
    assert np.ptp(gaps) < 0.15


def test_pink_noise_has_nearly_none() -> None:
    shape = Shape(3, 96, 80)
    pictures = hwc_uint8_from_images(pink_references().images(range(8), shape))
    gaps = [gap_of(picture) for picture in pictures]
    assert max(gaps) < 0.15
    assert np.mean(gaps) < 0.08


@pytest.mark.parametrize(("power", "off"), [(0.0, -2), (1.0, -1), (3.0, 1), (4.0, 2)])
def test_an_exponent_off_by_n_has_n_times_the_gap_of_one(power: float, off: int) -> None:
    # f**-power against f**-2 in log10 rises by off * log10(2) an octave.
    generator = torch.Generator().manual_seed(0)
    frequency = torch.hypot(torch.fft.fftfreq(192)[:, None], torch.fft.rfftfreq(192))
    spectrum = torch.fft.rfft2(torch.randn(192, 192, generator=generator))
    plane = torch.fft.irfft2(spectrum / frequency.clamp(min=1 / 192) ** (power / 2))
    picture = (0.5 + 0.12 * plane / plane.std()).clamp(0, 1)[None, None]
    gap = gap_of(hwc_uint8_from_images(picture)[0])
    octaves = np.array([-0.6, 0, 1, 2, 3, 4])  # the corners, and the octaves from 1/4 to 1/64
    expected = abs(off) * math.log10(2) * np.std(octaves)
    assert gap == pytest.approx(expected, rel=0.2)


def test_a_checkerboard_has_a_large_one() -> None:
    squares = np.indices((96, 96)).sum(axis=0) % 2 * 255
    assert gap_of(squares[..., None].astype(np.uint8)) > 1.5
    over_pink = hwc_uint8_from_images(pink_references().images([0], Shape(1, 96, 96)))[0]
    with_squares = np.clip(over_pink.astype(int) + squares[..., None] // 8, 0, 255)
    clean, dirty = gap_of(over_pink), gap_of(with_squares.astype(np.uint8))
    assert dirty > clean + 0.2


def test_the_borders_are_no_edges() -> None:
    # A ramp is smooth, but from one border to the other it jumps.
    planes = pink_references().images([3], Shape(1, 96, 96))
    quiet = 0.4 + 0.1 * planes
    ramp = quiet + torch.linspace(-0.3, 0.3, 96)
    gaps = [gap_of(hwc_uint8_from_images(each)[0]) for each in (quiet, ramp)]
    assert gaps[1] == pytest.approx(gaps[0], abs=0.05)


def test_bands_without_power_have_that_of_rounding() -> None:
    # A checkerboard's power is all in the corner; logarithms of what rounding leaves in the sums
    # of a Fourier transform would be beyond -20.
    squares = (np.indices((96, 96)).sum(axis=0) % 2 * 255)[..., None].astype(np.uint8)
    assert 1.5 < gap_of(squares) < 4


def test_contrast_and_light_say_nothing() -> None:
    # Values that stay whole numbers under halving lose nothing to rounding.
    picture = (noise(0) // 4) * 2
    expected = gap_of(picture)
    assert gap_of(picture // 2 + 90) == pytest.approx(expected, abs=1e-3)
    colors = np.repeat(picture, 3, axis=2)
    assert gap_of(colors) == pytest.approx(expected, abs=1e-9)


def test_green_counts_most() -> None:
    # A checkerboard in one channel over pink noise in all.
    pink = hwc_uint8_from_images(pink_references().images([0], Shape(1, 64, 64)))[0]
    gaps = []
    for channel in range(3):
        picture = np.repeat(pink, 3, axis=2).astype(int)
        picture[..., channel] += np.indices((64, 64)).sum(axis=0) % 2 * 60
        gaps.append(gap_of(np.clip(picture, 0, 255).astype(np.uint8)))
    assert gaps[2] < gaps[0] < gaps[1]


@pytest.mark.parametrize("side", [1, 2, 7])
def test_too_small_pictures_and_flat_ones_have_none(side: int) -> None:
    assert spectrum_gap(noise(0, side)) is None
    assert spectrum_gap(np.full((96, 96, 3), 40, dtype=np.uint8)) is None


def test_sixteen_pixels_suffice_and_wide_pictures_do() -> None:
    assert gap_of(noise(0, 16)) > 0.2
    assert gap_of(noise(0, 96)[:16]) > 0.2
