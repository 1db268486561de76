"""How long every unit of a network takes: by default GoogLeNet's stem and inception blocks.

    scripts/bench everything [--weights FILE.npz] [--device cuda] [--dtype bfloat16] [--size 128]
        [--slots N] [--units N] [--steps N] [--out FILE.json]

With a weights file `googlenet_bvlc`, without one torchvision's architecture with random weights,
which tells the throughput only. The clock starts when the network is loaded and on its device;
plans, captures and 8-bit pictures are in it, writing files is not. `--units`: that many, evenly
spaced; `projected_s` is then what all of them would take: sizes and slots found once
(`planned_s`), the rest at the same seconds a unit.
"""

import argparse
import importlib
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

import featviz
from benchmarks.machine import (
    line,
    peak_memory_mib,
    restart_peak_memory,
    synchronize,
    write_result,
)
from featviz.engine.execution import DTYPES, Execution, as_executed, check_device, execution
from featviz.engine.picture import Picture
from featviz.engine.presets import PRESETS, adjusted
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import default_slots, fitting_slots, render_each
from featviz.network.network import Network

BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
LAYERS = {
    "googlenet_bvlc": ("conv1", "conv2r", "conv2", *(f"inc{block}" for block in BLOCKS)),
    "torchvision:googlenet": ("conv1", "conv2", "conv3", *(f"inception{b}" for b in BLOCKS)),
}
SAMPLE_S = 0.2
"""Seconds between looks at how busy the GPU is."""

T = TypeVar("T")


def main() -> None:
    """Measures, prints a line a layer and one of the whole, writes the JSON."""
    options = _options()
    is_random = options.weights in ("", "none")
    name = options.network or ("torchvision:googlenet" if is_random else "googlenet_bvlc")
    weights = options.weights or ("none" if name == "torchvision:googlenet" else "default")
    network = featviz.load(name, weights=weights)
    summary, rows = measure(network, options.layers or LAYERS[name], options)
    for row in (*rows, summary):
        print(line(row))
    kept = ("size", "preset", "slots", "units", "dtype")
    settings = {"network": name, "weights": Path(weights).name}
    settings |= {name: getattr(options, name) for name in kept} | {"steps": summary["steps"]}
    content = {"settings": settings, "summary": summary, "rows": rows}
    suffix = f"-{options.device.partition(':')[0]}"
    device = check_device(options.device)
    write_result("everything", device, content, out=options.out, suffix=suffix)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", help="[googlenet_bvlc, or torchvision:googlenet]")
    parser.add_argument("--weights", default="", help='a file, "default" or "none"')
    parser.add_argument("--layers", nargs="+", help="[of a GoogLeNet: see LAYERS]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--size", default="128", help='pixels, or "auto"')
    parser.add_argument("--slots", type=int, help="[the engine's default for the device]")
    parser.add_argument("--units", type=int, help="evenly spaced [all]")
    parser.add_argument("--preset", choices=list(PRESETS), default="default")
    parser.add_argument("--steps", type=int, help="[the preset's]")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/everything-DATE-DEVICE.json]")
    return parser.parse_args()


def measure(
    network: Network, layers: Sequence[str], options: argparse.Namespace
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The whole, and a row for each layer. The network is put on its device before the clock."""
    device = check_device(options.device)
    placed = as_executed(network, options.device, options.dtype)
    everyone = [(layer, n) for layer in layers for n in range(network.layer(layer).channels)]
    synchronize(device)
    restart_peak_memory(device)
    start = time.perf_counter(), time.process_time()
    with gpu_utilization(device) as samples:
        chosen = evenly(everyone, options.units or len(everyone))
        size = options.size if options.size == "auto" else int(options.size)
        wanted = (default_recipe(placed, featviz.Channel(*unit), size=size) for unit in chosen)
        recipes = [adjusted(each, preset=options.preset, steps=options.steps) for each in wanted]
        how = _execution(placed, recipes, options)
        planned_s = time.perf_counter() - start[0]
        by_layer: dict[str, list[Picture]] = {}
        for picture in render_each(placed, recipes, how):
            by_layer.setdefault(picture.recipe.objective.layers[0], []).append(picture)
        synchronize(device)
    wall_s, cpu_s = time.perf_counter() - start[0], time.process_time() - start[1]
    summary = {
        "units": len(recipes),
        "all_units": len(everyone),
        "slots": how.slots,
        "steps": recipes[0].steps,
        "wall_s": wall_s,
        "planned_s": planned_s,
        "projected_s": planned_s + (wall_s - planned_s) / len(recipes) * len(everyone),
        "wall_s_per_unit": wall_s / len(recipes),
        "cpu_s_per_unit": cpu_s / len(recipes),
        "units_per_s": len(recipes) / wall_s,
        "busy_share": statistics.mean(samples) / 100 if samples else None,
        "busy_share_median": statistics.median(samples) / 100 if samples else None,
        "peak_mib": peak_memory_mib(device),
    }
    units = {recipe.digest: unit for recipe, unit in zip(recipes, chosen, strict=True)}
    rows = [_row(layer, by_layer[layer]) for layer in layers if layer in by_layer]
    for row in rows:
        scores = {units[p.recipe.digest][1]: p.score for p in by_layer[row["layer"]]}
        row["channels"] = sorted(scores)
        row["scores"] = [scores[channel] for channel in row["channels"]]
    return summary, rows


def _execution(
    network: Network, recipes: Sequence[Recipe], options: argparse.Namespace
) -> Execution:
    slots = options.slots
    if slots is None:
        most = default_slots(recipes, options.device)
        place = {"device": options.device, "dtype": options.dtype}
        slots = fitting_slots(network, recipes, most, **place)
    return execution(
        slots=slots, device=options.device, dtype=options.dtype, weights=network.weights
    )


def _row(layer: str, pictures: Sequence[Picture]) -> dict[str, Any]:
    return {
        "layer": layer,
        "units": len(pictures),
        "median_score": statistics.median(picture.score for picture in pictures),
        "dead": sum(picture.verdict == "dead" for picture in pictures),
        "steps_per_picture": statistics.mean(picture.steps for picture in pictures),
    }


def evenly(whole: Sequence[T], count: int) -> list[T]:
    """So many of them at equal distances, from the first on; all where there are fewer."""
    count = min(count, len(whole))
    return [whole[number * len(whole) // count] for number in range(count)]


@contextmanager
def gpu_utilization(device: torch.device) -> Iterator[list[int]]:
    """A context in which a list fills with per cents of time that the GPU is busy, as NVML says.

    It stays empty on other devices, and where pynvml is not there or not answered.
    """
    samples: list[int] = []
    if device.type != "cuda" or find_spec("pynvml") is None:
        yield samples
        return
    refusals = (RuntimeError, importlib.import_module("pynvml").NVMLError)
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(SAMPLE_S):
            try:
                samples.append(torch.cuda.utilization(device))
            except refusals:
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


if __name__ == "__main__":
    main()
