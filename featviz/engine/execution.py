"""How a picture was executed: what does not name it, but fixes its bytes."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from featviz.errors import NotAvailable, OutOfRange, UnknownName
from featviz.kernels import release
from featviz.kernels.host import loaded
from featviz.network.network import Network

PRODUCTS = "bfloat16-products"
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    PRODUCTS: torch.float32,
}
"""Of networks. In bfloat16-products a CPU's kernels round the factors of products to bfloat16, of
convolutions of stride 1 and many channels, but for 3 x 3 and 5 x 5 kernels in few products."""


@dataclass(frozen=True)
class Execution:
    """Slots, device, precision, threads and versions of one rendering.

    `dtype` is the network's, of DTYPES; pictures, transforms and optimizer are at least
    float32. `weights` is the word or file that the network was loaded with.
    """

    slots: int
    device: str
    dtype: str
    threads: int
    weights: str
    versions: tuple[tuple[str, str], ...]

    def differences(self, other: "Execution") -> list[str]:
        """What is not the same, in words: "torch 2.11.0 instead of 2.9.0"."""
        mine = {**self.__dict__, **dict(self.versions)}
        theirs = {**other.__dict__, **dict(other.versions)}
        return [
            f"{name} {theirs.get(name)} instead of {value}"
            for name, value in mine.items()
            if name != "versions" and theirs.get(name) != value
        ]


def execution(
    *, slots: int, device: str = "cpu", dtype: str = "float32", weights: str = "default"
) -> Execution:
    """The execution on this machine. Raises UnknownName, OutOfRange, NotAvailable."""
    if slots < 1:
        raise OutOfRange("slots", slots, low=1, high="any", where="a batch")
    _check_dtype(dtype, check_device(device))
    packages = ("featviz", "torchvision", "timm", "kornia", "numpy", "pillow")
    versions = (
        *((name, version(name)) for name in packages),
        ("torch", torch.__version__),
        ("processor", _processor(device)),
        ("kernels", release(device, dtype)),
    )
    return Execution(slots, device, dtype, torch.get_num_threads(), weights, versions)


def as_executed(network: Network, device: str, dtype: str) -> Network:
    """The network on a device and in a dtype by their names. Raises UnknownName, NotAvailable."""
    place = check_device(device)
    _check_dtype(dtype, place)
    return network.at(place, DTYPES[dtype], in_pairs=dtype == PRODUCTS)


def _check_dtype(dtype: str, place: torch.device) -> None:
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    if dtype == PRODUCTS and (place.type != "cpu" or loaded() is None):
        there = "a CPU with a C compiler has it, others have bfloat16"
        raise NotAvailable(f"the dtype {dtype!r} on this device", there=there)


def available_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: its affinity, and the quota of its container if it has one.

    More threads than that only wait for each other.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        limit, period = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if limit == "max" else max(1, min(cores, int(limit) // int(period)))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """A context with so many CPU threads: their number decides how sums are split."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor(device: str) -> str:
    """What kernels are chosen by: the GPU's name, or the CPU's architecture and instructions."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def check_device(device: str) -> torch.device:
    """The device of a name. Raises UnknownName, NotAvailable."""
    kind = device.partition(":")[0]
    there = ["cpu"]
    if torch.cuda.is_available():
        there += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there.append("mps")
    if kind not in ("cpu", "cuda", "mps"):
        raise UnknownName("device", device, ["cpu", "cuda", "mps"])
    if device not in there:
        raise NotAvailable(f"the device {device!r}", there=f"there is: {', '.join(there)}")
    return torch.device(device)
