"""While a batch is in work, freed memory stays with the process; afterwards it does not."""

import os
import re
from pathlib import Path

import pytest
import torch

from featviz.engine import heap
from featviz.engine.heap import kept_heap

MIB = 2**20
LARGE = 96  # above what glibc ever takes from its heap by itself: 32 MiB


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024


def freed_stays_mib() -> float:
    """What a large tensor leaves behind."""
    before = resident_mib()
    values = torch.ones(LARGE * MIB // 4)
    del values
    return resident_mib() - before


@pytest.mark.skipif(heap._glibc() is None, reason="the C library is not glibc")
def test_freed_memory_is_kept_inside_and_given_back_outside() -> None:
    before = resident_mib()
    assert freed_stays_mib() < LARGE / 4
    with kept_heap():
        assert freed_stays_mib() > 0.9 * LARGE
        assert freed_stays_mib() < LARGE / 4  # taken from what was kept
    assert resident_mib() - before < LARGE / 4
    assert freed_stays_mib() < LARGE / 4


@pytest.mark.skipif(heap._glibc() is None, reason="the C library is not glibc")
def test_memory_is_given_back_after_an_error() -> None:
    before = resident_mib()

    def fail() -> None:
        with kept_heap():
            freed_stays_mib()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert resident_mib() - before < LARGE / 4


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
