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
from featviz.engine.ascent import Ascent
from featviz.engine.batch import program, shown_to, working_dtype
from featviz.engine.execution import DTYPES, check_device
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import reproducible
from featviz.engine.seen import see
from featviz.engine.slots import optimize_batch
from featviz.engine.start import starting_parameters
from featviz.network.network import Network
from featviz.network.recording import Prefix

LAYERS = {"early": "blocks.1", "middle": "blocks.3", "late": "blocks.5"}
WARM_UP = 3
REDIRECTED = Recipe.redirected_steps
COLUMNS = {
    "place": "{:>7}",
    "layer": "{:>9}",
    "size_px": "{:>8}",
    "slots": "{:>6}",
    "ms_per_picture_step": "{:>20.2f}",
    "ms_redirected": "{:>14.2f}",
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
        default_recipe(
            network, featviz.Channel(layer, index), size=size, steps=REDIRECTED + 1 + steps
        )
        for index in range(slots)
    ]
    restart_peak_memory(network.device)
    step_s, redirected_s = _step_seconds(network, recipes)
    peak = peak_memory_mib(network.device)
    rows, columns = recipes[0].transforms.output_size(size, size)
    prefix = Prefix(network, [layer], rows=rows, columns=columns)
    with reproducible():
        outside_s = _outside_seconds(network, recipes, prefix)
    mac = forward_mac(network, prefix, rows, columns)
    picture_s = step_s * (Recipe.steps - REDIRECTED) + redirected_s * REDIRECTED
    return {
        "layer": layer,
        "size_px": size,
        "slots": slots,
        "ms_per_picture_step": 1e3 * step_s / slots,
        "ms_redirected": 1e3 * redirected_s / slots,
        "pictures_per_s": slots / picture_s,
        "steps_per_picture": Recipe.steps,
        "forward_mmac": mac / 1e6,
        "outside_network": outside_s / step_s,
        "flop_per_s": 4 * mac * slots / step_s,  # backward to the input costs one more forward
        "peak_mib": peak,
    }


def _step_seconds(network: Network, recipes: Sequence[Recipe]) -> tuple[float, float]:
    """Median seconds of a step, and of one of the first, whose gradients are redirected."""
    times: list[float] = []

    def tick(_: int) -> None:
        synchronize(network.device)
        times.append(time.perf_counter())

    with reproducible():
        optimize_batch(network, recipes, on_step=tick)
    gaps = [after - before for before, after in pairwise(times)]
    redirected = gaps[WARM_UP - 1 : REDIRECTED - 1]
    return statistics.median(gaps[REDIRECTED:]), statistics.median(redirected)


def _outside_seconds(network: Network, recipes: Sequence[Recipe], prefix: Prefix) -> float:
    """Median seconds of a step's other work: decode, draws, transforms, objective, update.

    The network's part is left out: its input gets a made-up gradient, its output is recorded once.
    """
    recipe, dtype = recipes[0], working_dtype(network)
    seeds = torch.arange(len(recipes), device=network.device)
    parameters = torch.cat(
        [starting_parameters(r, seeds[:1], dtype=dtype) for r in recipes]
    ).requires_grad_()
    images = recipe.parameterization.decode(parameters).detach()
    with torch.no_grad():
        recorded = prefix(shown_to(network, recipe, images, seeds, torch.zeros_like(seeds)))
    maps = {key: value.clone().requires_grad_() for key, value in recorded.items()}
    objective = program(recipes, prefix, like=images)
    ascent = Ascent(recipe.optimizer, parameters.detach(), steps=recipe.steps)
    everyone = torch.ones_like(seeds, dtype=torch.bool)

    def others() -> None:
        images = recipe.parameterization.decode(parameters)
        shown = shown_to(network, recipe, images, seeds, torch.ones_like(seeds))
        (gradient,) = torch.autograd.grad(shown, parameters, torch.ones_like(shown))
        values = objective(see(maps, prefix.layers, images.detach()))
        torch.autograd.grad(values.sum(), list(maps.values()))
        ascent.step(parameters.detach(), gradient, numbers=torch.ones_like(seeds), moves=everyone)

    return statistics.median(
        [seconds(others, network.device) for _ in range(WARM_UP + 12)][WARM_UP:]
    )


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
