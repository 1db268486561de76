"""What a finished unit costs over a mixed list of layers, and what waiting and stopping change.

    scripts/bench atlas [--layers L ...] [--units N] [--size 128] [--slots 16] [--out FILE.json]

Four runs over the same units: "continuous", a finished picture's place taken by the next one, or
"waiting", batches that wait for their last picture; steps "fixed", or ended early by `Plateau`.
With the quality reached: clean scores of the 8-bit pictures in float32, and their ratio to those
of the first run.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import featviz
from benchmarks.everything import evenly
from benchmarks.machine import line, synchronize, write_result
from featviz.engine.batch import batch_key
from featviz.engine.execution import DTYPES, Execution, check_device, execution
from featviz.engine.picture import Picture
from featviz.engine.recipe import Plateau, Recipe, default_recipe
from featviz.engine.render import render_each
from featviz.network.network import Network

LAYERS = ("blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6")
RUNS = tuple(product(("continuous", "waiting"), ("fixed", "plateau")))


def main() -> None:
    """Measures, prints a line a run, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), help="shallow ones first")
    parser.add_argument("--units", type=int, default=7, help="of each layer")
    parser.add_argument("--size", default="128", help='pixels, or "auto"')
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="at most")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--out", type=Path, help="[benchmarks/results/atlas-DATE-DEVICE.json]")
    options = parser.parse_args()
    network = featviz.load(options.network, weights=options.weights)
    size = options.size if options.size == "auto" else int(options.size)
    recipes = [
        default_recipe(network, featviz.Channel(layer, n), size=size, steps=options.steps)
        for layer in options.layers
        for n in evenly(range(network.layer(layer).channels), options.units)
    ]
    how = execution(
        slots=options.slots, device=options.device, dtype=options.dtype, weights=network.weights
    )
    rows = measure(network, recipes, how)
    for row in rows:
        print(line(row))
    device = check_device(options.device)
    kept = ("network", "layers", "units", "size", "slots", "steps", "dtype")
    settings = {name: getattr(options, name) for name in kept} | {"plateau": vars(Plateau())}
    content = {"settings": settings, "rows": rows}
    write_result("atlas", device, content, out=options.out, suffix=f"-{device.type}")


def measure(network: Network, recipes: Sequence[Recipe], how: Execution) -> list[dict[str, Any]]:
    """A row for each of RUNS; before them one step of every recipe, for plans and caches."""
    list(render_each(network, [replace(each, steps=1) for each in recipes], how))
    rows: list[dict[str, Any]] = []
    for batching, stop in RUNS:
        wanted = [replace(r, stop=Plateau() if stop == "plateau" else None) for r in recipes]
        row, scores = _run(network, wanted, how, waits=batching == "waiting")
        first = rows[0]["scores"] if rows else scores
        ratios = [mine / best for mine, best in zip(scores, first, strict=True) if best > 0]
        rows.append(
            {
                "batching": batching,
                "stop": stop,
                **row,
                "score_ratio": statistics.median(ratios) if ratios else None,
                "scores": scores,
            }
        )
    return rows


def _run(
    network: Network, recipes: Sequence[Recipe], how: Execution, *, waits: bool
) -> tuple[dict[str, Any], list[float]]:
    """One run's row, and the scores in the order of the recipes."""
    steps_taken: list[float] = []
    device = check_device(how.device)
    start = time.perf_counter(), time.process_time()
    made: dict[str, Picture] = {}
    for batch in batches(recipes, how.slots) if waits else [recipes]:
        for picture in render_each(network, batch, how, on_progress=steps_taken.append):
            made[picture.recipe.digest] = picture
    synchronize(device)
    wall_s, cpu_s = time.perf_counter() - start[0], time.process_time() - start[1]
    pictures = [made[each.digest] for each in recipes]
    passes = sum(picture.steps for picture in pictures)
    layers: dict[str, list[float]] = {}
    for picture in pictures:
        layers.setdefault(picture.recipe.objective.layers[0], []).append(picture.score)
    row = {
        "units": len(pictures),
        "wall_s_per_unit": wall_s / len(pictures),
        "cpu_s_per_unit": cpu_s / len(pictures),
        "steps_per_picture": passes / len(pictures),
        "useful_share": passes / (len(steps_taken) * how.slots),
        "median_score": statistics.median(picture.score for picture in pictures),
        "dead": sum(picture.verdict == "dead" for picture in pictures),
        "median_score_by_layer": {name: statistics.median(each) for name, each in layers.items()},
    }
    return row, [picture.score for picture in pictures]


def batches(recipes: Sequence[Recipe], slots: int) -> list[list[Recipe]]:
    """Recipes that can be rows of one batch, `slots` at a time, in their order."""
    alike: dict[Any, list[Recipe]] = {}
    for recipe in recipes:
        alike.setdefault(batch_key(recipe), []).append(recipe)
    return [
        members[at : at + slots]
        for members in alike.values()
        for at in range(0, len(members), slots)
    ]


if __name__ == "__main__":
    main()
