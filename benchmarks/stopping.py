"""How long a build goes on after Ctrl-C or SIGTERM.

python -m benchmarks.stopping [--config configs/early-vision.toml] [--store FOLDER] [--out FILE]

Builds of stores of their own are told to stop while they render, and while they measure the
evidence of the pictures of --store, which is not changed: seconds until the process has ended.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import line, write_result

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Prints a line a stop, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/early-vision.toml"))
    parser.add_argument("--store", type=Path, help="[atlases/NAME of the config]")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/stopping-DATE.json]")
    options = parser.parse_args()
    made = options.store or Path("atlases") / options.config.stem
    rows: list[dict[str, Any]] = []
    for work, source in (("rendering", None), ("measuring", made)):
        for number in SIGNALS:
            found = stopped(options.config, number, source)
            rows.append({"signal": number.name, "while": work, **found})
            print(line(rows[-1]), flush=True)
    content = {"settings": {"config": options.config.name}, "rows": rows}
    write_result("stopping", torch.device("cpu"), content, out=options.out)


def stopped(config: Path, number: signal.Signals, source: Path | None) -> dict[str, Any]:
    """Seconds from a signal to the end of a build, sent once the first file is there; exit code.

    Of a store without pictures, or of a copy of `source` without its evidence. No seconds where
    the build has ended by itself.
    """
    with tempfile.TemporaryDirectory(prefix="featviz-stop-") as place:
        folder = Path(place) / "store"
        waited = "records"
        if source is not None:
            waited = "evidence"
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns(waited, "site"))
        command = [sys.executable, "-m", "featviz", "atlas", str(config), "--out", str(folder)]
        # A shell's background jobs ignore SIGINT, and so would their children.
        heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=heeds) as build:
            while not any((folder / waited).glob("*/*.json")) and build.poll() is None:
                time.sleep(0.1)
            if build.poll() is not None:
                return {"stop_s": None, "exit_code": build.returncode}
            start = time.perf_counter()
            build.send_signal(number)
            code = build.wait()
            return {"stop_s": time.perf_counter() - start, "exit_code": code}


if __name__ == "__main__":
    main()
