"""Do final scores agree across slot counts and precisions? 32 units, the default settings.

    python -m benchmarks.agreement [--size 128] [--out FILE.json]

What is expected: in float32 the median difference of scores is at most .5 % and each at
most 3 %; in lower precision the median of the scores is within 2 %.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

import featviz
from benchmarks.machine import write_result
from featviz.engine.execution import PRODUCTS
from featviz.engine.recipe import Recipe

BLOCKS = ("blocks.1", "blocks.2", "blocks.3", "blocks.5")
RUNS = (
    *((16, "float32"), (1, "float32"), (5, "float32")),
    *((16, PRODUCTS), (16, "bfloat16")),
)


def main() -> None:
    """Measures, prints, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--runs", type=int, default=len(RUNS), help="how many of the five")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/agreement-DATE.json]")
    options = parser.parse_args()
    network = featviz.load()
    units = [f"{block}:0-7" for block in BLOCKS]
    scores: list[list[float]] = []
    rows: list[dict[str, Any]] = []
    for slots, dtype in RUNS[: options.runs]:
        settings = {"size": options.size, "steps": options.steps}
        pictures = featviz.render(network, units, slots=slots, dtype=dtype, **settings)
        scores.append([picture.score for picture in pictures])
        rows.append(_row(slots, dtype, scores[-1], scores[0]))
        print(" ".join(f"{name} {value}" for name, value in rows[-1].items() if name != "scores"))
    settings = {"size": options.size, "steps": options.steps, "units": units}
    content = {"settings": settings, "rows": rows}
    write_result("agreement", torch.device("cpu"), content, out=options.out)


def _row(slots: int, dtype: str, scores: list[float], first: list[float]) -> dict[str, Any]:
    differences = [abs(a - b) / abs(b) for a, b in zip(scores, first, strict=True)]
    return {
        "slots": slots,
        "dtype": dtype,
        "median_score": statistics.median(scores),
        "median_difference": statistics.median(differences),
        "largest_difference": max(differences),
        "scores": scores,
    }


if __name__ == "__main__":
    main()
