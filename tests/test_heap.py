"""While a batch is in work, freed memory stays with the process; afterwards it does not."""

import json
import os
import subprocess
import sys

import pytest

from featviz.engine import heap
from featviz.engine.heap import kept_heap

MIB = 2**20
LARGE = 96  # above what glibc ever takes from its heap by itself: 32 MiB

FRESH = """
import json, re
from pathlib import Path
import torch
from featviz.engine.heap import kept_heap

def resident_mib():
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\\s+(\\d+)", status)[1]) / 1024

def stays_mib(share=1.0):
    before = resident_mib()
    values = torch.ones(int(share * {size}))
    del values
    return resident_mib() - before

stays_mib()
start = resident_mib()
found = dict(before=stays_mib())
with kept_heap():
    found.update(first=stays_mib(), second=stays_mib(0.75))
found.update(kept=resident_mib() - start, after=stays_mib())
try:
    with kept_heap():
        stays_mib()
        raise KeyError
except KeyError:
    found.update(failed=resident_mib() - start)
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(heap._glibc() is None, reason="the C library is not glibc")
def test_freed_memory_is_kept_inside_and_given_back_outside() -> None:
    """In a process of its own, whose heap nothing else has grown."""
    script = FRESH.format(size=LARGE * MIB // 4)
    plain = {name: word for name, word in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, env=plain, capture_output=True, check=True)
    found = json.loads(answer.stdout)
    assert found["first"] > 0.9 * LARGE
    assert found["second"] < LARGE / 4  # taken from what was kept
    for name in ("before", "kept", "after", "failed"):
        assert found[name] < LARGE / 4, name


@pytest.mark.parametrize("refusal", [ValueError, AttributeError, None])
def test_another_c_library_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, refusal: type[Exception] | None
) -> None:
    def confstr(_: str) -> None:
        if refusal is not None:
            raise refusal

    monkeypatch.setattr(os, "confstr", confstr)
    heap._glibc.cache_clear()
    try:
        assert heap._glibc() is None
        with kept_heap():
            pass
    finally:
        heap._glibc.cache_clear()


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_has_set_up_is_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    heap._glibc.cache_clear()
    try:
        assert heap._glibc() is None
    finally:
        heap._glibc.cache_clear()
