"""Do our pictures beat a peer's at the same units, and at what cost?

    python -m benchmarks.peers [--tool NAME] --weights-googlenet FILE [--units N] [--images FOLDER]

Both sides get the same networks, weights, units, threads and picture size, and their own default
settings. They take turns: the peer renders the units of a layer, one a process, then featviz
renders them together, as it is meant to be used: with others of the layer in a full batch, whose
cost they share evenly. It does so at the peer's size and at the sizes that it chooses itself
("auto"). It also renders them with fewer and with more steps: the fewest whose picture scores no
less than the peer's are the passes and seconds "until equal". Scores are those of the saved 8-bit
pictures, alike for both. What a peer rendered stays in --cache, so that an interrupted run goes
on; such rows are not `interleaved`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import featviz
from benchmarks.judge import SCORES, Judge
from benchmarks.machine import write_result
from benchmarks.peer import VARIANTS, Peer, Rendered, Target
from benchmarks.peer_tools import TOOLS
from featviz.engine.execution import DTYPES, check_device, execution
from featviz.engine.presets import PRESETS, adjusted
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import DEFAULT_SLOTS, default_slots, render_each
from featviz.network.network import Network

LAYERS = {
    "googlenet_bvlc": ("inc3a", "inc4c", "inc5b"),
    "efficientnet_lite0": ("blocks.1", "blocks.3", "blocks.5"),
}
"""Early, middle, late: modules that return exactly what our read point of that name is."""
COSTS = ("cpu_s", "wall_s", "passes")
RUNGS = (16, 20, 24, 28, 32, 48, 64)
"""Steps of ours, beside those of --steps, tried for a score equal to the peer's."""


