"""A peer as it is released, rendering units of our networks: its own packages, a process a unit.

`Peer` installs it into a folder of its own and keeps what it rendered. Run as a program, this
file is the worker: it lives in that folder's environment, with the same torch as ours.

    python -m benchmarks.peer --tool NAME --network NAME --layer L --channel N --picture FILE ...
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import featviz
from benchmarks.peer_tools import TOOLS, Task
from featviz.network.network import Network
from featviz.network.recording import record

REPOSITORY = Path(__file__).resolve().parents[1]
VARIANTS = ("default", "frozen")
"""Weights that collect gradients, as they are after loading, or `requires_grad_(False)`."""
CHECKED_PX = 224


@dataclass(frozen=True)
class Target:
    """A unit that both sides are asked for."""

    network: str
    layer: str
    channel: int

    @property
    def file_name(self) -> str:
        return f"{self.network}-{self.layer}-{self.channel}.png"


@dataclass(frozen=True)
class Rendered:
    """A picture in a file and what it cost; a pass is one image through the network.

    `presented_px`: the side at which its maker shows the network a picture of that size.
    """

    picture: Path
    cpu_s: float
    wall_s: float
    passes: int
    presented_px: int


@dataclass(frozen=True)
class Peer:
    """A tool in `folder`: its packages, and the pictures and costs of earlier runs.

    What is kept counts for the same settings only: variant, steps, size, seed and threads, and
    the name of the weights file.
    """

    tool: str
    folder: Path
    weights: Mapping[str, str]
    steps: int
    variant: str = "default"
    size: int = 128
    seed: int = 0
    threads: int = 1
    device: str = "cpu"

    def install(self) -> None:
        """Puts the tool and its needs into its folder, where they are not yet."""
        if not self._site.is_dir():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
            tool = TOOLS[self.tool]
            subprocess.run([*pip, str(self._site), tool.release, *tool.needs], check=True)

    def collect(self, targets: Iterable[Target]) -> None:
        """Renders what is not there yet, in order; safe to interrupt."""
        self.install()
        known = self.known()
        for target in targets:
            if target not in known:
                row = self._run(target)
                with self._rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{self.tool}, {target}: {row['cpu_s']:.1f} CPU s", flush=True)

    def known(self) -> dict[Target, Rendered]:
        """What was rendered with these settings."""
        if not self._rows.is_file():
            return {}
        lines = self._rows.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return {
            Target(row["network"], row["layer"], row["channel"]): Rendered(
                picture=self.folder / row["picture"],
                cpu_s=row["cpu_s"],
                wall_s=row["wall_s"],
                passes=row["passes"],
                presented_px=max(self.size, TOOLS[self.tool].shown_px or 0),
            )
            for row in rows
            if row["settings"] == self._settings(row["network"])
        }

    @property
    def _site(self) -> Path:
        return self.folder / f"site-{self.tool}"

    @property
    def _rows(self) -> Path:
        return self.folder / f"{self.tool}.jsonl"

    def _settings(self, network: str) -> dict[str, Any]:
        settings = {name: getattr(self, name) for name in ("variant", "steps", "size", "seed")}
        weights = Path(self.weights.get(network, "")).name
        place = {} if self.device == "cpu" else {"device": self.device}
        return {**settings, "threads": self.threads, "weights": weights, **place}

    def _run(self, target: Target) -> dict[str, Any]:
        settings = self._settings(target.network)
        kind = "-".join(str(value) for name, value in settings.items() if name != "weights")
        picture = Path(self.tool) / kind / target.file_name
        (self.folder / picture).parent.mkdir(parents=True, exist_ok=True)
        wanted = {
            "tool": self.tool,
            **asdict(target),
            **{name: settings[name] for name in ("variant", "steps", "size", "seed")},
            "weights": self.weights[target.network],
            "device": self.device,
            "picture": (self.folder / picture).resolve(),
        }
        words = [word for name, value in wanted.items() for word in (f"--{name}", str(value))]
        found = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        places = os.pathsep.join((str(self._site.resolve()), str(REPOSITORY), *found))
        threads = {f"{name}_NUM_THREADS": str(self.threads) for name in ("OMP", "MKL")}
        answer = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.peer", *words],
            cwd=REPOSITORY,
            env={**os.environ, **threads, "PYTHONPATH": places},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        measured = json.loads(answer.stdout.splitlines()[-1])
        return {**asdict(target), **measured, "picture": str(picture), "settings": settings}


class Presented(nn.Module):
    """A network for pictures in [0, 1]: its own preprocessing first, then the module."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.module = network.module
        self.network = network
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.passes += len(images)
        return self.module(self.network.to_input(images))


def main() -> None:
    """The worker: renders one unit, saves the picture, prints what it cost as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tool", choices=TOOLS, required=True)
    for name in ("network", "weights", "layer", "device"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--variant", choices=VARIANTS, required=True)
    for name in ("channel", "steps", "size", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    network = featviz.load(options.network, weights=options.weights)
    check_read_point(network, options.layer)
    network = network.at(options.device, torch.float32)
    presented = Presented(network).eval()
    presented.requires_grad_(options.variant == "default")
    tool = TOOLS[options.tool]
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002 -- what peers draw their transforms from
    random.seed(options.seed)
    task = Task(presented, options.layer, options.channel, options.size, options.steps)
    import_module(tool.package)
    wall, cpu = time.perf_counter(), time.process_time()
    picture = tool.render(task)
    spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    Image.fromarray(picture).save(options.picture)
    about = {"versions": {"torch": torch.__version__, "release": tool.release}}
    about["threads_used"] = torch.get_num_threads()
    print(json.dumps({**spent, "passes": presented.passes, **about}))


def check_read_point(network: Network, layer: str) -> None:
    """Raises AssertionError where what a peer's hook holds after a pass is not our read point.

    Peers keep what the module of that name returned, without a copy.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((1, 3, CHECKED_PX, CHECKED_PX), generator=generator)
    held: list[Any] = []
    hook = network.module.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: held.append(output)
    )
    with torch.no_grad(), record(network, [layer]) as recorded:
        network(images)
    hook.remove()
    torch.testing.assert_close(held[-1], recorded[layer], rtol=0, atol=0)  # the same tensor


if __name__ == "__main__":
    main()
