"""The closed formulas behind every weight of the planted network, in float64; nothing is trained.

Kernels have the layout of `torch.nn.Conv2d`: (output channel, input channel, row, column). Those of
tuned units are scaled by the sum of what excites them, times a gain that makes a unit say about 1
to its preferred drawing: a white line 3 px wide on grey.

Source: Cammarata et al. 2021, "Curve Circuits", section "The Artificial Artificial Neural
Network": a curve detector built by hand in steps Gabor -> complex -> line -> early curve -> curve.
Deviation: formulas, sizes and numbers are our own; kernels are centered, so positions are exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.network.planted.answers import (
    BOTH,
    COLOR,
    CURVE_ORIENTATIONS_DEG,
    DUPLICATES,
    EITHER,
    GABORS,
    LEFT,
    LINE_ORIENTATIONS_DEG,
    LOGITS,
    PHASES_DEG,
    RADIUS_PX,
    RIGHT,
    STRIDES_PX,
    SUMS,
    SURPLUS,
    TINT_GAIN,
    WAVELENGTH_PX,
)

Kernel = Float[Tensor, "output input row column"]
Bias = Float[Tensor, " output"]
Plane = Float[Tensor, "row column"]
Angles = Float[Tensor, "*shape"]

REST = 0.05
"""Bias of the curve units: what they say to grey, so that they have a gradient at a noise start.

The layers below have no bias, so they answer c times as strongly to c times the contrast. They may
not rest above 0: the four phases of a Gabor would all be active there and their gradients cancel.
"""

GABOR_SIZE = 9
GABOR_SIGMA_PX = 1.8


@dataclass(frozen=True)
class ArcTuning:
    """How a layer of arc units reads the layer below; `width` in cells of the map below."""

    gain: float
    tolerance_deg: float
    width: float
    opposed: float
    elsewhere: float


EARLY_TUNING = ArcTuning(gain=1.7, tolerance_deg=10.0, width=0.45, opposed=0.6, elsewhere=0.05)
CURVE_TUNING = ArcTuning(gain=5.2, tolerance_deg=7.0, width=0.5, opposed=0.5, elsewhere=0.1)


def gabor_kernel() -> Kernel:
    """Gabors on luminance, the mean of the three color channels; last the color unit.

    Each sums to 0 (no answer to a flat grey) and its absolute values to 1 (no answer to an input in
    [-1, 1] exceeds 1).
    """
    gabors = [
        _gabor(gabor.orientation_deg, gabor.phase_deg or 0.0).expand(3, -1, -1) / 3
        for gabor in GABORS
    ]
    prefers = torch.tensor(COLOR.prefers, dtype=torch.float64)
    opponent = torch.tensor(COLOR.opponent, dtype=torch.float64)
    color = (prefers / prefers.sum() - opponent / opponent.sum())[:, None, None] * _envelope()
    return torch.stack([*gabors, color / color.abs().sum()])


def complex_kernel() -> Kernel:
    """All phases of a Gabor in a blurred 3 x 3 neighbourhood, minus the crossed orientations."""
    rows, columns = _offsets(3)
    nearby = _bell(torch.hypot(rows, columns), 0.8)
    apart = _apart(LINE_ORIENTATIONS_DEG, LINE_ORIENTATIONS_DEG, period_deg=180.0)
    tuning = _bell(apart, 9.0) - 0.35 * _bell(90 - apart, 35.0)
    gabors = tuning.repeat_interleave(len(PHASES_DEG), dim=1)[:, :, None, None] * nearby
    return _scaled(torch.cat([gabors, torch.zeros_like(gabors[:, :1])], dim=1), gain=10.0)


def line_kernel() -> Kernel:
    """Three like complex units in a row, minus their flanks, minus crossed ones in the row."""
    rows, columns = _offsets(3)
    apart = _apart(LINE_ORIENTATIONS_DEG, LINE_ORIENTATIONS_DEG, period_deg=180.0)
    kernels = []
    for index, orientation_deg in enumerate(LINE_ORIENTATIONS_DEG):
        on = _bell(_across(rows, columns, orientation_deg), 0.5)
        like = _bell(apart[index], 8.0)[:, None, None]
        crossed = _bell(90 - apart[index], 40.0)[:, None, None]
        kernels.append(like * (on - 0.35 * (1 - on)) - 0.3 * crossed * on)
    return _scaled(torch.stack(kernels), gain=1.3)


def early_kernel() -> Kernel:
    """Lines along an arc, each along the arc's tangent at its place."""
    return torch.stack(
        [
            _arc(LINE_ORIENTATIONS_DEG, orientation_deg, period_deg=180.0, tuning=EARLY_TUNING)
            for orientation_deg in CURVE_ORIENTATIONS_DEG
        ]
    )


def curve_kernel() -> Kernel:
    """Early curves along an arc, each towards its center; then the duplicate, then the dead."""
    curves = [
        _arc(CURVE_ORIENTATIONS_DEG, orientation_deg, period_deg=360.0, tuning=CURVE_TUNING)
        for orientation_deg in CURVE_ORIENTATIONS_DEG
    ]
    duplicates = [curves[channel_of(original)] for original in DUPLICATES.values()]
    dead = -torch.stack(curves).abs().mean(dim=0)
    return torch.stack([*curves, *duplicates, dead])


def curve_bias() -> Bias:
    """REST for every unit but the dead one, which gets -REST."""
    living = len(CURVE_ORIENTATIONS_DEG) + len(DUPLICATES)
    return torch.tensor([REST] * living + [-REST], dtype=torch.float64)


