"""All that is to be measured on a CUDA device, in one command and one JSON.

    scripts/bench --device cuda [--weights FILE.npz] [--peers FOLDER] [--units N] [--minutes 9]
        [--out FILE.json]

The gpu-marked tests, `step` in float32 and bfloat16, and `everything` in bfloat16 on torchvision's
architecture and, with a weights file, on `googlenet_bvlc`, there with the preset `fast` too. With
`--peers`, a folder for `peers --cache`, Lucent on the same card. Each part is a process of its own;
one that fails or for which there is no time left is said to, and the others go on; the JSON is
written anew after each. Exit code: 2 where there is no CUDA device, 1 where a part failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import write_result
from featviz.engine.recipe import Recipe

RUNG = 32
"""Of our steps, beside the default's, against a peer."""
NETWORK = "googlenet_bvlc"
"""Where Lucent is compared with our rendering of every unit."""
TAIL = 2000
"""Characters of a part's output that are kept."""


def main() -> None:
    """Runs the parts, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--weights", default="", help="of googlenet_bvlc [without]")
    parser.add_argument("--size", default="128", help='of everything: pixels, or "auto"')
    parser.add_argument("--dtype", default="bfloat16", help="of everything")
    parser.add_argument("--slots", type=int, help="of everything [the engine's default]")
    parser.add_argument("--units", type=int, help="of everything, evenly spaced [all]")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="of everything")
    parser.add_argument("--peers", type=Path, help="a folder for what Lucent renders [without]")
    parser.add_argument("--peer-units", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts together")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/cuda-DATE.json]")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(f"no CUDA device: torch {torch.__version__} sees none", file=sys.stderr)
        sys.exit(2)
    end = time.monotonic() + 60 * options.minutes
    kept = ("weights", "size", "dtype", "slots", "units", "steps", "minutes")
    settings = {name: getattr(options, name) for name in kept}
    settings["weights"] = Path(options.weights).name
    rows = []
    for name, words in parts(options).items():
        print(f"== {name}", flush=True)
        rows.append({"part": name, **run(words, end - time.monotonic())})
        if name == "peers":
            rows += by_ours(rows)
        content = {"settings": settings, "rows": rows}
        write_result("cuda", torch.device(options.device), content, out=options.out)
    sys.exit(int(any(row["exit_code"] != 0 for row in rows)))


def parts(options: argparse.Namespace) -> dict[str, list[str]]:
    """The words after `python -m` by the name of the part, in order."""
    place = ["--device", options.device]
    whole = ["benchmarks.everything", *place, "--dtype", options.dtype, "--size", options.size]
    whole += [] if options.units is None else ["--units", str(options.units)]
    whole += [] if options.slots is None else ["--slots", str(options.slots)]
    steps = ["--steps", str(options.steps)]
    step = ["benchmarks.step", *place, "--dtype", "float32", "bfloat16", "--slots", "16", "512"]
    found = {
        "tests": ["pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *gpu_tests()],
        "everything, torchvision:googlenet": [*whole, *steps, "--weights", "none"],
    }
    if options.weights:
        own = ["--weights", options.weights]
        found["everything, googlenet_bvlc"] = [*whole, *steps, *own]
        found["everything, googlenet_bvlc, fast"] = [*whole, *own, "--preset", "fast"]
    if options.peers is not None:
        threads = str(os.cpu_count() or 1)
        peers = ["benchmarks.peers", *place, "--dtype", options.dtype, "--cache", options.peers]
        peers += ["--units", options.peer_units, "--no-auto", "--rungs", RUNG, "--threads", threads]
        found["peers"] = [*map(str, peers), "--weights-googlenet", options.weights]
    found["step"] = step
    if options.weights:
        layers = ["--network", "googlenet_bvlc", "--layers", "inc3a", "inc4c", "inc5b"]
        found["step, googlenet_bvlc"] = [*step, *layers, "--weights", options.weights]
    return found


def by_ours(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lucent's wall and CPU seconds a unit by those of ours in rendering every unit of the same
    network, planning and compiling included: one row, none where either is missing."""
    made = {row["part"]: row["summary"] for row in rows if row.get("benchmark") == "everything"}
    theirs = [row["summary"].get(NETWORK, {}) for row in rows if row.get("benchmark") == "peers"]
    if not made or not theirs or not theirs[0].get("units"):
        return []
    (lucent,) = theirs
    ratios = {
        part: {
            cost: lucent[f"{cost}_peer"] / summary[f"{cost}_per_unit"]
            for cost in ("wall_s", "cpu_s")
        }
        for part, summary in made.items()
        if NETWORK in part
    }
    return [{"part": "lucent by ours", "exit_code": 0, "units": lucent["units"], "by_part": ratios}]


def gpu_tests() -> list[str]:
    """The files that have such tests."""
    files = sorted((Path(__file__).parents[1] / "tests").glob("test_*.py"))
    return [str(file) for file in files if "mark.gpu" in file.read_text("utf-8")]


def run(words: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """One part: its seconds, exit code, and its result file, or its last words where it has none.

    `exit_code` is None where the time ran out.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        writes = words[0].startswith("benchmarks.")
        command = [sys.executable, "-m", *words, *(["--out", str(out)] if writes else [])]
        try:
            answer = subprocess.run(
                command,
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=max(timeout_s, 0.1),
            )
            said, code = answer.stdout, answer.returncode
        except subprocess.TimeoutExpired as late:
            words_so_far = late.stdout or b""
            said = words_so_far if isinstance(words_so_far, str) else words_so_far.decode()
            code = None
        print(said, flush=True)
        result = json.loads(out.read_text("utf-8")) if out.exists() else {"said": said[-TAIL:]}
    return {"exit_code": code, "seconds": time.monotonic() - start, **result}


if __name__ == "__main__":
    main()
