"""Builds that are killed at any moment, or run side by side, leave whole pictures and lose none."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crash_worker import CONFIG, KILLS, UNITS

from featviz.atlas.plan import plan
from featviz.network.zoo import load

WORKER = Path(__file__).with_name("crash_worker.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not callable(getattr(os, "fork", None)), reason="no fork here"),
]


def told(*arguments: object) -> dict[str, Any]:
    """What the worker prints."""
    words = [sys.executable, str(WORKER), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=True, timeout=600
    )
    return json.loads(answer.stdout.splitlines()[-1])


def pictures_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for kind in ("pictures", "thumbnails")
        for path in (folder / kind).rglob("*.*")
        if not path.name.startswith(".")
    }


def test_a_build_killed_twenty_times_ends_with_the_bytes_of_an_unbroken_one(
    tmp_path: Path, record_property: Any
) -> None:
    found = told("kill", tmp_path, 7)
    record_property("kept", found["kept"])
    assert found["whole"] == UNITS
    assert found["damages"] == []
    assert found["kept"] == sorted(found["kept"])  # nothing that was finished is lost
    assert len(found["kept"]) > KILLS / 2
    assert max(found["kept"]) > 0
    assert found["last"] == UNITS - found["kept"][-1]
    made, expected = pictures_of(tmp_path / "broken"), pictures_of(tmp_path / "whole")
    assert len(expected) == 2 * UNITS
    assert made == expected


def test_two_builds_of_one_store_share_the_work(tmp_path: Path) -> None:
    found = told("pair", tmp_path)
    assert (found["whole"], found["damages"]) == (UNITS, [])
    assert CONFIG.slots is not None
    assert sum(found["made"]) <= UNITS + 2 * CONFIG.slots
    assert min(found["made"]) > 0
    names = {f"{recipe.digest}-0.png" for recipe in plan(CONFIG, load("planted")).recipes}
    assert {name.rpartition("/")[2] for name in pictures_of(tmp_path) if "png" in name} == names
