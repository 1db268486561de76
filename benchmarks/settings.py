"""Which settings reach the best pictures in the fewest network passes? Side by side, same units.

    python -m benchmarks.settings VARIANT ... --weights-googlenet FILE [--units N]

A variant is a preset, or what differs from the default: "preset=fast steps=48 rate=.6 beta1=.5
beta2=.99 decays=1 sd=.01 power=1 transforms=mild redirected=16 dtype=bfloat16-products", any of
them.

For units of early, middle and late layers of two networks: the clean score of the 8-bit picture,
its mean under held-out changes and the unit's rank (see `judge`), as medians over units of the
ratio to the first variant, with passes and CPU seconds a unit.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import featviz
from benchmarks.judge import Judge
from benchmarks.machine import write_result
from benchmarks.peer import Target
from benchmarks.peers import targets_of
from featviz.engine.execution import execution
from featviz.engine.presets import PRESETS
from featviz.engine.recipe import Decay, Recipe, default_recipe
from featviz.engine.render import render_each
from featviz.image.parameterizations import Fourier
from featviz.image.transforms import Jitter, Rotate, Scale, Stack, lucid, standard
from featviz.network.network import Network

MEASURES = ("score_saved", "held_out_saved", "score_native", "held_out_native")
TRANSFORMS = {
    "none": Stack(),
    "mild": standard(),
    "medium": Stack((Jitter(6), Scale(0.9, 1.1), Rotate(8.0))),
    "lucid": lucid(),
}
DECAYS: dict[str, Decay] = {"0": False, "1": True, "parabola": "parabola", "cubic": "cubic"}
KEYS = (
    *("steps", "rate", "beta1", "beta2", "decays", "sd", "power", "transforms", "redirected"),
    *("dtype", "preset"),
)


def main() -> None:
    """Renders, scores, prints a line a variant, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights-googlenet", default="", help="FILE.npz [without googlenet_bvlc]")
    parser.add_argument("--units", type=int, default=24, help="of all networks together")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("variants", nargs="+", metavar="VARIANT")
    parser.add_argument("--images", type=Path, help="references for ranks [pink noise]")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/settings-DATE.json]")
    options = parser.parse_args()
    weights = {"googlenet_bvlc": options.weights_googlenet, "efficientnet_lite0": "default"}
    networks = {name: featviz.load(name, weights=word) for name, word in weights.items() if word}
    targets = targets_of(networks, options.units)
    judges = {name: Judge(network, options.images) for name, network in networks.items()}
    rows: list[dict[str, Any]] = []
    for variant in options.variants:
        units: list[dict[str, Any]] = []
        for name, network in networks.items():
            asked = [target for target in targets if target.network == name]
            units += _measured(network, judges[name], asked, variant, options)
        first = rows[0]["units"] if rows else units
        rows.append({"variant": variant, **_medians(units, first), "units": units})
        print(_line(rows[-1]), flush=True)
    kept = {name: getattr(options, name) for name in ("size", "slots")}
    settings = {**kept, "units": len(targets), "compared_with": options.variants[0]}
    content = {"settings": settings, "rows": rows}
    write_result("settings", torch.device("cpu"), content, out=options.out)


def _measured(
    network: Network,
    judge: Judge,
    targets: Sequence[Target],
    variant: str,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    recipes = [_recipe(network, target, variant, options.size) for target in targets]
    dtype = _given(variant).get("dtype", "float32")
    how = execution(slots=options.slots, dtype=dtype, weights=network.weights)
    start = time.process_time()
    made = {picture.recipe.digest: picture for picture in render_each(network, recipes, how)}
    cpu_s = (time.process_time() - start) / len(recipes)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for target, recipe in zip(targets, recipes, strict=True):
            picture = made[recipe.digest]
            path = picture.save(Path(folder) / "picture.png")
            found = judge.scores(target.layer, target.channel, path, options.size)
            unit = {"network": target.network, "layer": target.layer, "channel": target.channel}
            rows.append({**unit, "cpu_s": cpu_s, "passes": picture.steps, **found})
    return rows


def _recipe(network: Network, target: Target, variant: str, size: int) -> Recipe:
    objective = featviz.Channel(target.layer, target.channel)
    given = _given(variant)
    recipe = PRESETS[given.get("preset", "default")](default_recipe(network, objective, size=size))
    adam, made = recipe.optimizer, recipe.parameterization
    assert isinstance(made, Fourier)
    return replace(
        recipe,
        steps=int(given.get("steps", recipe.steps)),
        redirected_steps=int(given.get("redirected", recipe.redirected_steps)),
        transforms=TRANSFORMS[given["transforms"]] if "transforms" in given else recipe.transforms,
        optimizer=replace(
            adam,
            learning_rate=float(given.get("rate", adam.learning_rate)),
            beta1=float(given.get("beta1", adam.beta1)),
            beta2=float(given.get("beta2", adam.beta2)),
            decays=DECAYS[given["decays"]] if "decays" in given else adam.decays,
        ),
        parameterization=replace(
            made,
            sd=float(given.get("sd", made.sd)),
            decay_power=float(given.get("power", made.decay_power)),
        ),
    )


def _given(variant: str) -> dict[str, str]:
    """What a variant says that differs from the default."""
    if variant in PRESETS:
        return {"preset": variant}
    given = dict(word.split("=", 1) for word in variant.split())
    assert set(given) <= set(KEYS), f"{variant}: of {KEYS}"
    return given


def _medians(units: Sequence[dict[str, Any]], first: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over units, of measures as ratios to those of the first variant."""
    found: dict[str, Any] = {}
    for name in MEASURES:
        pairs = [(mine[name], theirs[name]) for mine, theirs in zip(units, first, strict=True)]
        ratios = [mine / theirs for mine, theirs in pairs if theirs > 0]
        found[f"{name}_ratio"] = statistics.median(ratios)
        found[f"{name}_lowest"] = min(ratios)
    ranks = [unit["rank"] for unit in units]
    found |= {"first_in_rank": sum(rank == 0 for rank in ranks)}
    found |= {name: statistics.mean(u[name] for u in units) for name in ("rank", "cpu_s", "passes")}
    return found


def _line(row: dict[str, Any]) -> str:
    measures = "  ".join(
        f"{name} {row[f'{name}_ratio']:.3f} ({row[f'{name}_lowest']:.2f})" for name in MEASURES
    )
    ranks = f"rank 0 in {row['first_in_rank']} of {len(row['units'])}"
    cost = f"{row['passes']:.0f} passes {row['cpu_s']:.2f} s"
    return f"{row['variant']:>24}: {measures}  {ranks}  {cost}"


if __name__ == "__main__":
    main()
