"""The numbers that stand beside a picture: their names, their words, which end is the worse one."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal


@dataclass(frozen=True)
class Measure:
    """A number of a picture. In `words`, {key} stands for another number of the same picture."""

    key: str
    label: str
    words: str
    worse: Literal["low", "high", ""]


MEASURES = (
    Measure(
        "score",
        "Score",
        "What the objective says of exactly these 8-bit pixels, without transforms.",
        "",
    ),
    Measure(
        "held_out",
        "Held-out score",
        "The mean score under 16 fixed draws of changes that the optimization never saw "
        "({held_out_family}).",
        "",
    ),
    Measure(
        "held_out_ratio",
        "Held-out ratio",
        "What is left of the score under those changes: near 1 the picture is robust, near 0 its "
        "score hangs on single pixels.",
        "low",
    ),
    Measure(
        "rank",
        "Rank",
        "How many of the layer's {rank_of} channels answer this picture more strongly than the "
        "unit itself, each against what it does on reference images ({references}); 0 is first.",
        "high",
    ),
    Measure(
        "z",
        "Own response",
        "The unit's response to its own picture, in standard deviations of its responses to the "
        "reference images.",
        "low",
    ),
    Measure(
        "spectrum_gap",
        "Spectrum gap",
        "How far the picture's frequencies are from those of natural images; 0 is alike, and a "
        "wide gap speaks of fine noise.",
        "high",
    ),
    Measure(
        "diversity",
        "Diversity",
        "How unlike each other the pictures of this set are; 0 means all the same.",
        "low",
    ),
    Measure(
        "seed_stability",
        "Seed stability",
        "How alike the pictures are that begin from other noise; 1 means the same each time.",
        "low",
    ),
    Measure(
        "natural_ratio",
        "Against natural images",
        "The score by that of the best natural image ({natural_best}); above 1 the picture "
        "excites the unit more than any of them.",
        "low",
    ),
    Measure(
        "path_similarity",
        "Path similarity",
        "How alike the earlier layers respond to this picture and to the unit's best natural "
        "images; a low value says that the picture reaches the unit on another way.",
        "low",
    ),
)
WORDS = ("held_out_family", "references", "natural_best")
"""What evidence has beside numbers."""
FLAG = "path_flag"


def number(value: object, *, digits: int = 6) -> float | int | None:
    """A finite number, rounded to so many significant digits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.{digits}g}")


def measured(evidence: dict[str, Any] | None, score: object) -> dict[str, Any]:
    """The numbers, words and flag of a picture, those that it has; the score at least is there."""
    data = {} if evidence is None else evidence
    found: dict[str, Any] = {
        key: number(data.get(key)) for key in (*(each.key for each in MEASURES), "rank_of")
    }
    if found["score"] is None:
        found["score"] = number(score)
    found |= {key: data[key] for key in WORDS if isinstance(data.get(key), str)}
    if isinstance(data.get(FLAG), bool):
        found[FLAG] = data[FLAG]
    return {key: value for key, value in found.items() if value is not None}
