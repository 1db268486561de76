"""What time and memory do as units, slots, size and depth grow.

    scripts/bench scaling [--units 64 10 500 2000] [--slots 16 1 4 64] [--sizes 64 128 224]
        [--layers blocks.1 blocks.3 blocks.5] [--steps 2] [--out FILE.json]

One of the four varies at a time; the others stand at the first value given. Each case runs in a
process of its own, so that its peak of memory is its own; `base_mib` is what that process held
before it began, with the network loaded. Pictures are dropped as they come. More units than a
layer has channels are further seeds of the same channels.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import featviz
from benchmarks.machine import (
    line,
    peak_memory_mib,
    restart_peak_memory,
    synchronize,
    write_result,
)
from featviz.engine.execution import DTYPES, as_executed, check_device, execution
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import render_each
from featviz.network.network import Network


@dataclass(frozen=True)
class Case:
    """One configuration. `size`: pixels."""

    units: int
    slots: int
    size: int
    layer: str
    steps: int = 2
    network: str = "efficientnet_lite0"
    device: str = "cpu"
    dtype: str = "float32"


def main() -> None:
    """Measures, prints a line a case, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, nargs="+", default=[64, 10, 500, 2000])
    parser.add_argument("--slots", type=int, nargs="+", default=[16, 1, 4, 64])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 224])
    parser.add_argument("--layers", nargs="+", default=["blocks.1", "blocks.3", "blocks.5"])
    parser.add_argument("--steps", type=int, default=Case.steps)
    parser.add_argument("--network", default=Case.network)
    parser.add_argument("--device", default=Case.device)
    parser.add_argument("--dtype", default=Case.dtype, choices=list(DTYPES))
    parser.add_argument("--case", help="measure this one here, as JSON in and out")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/scaling-DATE-DEVICE.json]")
    options = parser.parse_args()
    if options.case is not None:
        print(json.dumps(measure(Case(**json.loads(options.case)))))
        return
    device, rows, known = check_device(options.device), list[dict[str, Any]](), dict[Case, Any]()
    for grows, case in cases(options):
        known[case] = known.get(case) or measured_apart(case)
        rows.append({"grows": grows, **known[case]})
        print(line(rows[-1]), flush=True)
    settings = {name: getattr(options, name) for name in ("network", "dtype", "steps")}
    content = {"settings": settings, "rows": rows}
    write_result("scaling", device, content, out=options.out, suffix=f"-{device.type}")


def cases(options: argparse.Namespace) -> Iterator[tuple[str, Case]]:
    """What grows, and the case: each axis in ascending order."""
    axes: dict[str, list[Any]] = {
        "units": options.units,
        "slots": options.slots,
        "size": options.sizes,
        "layer": options.layers,
    }
    first = {name: values[0] for name, values in axes.items()}
    kept = {name: getattr(options, name) for name in ("steps", "network", "device", "dtype")}
    for name, values in axes.items():
        for value in values if name == "layer" else sorted(values):
            yield name, replace(Case(**first, **kept), **{name: value})


def measured_apart(case: Case) -> dict[str, Any]:
    """The row of a case, from a process of its own with as many threads as this one."""
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--case", json.dumps(asdict(case))],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def measure(case: Case) -> dict[str, Any]:
    """The row of a case, in this process: planning and rendering, not loading."""
    device = check_device(case.device)
    network = as_executed(featviz.load(case.network), case.device, case.dtype)
    synchronize(device)
    restart_peak_memory(device)
    base_mib = peak_memory_mib(device)
    start = time.perf_counter(), time.process_time()
    how = execution(slots=case.slots, device=case.device, dtype=case.dtype)
    pictures = sum(1 for _ in render_each(network, _recipes(network, case), how))
    synchronize(device)
    wall_s, cpu_s = time.perf_counter() - start[0], time.process_time() - start[1]
    return {
        **asdict(case),
        "pictures": pictures,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "wall_ms_per_picture_step": 1e3 * wall_s / (pictures * case.steps),
        "base_mib": base_mib,
        "peak_mib": peak_memory_mib(device),
    }


def _recipes(network: Network, case: Case) -> list[Recipe]:
    channels = network.layer(case.layer).channels
    settings = {"size": case.size, "steps": case.steps}
    return [
        default_recipe(
            network,
            featviz.Channel(case.layer, number % channels),
            seed=number // channels,
            **settings,
        )
        for number in range(case.units)
    ]


if __name__ == "__main__":
    main()
