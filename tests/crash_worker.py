"""Builds that are killed, or run two at once, in processes forked from one that has all loaded.

    python crash_worker.py kill FOLDER SEED     20 builds killed, then a whole one
    python crash_worker.py pair FOLDER          two builds of one store at the same time

They are killed at random moments, every fifth after one more picture was made. Prints what happened
as JSON. Run by test_crash.py.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from featviz.atlas.build import build
from featviz.atlas.check import check
from featviz.atlas.config import AtlasConfig
from featviz.atlas.store import Store
from featviz.network.zoo import load

KILLS, UNITS = 20, 24
CONFIG = AtlasConfig(network="planted", units=[f"curve:0-{UNITS - 1}"], size=32, steps=24, slots=4)


class Silent:
    """Takes no notice."""

    def advance(self, pictures: float) -> None: ...

    def finished(self, layer: str, *, is_good: bool) -> None: ...


@contextmanager
def silent(what: str, pictures: int) -> Iterator[Silent]:
    yield Silent()


def forked(folder: Path) -> int:
    """The process that builds into the folder and leaves with the number of pictures it made."""
    process = os.fork()
    if process == 0:
        os._exit(build(CONFIG, Store.at(folder), progress=silent).rendered)
    return process


def pictures(folder: Path) -> int:
    """How many whole files of pictures there are."""
    found = (folder / "pictures").rglob("*.png")
    return sum(not path.name.startswith(".") for path in found)


def killed(folder: Path, seed: int) -> dict[str, Any]:
    numbers = random.Random(seed)
    start = time.monotonic()
    process = forked(folder / "whole")
    while not any((folder / "whole").glob("claims/*")):
        time.sleep(0.002)
    begins_s = time.monotonic() - start
    whole = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    works_s = time.monotonic() - start - begins_s
    broken = folder / "broken"
    kept, damages = [], []
    for number in range(KILLS):
        there = pictures(broken)
        process = forked(broken)
        if number % 5 == 4 and there < UNITS:  # however slow the machine has become
            while pictures(broken) == there:
                time.sleep(0.002)
            time.sleep(numbers.uniform(0, works_s * 0.1))
        else:
            time.sleep(numbers.uniform(begins_s / 2, begins_s + works_s * 0.4))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        if (broken / "atlas.json").exists():
            found = check(Store.at(broken))
            kept.append(found.whole)
            damages += [str(each) for each in found.damages]
    last = os.waitstatus_to_exitcode(os.waitpid(forked(broken), 0)[1])
    found = check(Store.at(broken))
    damages += [str(each) for each in found.damages]
    # What was not finished may be left; pictures, records and claims are all accounted for.
    damages += [name for name in found.leftovers if "/." not in name]
    return {"whole": whole, "kept": kept, "last": last, "damages": damages}


def pair(folder: Path) -> dict[str, Any]:
    processes = [forked(folder) for _ in range(2)]
    made = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in processes]
    found = check(Store.at(folder))
    return {"made": made, "whole": found.whole, "damages": [str(each) for each in found.damages]}


def main() -> None:
    torch.set_num_threads(1)  # a fork has no threads but its own
    load("planted")
    what, folder, *rest = sys.argv[1:]
    found = killed(Path(folder), int(rest[0])) if what == "kill" else pair(Path(folder))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
