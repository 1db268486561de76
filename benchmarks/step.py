"""How long a step of the batched loop takes, what its time goes into, how far the limits are.

    scripts/bench [--device cpu] [--dtype float32 bfloat16] [--sizes 128] [--slots 1 4 16]
        [--out FILE]

Steps are the engine's, measured as they run. What their time goes into is told by their parts, each
timed on its own (see `parts`): shares of the time, and what all but the network takes of it
(`outside_network`) and of the cores (`core_ms_outside`, per picture and step).
"""

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

import featviz
from benchmarks.machine import (
    copy_rate,
    matrix_rate,
    peak_memory_mib,
    restart_peak_memory,
    synchronize,
    write_result,
)
from benchmarks.parts import PARTS, WARM_UP, part_costs, shares
from featviz.engine.accelerated import accelerated
from featviz.engine.batch import working_dtype
from featviz.engine.execution import DTYPES, PRODUCTS, as_executed, check_device
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import reproducible
from featviz.engine.slots import stream
from featviz.network.network import Network
from featviz.network.recording import Prefix

LAYERS = {"early": "blocks.1", "middle": "blocks.3", "late": "blocks.5"}
REDIRECTED = Recipe.redirected_steps
COLUMNS = {
    "place": "{:>7}",
    "layer": "{:>11}",
    "dtype": "{:>17}",
    "size_px": "{:>8}",
    "slots": "{:>6}",
    "ms_per_picture_step": "{:>20.2f}",
    "ms_redirected": "{:>14.2f}",
    "pictures_per_s": "{:>15.4f}",
    "outside_network": "{:>16.1%}",
    "core_ms_outside": "{:>16.2f}",
    "of_matrix_rate": "{:>15.1%}",
    "of_copy_rate": "{:>13.1%}",
    "peak_mib": "{:>9.0f}",
    **{f"share_{part}": "{:>10.1%}" for part in (*PARTS, "rest")},
}


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--layers", nargs="+", help="[three of the default network]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=list(DTYPES))
    parser.add_argument("--sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--steps", type=int, default=12, help="timed steps of each row")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/step-DATE-DEVICE.json]")
    options = parser.parse_args()
    device = check_device(options.device)
    original = featviz.load(options.network, weights=options.weights)
    places = {str(n): layer for n, layer in enumerate(options.layers)} if options.layers else LAYERS
    bytes_per_s = copy_rate(device)
    rates = {dtype: matrix_rate(device, _of_products(dtype)) for dtype in options.dtype}
    print(f"copy: {bytes_per_s / 1e9:,.0f} GB/s")
    for dtype, rate in rates.items():
        print(f"matrix product: {rate / 1e9:,.0f} GFLOP/s ({dtype})")
    print(
        " ".join(_width(form).format(name.removeprefix("share_")) for name, form in COLUMNS.items())
    )
    networks = {dtype: as_executed(original, options.device, dtype) for dtype in rates}
    cases = product(places.items(), options.sizes, options.slots, networks.items())
    rows = []
    for (place, layer), size, slots, (dtype, network) in cases:
        row = measure(network, layer, size=size, slots=slots, steps=options.steps)
        limits = {"matrix_flop_per_s": rates[dtype], "copy_bytes_per_s": bytes_per_s}
        row = {"place": place, "dtype": dtype, **row, **of_limits(row, limits)}
        print(" ".join(form.format(row[name]) for name, form in COLUMNS.items()))
        rows.append(row)
    rate, options.dtype = rates[options.dtype[0]], ", ".join(rates)
    write(options, device, rate, rows)


def _of_products(dtype: str) -> torch.dtype:
    return torch.bfloat16 if dtype == PRODUCTS else DTYPES[dtype]


