"""What every test runs under: one thread, and tiny networks whose layers are known."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from networks import Everything, Linear, network_of

from featviz.network.network import Network

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is imported

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

DATA = Path(__file__).parents[2] / "shared" / "data"
"""Photographs and networks that do not ship with the repository; tests that need them skip."""


@pytest.fixture(scope="session")
def everything() -> Network:
    """Maps, in-place and functional rectifiers, tokens and features; float64."""
    return network_of(Everything())


@pytest.fixture(scope="session")
def linear() -> Network:
    """One linear layer on the pixels; float64."""
    return network_of(Linear(rows=4, columns=5), rows=4, columns=5)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """The path of something in the optional data folder; skips where it is absent."""

    def find(name: str) -> Path:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"no {name} in the optional folder ../shared/data")
        return path

    return find
