"""What every unit of the planted network is for, as plain data; no weights and no torch in here.

Angles are degrees, counter-clockwise as seen on the screen: 0 points right, 90 points up (to
smaller row numbers). The orientation of a line is the direction along it, in [0, 180): 0 is
horizontal, 45 rises to the right. The orientation of an arc is the direction from its apex to
the center of its circle, in [0, 360): 0 opens to the right like "(", 90 opens upwards like a cup.

A unit at (row i, column j) of a layer with stride s has its apex, line or blob at the pixel
(s * i, s * j), exactly: kernels are odd and padded on both sides alike.
"""

from dataclasses import dataclass

INPUT_SIZE = (112, 112)
"""Rows and columns of the usual input. Any size runs; from this one up the middle unit of a layer,
at the pixel (rows // 2, columns // 2) where its stride divides that, sees no border up to `curve`.
"""

INPUT_MEAN = (0.5, 0.5, 0.5)
INPUT_SD = (0.5, 0.5, 0.5)
"""The network reads `(images - INPUT_MEAN) / INPUT_SD` for images in [0, 1]: values in [-1, 1]."""

STRIDES_PX = {
    "gabor": 2,
    "complex": 4,
    "line": 4,
    "early": 8,
    "curve": 8,
    "tint": 8,
    "joined": 8,
    "part": 8,
    "whole": 8,
}
"""Pixels between neighbours of each layer's map."""

RADIUS_PX = 24.0
"""Radius of the arcs that early curves and curves prefer."""

WAVELENGTH_PX = 6.0
"""Wavelength of the Gabors: a line of half this width is what they like best."""

LINE_COUNT = 18
CURVE_COUNT = 24
PHASES_DEG = (0.0, 90.0, 180.0, 270.0)


@dataclass(frozen=True)
class PlantedLine:
    """A unit tuned to straight lines or edges; `phase_deg` is None where it does not matter.

    Phase 0 is a white line on black, 180 a black line on white, 90 and 270 the two edges.
    """

    address: str
    orientation_deg: float
    phase_deg: float | None = None


@dataclass(frozen=True)
class PlantedArc:
    """A unit tuned to arcs, white on grey as well as black on grey."""

    address: str
    orientation_deg: float
    radius_px: float


@dataclass(frozen=True)
class PlantedColor:
    """A unit that answers to a color, not to its opponent and not to any grey; RGB in [0, 1]."""

    address: str
    prefers: tuple[float, float, float]
    opponent: tuple[float, float, float]


@dataclass(frozen=True)
class PlantedPair:
    """A unit made of two others, at the same position of the map: both (AND) or either (OR)."""

    address: str
    parts: tuple[str, str]


@dataclass(frozen=True)
class PlantedPart:
    """A unit that repeats another one found some columns to its right (negative: left)."""

    address: str
    source: str
    columns: int


@dataclass(frozen=True)
class PlantedSum:
    """A residual add: this channel is the first addend plus the second, nothing else."""

    address: str
    addends: tuple[str, str]


LINE_ORIENTATIONS_DEG = tuple(180.0 * index / LINE_COUNT for index in range(LINE_COUNT))
CURVE_ORIENTATIONS_DEG = tuple(360.0 * index / CURVE_COUNT for index in range(CURVE_COUNT))

GABORS = tuple(
    PlantedLine(f"gabor:{len(PHASES_DEG) * group + index}", orientation_deg, phase_deg)
    for group, orientation_deg in enumerate(LINE_ORIENTATIONS_DEG)
    for index, phase_deg in enumerate(PHASES_DEG)
)
COLOR = PlantedColor(f"gabor:{len(GABORS)}", prefers=(1.0, 0.0, 0.0), opponent=(0.0, 1.0, 1.0))
COMPLEX = tuple(
    PlantedLine(f"complex:{index}", orientation_deg)
    for index, orientation_deg in enumerate(LINE_ORIENTATIONS_DEG)
)
LINES = tuple(
    PlantedLine(f"line:{index}", orientation_deg)
    for index, orientation_deg in enumerate(LINE_ORIENTATIONS_DEG)
)
EARLY_CURVES = tuple(
    PlantedArc(f"early:{index}", orientation_deg, RADIUS_PX)
    for index, orientation_deg in enumerate(CURVE_ORIENTATIONS_DEG)
)
CURVES = tuple(
    PlantedArc(f"curve:{index}", orientation_deg, RADIUS_PX)
    for index, orientation_deg in enumerate(CURVE_ORIENTATIONS_DEG)
)

DUPLICATES = {f"curve:{CURVE_COUNT}": "curve:6"}
"""Exact copies: duplicate -> original (which opens upwards)."""

DEAD = f"curve:{CURVE_COUNT + 1}"
"""Never fires: all its weights are negative, its inputs come out of ReLUs, its bias is negative."""

LEFT = PlantedPart("part:0", source="curve:0", columns=-3)
"""The left half of a circle around the unit: "(", one radius to the left."""

RIGHT = PlantedPart("part:1", source=f"curve:{CURVE_COUNT // 2}", columns=3)
"""The right half of a circle around the unit: ")", one radius to the right."""

SURPLUS = "part:2"
"""What the left half has more than the right one: ReLU(left - right)."""

BOTH = PlantedPair("whole:0", parts=(LEFT.address, RIGHT.address))
"""The AND unit, a circle: min(left, right) = left - ReLU(left - right)."""

EITHER = PlantedPair("whole:1", parts=(LEFT.address, RIGHT.address))
"""The OR unit, polysemantic: max(left, right) = right + ReLU(left - right)."""

TINT_GAIN = 0.5
"""What each unit of the layer `tint` says: this much of the color unit at the same place."""

SUMS = tuple(
    PlantedSum(f"joined:{index}", addends=(f"curve:{index}", f"tint:{index}"))
    for index in range(CURVE_COUNT + 2)
)
"""The residual add; as the curve channel of the dead unit is 0, `joined:25` is color alone."""

LOGITS = {
    "curve": tuple(unit.address for unit in SUMS[:CURVE_COUNT]),
    "circle": (BOTH.address,),
    "red": (SUMS[-1].address,),
}
"""The outputs, in order: each the mean, over the map and over these channels, of what they say."""