def measure(network: Network, layer: str, *, size: int, slots: int, steps: int) -> dict[str, Any]:
    """One row of the table: medians over the timed steps, and over repeats of each part."""
    channels = network.layer(layer).channels
    recipes = [
        default_recipe(
            network,
            featviz.Channel(layer, index % channels),
            size=size,
            steps=REDIRECTED + WARM_UP + steps,
        )
        for index in range(slots)
    ]
    restart_peak_memory(network.device)
    step_s, redirected_s = _step_seconds(network, recipes)
    peak = peak_memory_mib(network.device)
    rows, columns = recipes[0].transforms.output_size(size, size)
    prefix = Prefix(network, [layer], rows=rows, columns=columns)
    with reproducible():
        costs = part_costs(network, recipes, prefix)
    mac = forward_mac(network, prefix, rows, columns)
    picture_s = step_s * (Recipe.steps - REDIRECTED) + redirected_s * REDIRECTED
    return {
        "layer": layer,
        "device": network.device.type,
        "size_px": size,
        "slots": slots,
        "ms_per_picture_step": 1e3 * step_s / slots,
        "picture_steps_per_s": slots / step_s,
        "ms_redirected": 1e3 * redirected_s / slots,
        "pictures_per_s": slots / picture_s,
        "steps_per_picture": Recipe.steps,
        "forward_mmac": mac / 1e6,
        "outside_network": costs["outside"].wall_s / costs["step"].wall_s,
        "core_ms_outside": 1e3 * costs["outside"].core_s / slots,
        **{f"share_{part}": share for part, share in shares(costs).items()},
        "flop_per_s": 4 * mac * slots / step_s,  # backward to the input costs one more forward
        "bytes_per_s": moved_bytes(network, prefix, slots, rows, columns) / step_s,
        "peak_mib": peak,
    }


def of_limits(row: Mapping[str, Any], limits: Mapping[str, float]) -> dict[str, float]:
    """A row's rates beside the machine's."""
    return {
        **limits,
        "of_matrix_rate": row["flop_per_s"] / limits["matrix_flop_per_s"],
        "of_copy_rate": row["bytes_per_s"] / limits["copy_bytes_per_s"],
    }


def _step_seconds(network: Network, recipes: Sequence[Recipe]) -> tuple[float, float]:
    """Seconds of a step, and of one of the first, whose gradients are redirected.

    Medians on CPU. On CUDA means between two looks, as the host waits for no single step.
    """
    is_queued, times = network.device.type == "cuda", list[float]()
    plain = REDIRECTED + WARM_UP - 1, recipes[0].steps - 1
    first = min(WARM_UP, REDIRECTED - 1) - 1, REDIRECTED - 1

    def tick(_: int) -> None:
        if not is_queued or len(times) in (*plain, *first):
            synchronize(network.device)
        times.append(time.perf_counter())

    def typical(start: int, end: int) -> float:
        if is_queued:
            return (times[end] - times[start]) / (end - start)
        return statistics.median(times[n + 1] - times[n] for n in range(start, end))

    with reproducible():
        for _ in stream(network, enumerate(recipes), len(recipes), on_step=tick):
            pass
    return typical(*plain), typical(*first)


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


def moved_bytes(network: Network, prefix: Prefix, slots: int, rows: int, columns: int) -> int:
    """Bytes that a step cannot but move, if operations are run one by one.

    The weights read forward and backward; the pictures, the results of the operations and the
    gradients of all of them written and read once. What is accelerated away is not counted.
    """
    weights = dict(network.module.named_parameters())
    rewrites = accelerated(network, rows, columns).rewrites
    operations = network.trace(rows, columns).operations[: prefix.depth + 1]
    read = {name for each in operations for name in each.parameters}
    size = torch.empty((), dtype=network.dtype).element_size()
    results = sum(
        math.prod(each.shape)
        for each in operations
        if each.inputs and rewrites.get((each.index, each.name), each) is not None
    )
    picture = network.preprocessing.channels * rows * columns * working_dtype(network).itemsize
    return 2 * sum(weights[name].nbytes for name in read) + 4 * slots * (picture + size * results)


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