def tint_kernel() -> Kernel:
    """A like share of the color unit for every channel of the residual add."""
    kernel = torch.zeros(len(SUMS), len(GABORS) + 1, 1, 1, dtype=torch.float64)
    kernel[:, channel_of(COLOR.address)] = TINT_GAIN
    return kernel


def part_kernel() -> Kernel:
    """The left half of a circle, the right half, and left minus right."""
    reach = max(abs(LEFT.columns), abs(RIGHT.columns))
    kernel = torch.zeros(3, len(SUMS), 1, 2 * reach + 1, dtype=torch.float64)
    for part in (LEFT, RIGHT):
        kernel[channel_of(part.address), channel_of(part.source), 0, reach + part.columns] = 1
    left, right = kernel[channel_of(LEFT.address)], kernel[channel_of(RIGHT.address)]
    kernel[channel_of(SURPLUS)] = left - right
    return kernel


def whole_kernel() -> Kernel:
    """AND and OR as the smaller and the larger of two: ReLU(a - b) is what they differ by."""
    kernel = torch.zeros(2, 3, 1, 1, dtype=torch.float64)
    both, either = channel_of(BOTH.address), channel_of(EITHER.address)
    kernel[both, channel_of(LEFT.address)] = 1
    kernel[both, channel_of(SURPLUS)] = -1
    kernel[either, channel_of(RIGHT.address)] = 1
    kernel[either, channel_of(SURPLUS)] = 1
    return kernel


def head_weight() -> Float[Tensor, "output input"]:
    """Each logit the mean of its channels; inputs are those of `joined`, then those of `whole`."""
    inputs = [unit.address for unit in SUMS] + [BOTH.address, EITHER.address]
    weight = torch.zeros(len(LOGITS), len(inputs), dtype=torch.float64)
    for index, addresses in enumerate(LOGITS.values()):
        for address in addresses:
            weight[index, inputs.index(address)] = 1 / len(addresses)
    return weight


def channel_of(address: str) -> int:
    """The channel in an address "layer:channel"."""
    return int(address.rsplit(":", 1)[1])


def _gabor(orientation_deg: float, phase_deg: float) -> Plane:
    """A cosine across the orientation under a round Gaussian, balanced to sum to 0."""
    across = _across(*_offsets(GABOR_SIZE), orientation_deg)
    wave = torch.cos(2 * math.pi * across / WAVELENGTH_PX + math.radians(phase_deg))
    envelope = _envelope()
    balanced = envelope * (wave - (envelope * wave).sum() / envelope.sum())
    return balanced / balanced.abs().sum()


def _envelope() -> Plane:
    rows, columns = _offsets(GABOR_SIZE)
    return _bell(torch.hypot(rows, columns), GABOR_SIGMA_PX)


def _arc(
    sources_deg: Sequence[float], orientation_deg: float, *, period_deg: float, tuning: ArcTuning
) -> Float[Tensor, "input row column"]:
    """One arc unit's kernel over sources of these orientations, the apex in the middle of 5 x 5.

    A source of period 360 matches where it points to the center of the circle, one of period 180
    (a line) where it lies along the tangent. All that does not match inhibits by `elsewhere`; on
    the arc, sources turned by half a period inhibit by `opposed` more, which is what silences the
    echo: the answer to the opposite arc.
    """
    layer = "line" if period_deg == 180.0 else "early"
    radius = RADIUS_PX / STRIDES_PX[layer]
    rows, columns = _offsets(5)
    angle = math.radians(orientation_deg)
    down = -radius * math.sin(angle) - rows
    right = radius * math.cos(angle) - columns
    on = _bell(torch.hypot(down, right) - radius, tuning.width)
    inward_deg = torch.rad2deg(torch.atan2(-down, right))
    local_deg = inward_deg + (90 if period_deg == 180.0 else 0)
    sources = torch.tensor(sources_deg, dtype=torch.float64)[:, None, None]
    apart = _turn(sources - local_deg, period_deg)
    match = on * _bell(apart, tuning.tolerance_deg)
    opposite = on * _bell(period_deg / 2 - apart, 2.2 * tuning.tolerance_deg)
    kernel = match - tuning.opposed * opposite - tuning.elsewhere * (1 - match)
    return tuning.gain * kernel / match.sum()


def _scaled(kernel: Kernel, gain: float) -> Kernel:
    """The kernel with the positive weights of each output channel summing to `gain`."""
    return gain * kernel / kernel.clamp(min=0).sum(dim=(1, 2, 3), keepdim=True)


def _offsets(size: int) -> tuple[Plane, Plane]:
    """Rows and columns counted from the middle of a square window of odd size."""
    steps = torch.arange(size, dtype=torch.float64) - size // 2
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    return rows, columns


def _across(rows: Plane, columns: Plane, orientation_deg: float) -> Plane:
    """Signed distance from the line of this orientation through the middle."""
    angle = math.radians(orientation_deg)
    return columns * math.sin(angle) + rows * math.cos(angle)


def _apart(left_deg: Sequence[float], right_deg: Sequence[float], *, period_deg: float) -> Plane:
    """How far every left orientation is from every right one, in [0, period / 2] degrees."""
    left = torch.tensor(left_deg, dtype=torch.float64)
    right = torch.tensor(right_deg, dtype=torch.float64)
    return _turn(left[:, None] - right[None], period_deg)


def _turn(difference_deg: Angles, period_deg: float) -> Angles:
    half = period_deg / 2
    return ((difference_deg + half) % period_deg - half).abs()


def _bell(distance: Angles, sigma: float) -> Angles:
    return torch.exp(-((distance / sigma) ** 2) / 2)