def main() -> None:
    """Renders, scores, prints the table, writes the JSON."""
    options = _options()
    torch.set_num_threads(options.threads)
    weights = {"googlenet_bvlc": options.weights_googlenet, "efficientnet_lite0": "default"}
    networks = {name: featviz.load(name, weights=word) for name, word in weights.items() if word}
    targets = targets_of(networks, options.units)
    settings = {"variant": options.variant, "steps": options.peer_steps}
    settings |= {"size": options.size, "threads": options.threads, "device": options.device}
    peer = Peer(options.tool, options.cache, weights, **settings)
    if options.steps is None:
        options.steps = _recipe(networks[targets[0].network], targets[0], options).steps
    made: list[Turn] = []
    for name, network in networks.items():
        for layer in LAYERS[name]:
            asked = [each for each in targets if (each.network, each.layer) == (name, layer)]
            made += turns(network, asked, peer, options)
    judges = {name: Judge(network, options.images) for name, network in networks.items()}
    rows = [_row(judges[turn.target.network], turn) for turn in made]
    rows = [{"peer": TOOLS[options.tool].release} | row for row in rows]
    at_size = [row for row in rows if row["size"] != "auto"]
    summary = {name: _summary([r for r in at_size if r["network"] == name]) for name in networks}
    summary |= {
        "all": _summary(at_size),
        "auto size": _summary([r for r in rows if r not in at_size]),
    }
    _print(rows, summary)
    kept = (
        "tool",
        "size",
        "preset",
        "steps",
        "rungs",
        "slots",
        "peer_steps",
        "variant",
        "threads",
        "note",
    )
    kept += ("device", "dtype")
    content = {
        "settings": {name: getattr(options, name) for name in kept}
        | {"references": "photographs" if options.images else "pink noise"},
        "summary": summary,
        "rows": rows,
    }
    suffix = f"-{options.tool}" + ("" if options.variant == "default" else f"-{options.variant}")
    suffix += "" if options.device == "cpu" else f"-{options.device}"
    write_result("peers", check_device(options.device), content, out=options.out, suffix=suffix)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", choices=TOOLS, default="lucent")
    parser.add_argument("--weights-googlenet", default="", help="FILE.npz [without googlenet_bvlc]")
    parser.add_argument("--units", type=int, default=24, help="of all networks together")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--preset", choices=list(PRESETS), default="default", help="of ours")
    parser.add_argument("--steps", type=int, help="of ours [the preset's]")
    parser.add_argument("--rungs", type=int, nargs="*", default=RUNGS, help="of ours, until equal")
    parser.add_argument("--slots", type=int, help="of ours, at most [the engine's default]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES), help="of ours")
    parser.add_argument("--peer-steps", type=int, help="[the tool's default]")
    parser.add_argument("--variant", choices=VARIANTS, default="default")
    parser.add_argument("--no-auto", action="store_true", help="ours at the peer's size only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=Path, help="references for ranks [pink noise]")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "peers")
    parser.add_argument("--only-cached", action="store_true", help="units that the peer has done")
    parser.add_argument("--note", default="", help="on the conditions; goes into the result")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/peers-DATE-TOOL.json]")
    options = parser.parse_args()
    if options.peer_steps is None:
        options.peer_steps = TOOLS[options.tool].steps
    return options


def targets_of(networks: Mapping[str, Network], count: int) -> list[Target]:
    """Units in turn from every network and depth; more of them begin with the same ones.

    Channels follow the van der Corput sequence, so that any number of them is evenly spaced.
    """
    found: dict[Target, None] = {}
    for turn in range(count):
        share = (int(f"{turn:032b}"[::-1], 2) / 2**32 + 0.1) % 1
        for depth in range(3):
            for name, network in networks.items():
                layer = LAYERS[name][depth]
                found[Target(name, layer, int(share * network.layer(layer).channels))] = None
    return list(found)[:count]


@dataclass(frozen=True)
class Turn:
    """A unit as both sides rendered it; `rungs`: ours with other numbers of steps, fewest first."""

    target: Target
    size: int | str
    ours: Rendered
    theirs: Rendered
    is_interleaved: bool
    rungs: tuple[Rendered, ...] = ()


def turns(
    network: Network, targets: Sequence[Target], peer: Peer, options: argparse.Namespace
) -> list[Turn]:
    """The units of a layer by the peer, where it has not done them yet, and at once by ours."""
    cached = peer.known()
    if not options.only_cached:
        peer.collect(targets)
    theirs = peer.known()
    asked = [target for target in targets if target in theirs]
    if not asked:
        return []
    found: list[Turn] = []
    for size in (options.size, *([] if options.no_auto else ["auto"])):
        ours = rendered_by_featviz(network, asked, options, size=size, steps=options.steps)
        ladder = [
            rendered_by_featviz(network, asked, options, size=size, steps=steps)
            for steps in (options.rungs if size == options.size else ())
        ]
        for target in asked:
            rungs = sorted((each[target] for each in ladder), key=lambda each: each.passes)
            known = (ours[target], theirs[target], target not in cached)
            found.append(Turn(target, size, *known, tuple(rungs)))
    return found


def rendered_by_featviz(
    network: Network,
    targets: Sequence[Target],
    options: argparse.Namespace,
    *,
    size: int | str,
    steps: int,
) -> dict[Target, Rendered]:
    """Our side: units of a layer in one call; the costs are shared evenly."""
    recipes = [_recipe(network, each, options, size=size, steps=steps) for each in targets]
    whole = [*recipes, *beside(network, recipes, options.device)]
    slots = options.slots or default_slots(whole, options.device)
    how = execution(
        slots=min(slots, len(whole)),
        device=options.device,
        dtype=options.dtype,
        weights=network.weights,
    )
    wall, cpu = time.perf_counter(), time.process_time()
    made = {each.recipe.digest: each for each in render_each(network, whole, how)}
    cpu_s = (time.process_time() - cpu) / len(whole)
    wall_s = (time.perf_counter() - wall) / len(whole)
    folder = options.cache / f"featviz-{options.preset}-{size}-{steps}"
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for target, recipe in zip(targets, recipes, strict=True):
        picture = made[recipe.digest]
        path = picture.save(folder / target.file_name)
        results[target] = Rendered(path, cpu_s, wall_s, picture.steps, recipe.shape.rows)
    return results


def _recipe(
    network: Network,
    target: Target,
    options: argparse.Namespace,
    *,
    size: int | str = "auto",
    steps: int | None = None,
) -> Recipe:
    recipe = default_recipe(network, featviz.Channel(target.layer, target.channel), size=size)
    return adjusted(recipe, preset=options.preset, steps=steps)


def beside(network: Network, recipes: Sequence[Recipe], device: str) -> list[Recipe]:
    """Others of the same layer, so that the device has as full a batch as an atlas gives it."""
    layer, most = recipes[0].objective.layers[0], DEFAULT_SLOTS[device.partition(":")[0]]
    others = (
        replace(recipes[0], objective=1 * featviz.Channel(layer, channel))
        for channel in range(network.layer(layer).channels)
    )
    asked = {recipe.digest for recipe in recipes}
    return [each for each in others if each.digest not in asked][: max(0, most - len(recipes))]


def _row(judge: Judge, turn: Turn) -> dict[str, Any]:
    target = turn.target
    row: dict[str, Any] = {**asdict(target), "size": str(turn.size)}
    row |= {"px_ours": turn.ours.presented_px, "interleaved": turn.is_interleaved}
    for side, rendered in (("ours", turn.ours), ("peer", turn.theirs)):
        found = {name: getattr(rendered, name) for name in COSTS}
        found |= judge.scores(target.layer, target.channel, rendered.picture, rendered.presented_px)
        row |= {f"{name}_{side}": value for name, value in found.items()}
    if turn.rungs:
        scores = [
            judge.score(target.layer, target.channel, each.picture, each.presented_px)
            for each in turn.rungs
        ]
        tried = [*zip(turn.rungs, scores, strict=True), (turn.ours, row["score_ours"])]
        row |= until_equal(tried, row["score_peer"])
    return row


def until_equal(tried: Iterable[tuple[Rendered, float]], score: float) -> dict[str, Any]:
    """What ours cost with the fewest passes that score no less; with the most, where none does."""
    ordered = sorted(tried, key=lambda each: each[0].passes)
    reached = [rendered for rendered, mine in ordered if mine >= score]
    chosen = reached[0] if reached else ordered[-1][0]
    costs = {f"{name}_until_equal": getattr(chosen, name) for name in COSTS}
    return costs | {"is_equal": bool(reached)}


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over units; how often ours is higher; the peer's CPU seconds by ours."""
    if not rows:
        return {"units": 0}
    summary: dict[str, Any] = {"units": len(rows)}
    for name in (*SCORES, "rank", *COSTS):
        pairs = [(row[f"{name}_ours"], row[f"{name}_peer"]) for row in rows]
        summary[f"{name}_ours"] = statistics.median(ours for ours, _ in pairs)
        summary[f"{name}_peer"] = statistics.median(peer for _, peer in pairs)
        if name in SCORES:
            ratios = [ours / peer for ours, peer in pairs if peer > 0]
            summary[f"{name}_ratio"] = statistics.median(ratios) if ratios else None
            summary[f"{name}_higher"] = sum(ours > peer for ours, peer in pairs)
    spent = {side: sum(row[f"cpu_s_{side}"] for row in rows) for side in ("ours", "peer")}
    summary["cpu_s_peer_by_ours"] = spent["peer"] / spent["ours"]
    if all("is_equal" in row for row in rows):
        until = {name: [row[f"{name}_until_equal"] for row in rows] for name in COSTS}
        summary["equal"] = sum(row["is_equal"] for row in rows)
        summary["passes_until_equal"] = statistics.median(until["passes"])
        summary["cpu_s_peer_by_ours_until_equal"] = spent["peer"] / sum(until["cpu_s"])
    return summary


def _print(rows: Sequence[dict[str, Any]], summary: Mapping[str, dict[str, Any]]) -> None:
    columns = ("score", "score_native", "held_out", "held_out_native", "rank", "cpu_s")
    print(f"{'ours | peer':<34}" + "".join(f"{name:>21}" for name in columns))
    named = [(f"{r['network'][:10]} {r['layer']}:{r['channel']} {r['px_ours']}", r) for r in rows]
    named += [(f"median, {name} ({s['units']})", s) for name, s in summary.items() if s["units"]]
    for name, row in named:
        cells = (f"{row[f'{c}_ours']:11.4g} |{row[f'{c}_peer']:8.4g}" for c in columns)
        print(f"{name:<34}" + "".join(cells))
    for name, each in summary.items():
        for score in SCORES if each["units"] else ():
            ratio = each[f"{score}_ratio"]  # None where the peer woke no unit
            times = "" if ratio is None else f", {ratio:.3g} times in the median"
            higher = f"{each[f'{score}_higher']} of {each['units']}"
            print(f"{name}, {score}: ours higher in {higher}{times}")
        if each["units"]:
            print(f"{name}: the peer's CPU seconds by ours {each['cpu_s_peer_by_ours']:.3g}")
        if "equal" in each:
            ratio = each["cpu_s_peer_by_ours_until_equal"]
            print(
                f"{name}: {ratio:.3g} with {each['passes_until_equal']:g} passes, the fewest that "
                f"score no less; {each['equal']} of {each['units']} units do"
            )


if __name__ == "__main__":
    main()
