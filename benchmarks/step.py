"""How long a step of the batched loop takes, by layer and batch, and how much of it is network.

scripts/bench [--device cpu] [--sizes 128] [--slots 1 4 16] [--out FILE.json]
"""

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import featviz
from benchmarks.machine import (
    matrix_rate,
    peak_memory_mib,
    restart_peak_memory,
    seconds,
    synchronize,
    write_result,
)
from featviz.engine.batch import optimize_batch
from featviz.engine.execution import DTYPES, check_device
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import reproducible
from featviz.network.network import Network
from featviz.network.recording import Prefix

LAYERS = {"early": "blocks.1", "middle": "blocks.3", "late": "blocks.5"}
WARM_UP = 3
COLUMNS = {
    "place": "{:>7}",
    "layer": "{:>9}",
    "size_px": "{:>8}",
    "slots": "{:>6}",
    "ms_per_picture_step": "{:>20.2f}",
    "pictures_per_s": "{:>15.4f}",
    "forward_mmac": "{:>13.1f}",
    "outside_network": "{:>16.1%}",
    "of_matrix_rate": "{:>15.1%}",
    "peak_mib": "{:>9.0f}",
}


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each row")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/step-DATE-DEVICE.json]")
    options = parser.parse_args()
    device, dtype = check_device(options.device), DTYPES[options.dtype]
    network = featviz.load(options.network).at(device, dtype)
    rate = matrix_rate(device, dtype)
    print(f"matrix product: {rate / 1e9:,.0f} GFLOP/s ({options.dtype})")
    print(" ".join(_width(form).format(name) for name, form in COLUMNS.items()))
    rows = []
    for place, layer in LAYERS.items():
        for size in options.sizes:
            for slots in options.slots:
                row = measure(network, layer, size=size, slots=slots, steps=options.steps)
                row = {"place": place, **row, "of_matrix_rate": row["flop_per_s"] / rate}
                print(" ".join(form.format(row[name]) for name, form in COLUMNS.items()))
                rows.append(row)
    write(options, device, rate, rows)


def measure(network: Network, layer: str, *, size: int, slots: int, steps: int) -> dict[str, Any]:
    """One row of the table: medians over the timed steps."""
    recipes = [
        default_recipe(network, featviz.Channel(layer, index), size=size, steps=steps + WARM_UP)
        for index in range(slots)
    ]
    restart_peak_memory(network.device)
    step_s = _step_seconds(network, recipes)
    peak = peak_memory_mib(network.device)
    network_s, mac = _network_seconds(network, recipes[0], slots)
    steps_per_picture = Recipe.steps
    return {
        "layer": layer,
        "size_px": size,
        "slots": slots,
        "ms_per_picture_step": 1e3 * step_s / slots,
        "pictures_per_s": slots / (step_s * steps_per_picture),
        "steps_per_picture": steps_per_picture,
        "forward_mmac": mac / 1e6,
        "outside_network": max(0.0, 1 - network_s / step_s),
        "flop_per_s": 4 * mac * slots / step_s,  # backward to the input costs one more forward
        "peak_mib": peak,
    }


def _step_seconds(network: Network, recipes: Sequence[Recipe]) -> float:
    times: list[float] = []

    def tick() -> None:
        synchronize(network.device)
        times.append(time.perf_counter())

    with reproducible():
        optimize_batch(network, recipes, on_step=tick)
    gaps = [after - before for before, after in pairwise(times)]
    return statistics.median(gaps[WARM_UP - 1 :])


def _network_seconds(network: Network, recipe: Recipe, slots: int) -> tuple[float, int]:
    """Median seconds of the prefix, forward and backward to its input; its multiply-adds."""
    rows, columns = recipe.transforms.output_size(recipe.shape.rows, recipe.shape.columns)
    prefix = Prefix(network, recipe.objective.layers, rows=rows, columns=columns)
    shape = (slots, recipe.shape.channels, rows, columns)
    shown = network.to_input(torch.rand(shape, device=network.device))
    seen = shown.contiguous(memory_format=torch.channels_last).requires_grad_()
    (layer,) = recipe.objective.layers
    value = prefix(seen)[layer]
    gradient = torch.ones_like(value)

    def both() -> None:
        torch.autograd.grad(prefix(seen)[layer], seen, gradient)

    with reproducible():
        times = [seconds(both, network.device) for _ in range(WARM_UP + 7)][WARM_UP:]
    return statistics.median(times), forward_mac(network, prefix, rows, columns)


def forward_mac(network: Network, prefix: Prefix, rows: int, columns: int) -> int:
    """Multiply-adds of a prefix for one picture: its convolutions and linear layers."""
    weights = dict(network.module.named_parameters())
    total = 0
    for operation in network.trace(rows, columns).operations[: prefix.depth + 1]:
        for name in operation.parameters:
            weight = weights[name]
            if operation.name in ("conv2d", "linear") and weight.ndim > 1:
                total += math.prod(operation.shape) * math.prod(weight.shape[1:])
    return total


def write(
    options: argparse.Namespace, device: torch.device, rate: float, rows: list[dict[str, Any]]
) -> None:
    """The result file."""
    settings = {
        "network": options.network,
        "dtype": options.dtype,
        "timed_steps": options.steps,
        "matrix_flop_per_s": rate,
    }
    content = {"settings": settings, "rows": rows}
    write_result("step", device, content, out=options.out, suffix=f"-{device.type}")


def _width(form: str) -> str:
    return "{:>" + form[3:].split(".")[0].rstrip("}") + "}"


if __name__ == "__main__":
    main()
