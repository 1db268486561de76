"""The C kernels: compiled once for a processor and a compiler, kept, and called."""

import ctypes
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from featviz.errors import NotAvailable
from featviz.files import write_whole

_HERE = Path(__file__).parent
_OPTIONS = (
    *("-O3", "-march=native", "-std=gnu11", "-fopenmp", "-fPIC", "-shared"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing", "-fvisibility=hidden"),
)
_LONGEST_S = 120
_READ = (torch.float32, torch.complex64, torch.bool, torch.uint8)
"""What kernels know how to read."""

Argument = Tensor | int | float | None


def call(kernel: str, *arguments: Argument) -> None:
    """Runs a kernel on torch's number of threads: tensors by their address, the rest by value.

    Tensors have to lie as the kernel reads them.
    """
    found = loaded()
    assert found is not None
    getattr(found, kernel)(*map(_passed, arguments), _passed(torch.get_num_threads()))


@cache
def loaded() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there is no compiler that makes them."""
    compiler = _compiler()
    if compiler is None:
        return None
    sources = sorted(_HERE.glob("*.[ch]"))
    told = (_version(compiler), *_OPTIONS, *_processor(), *(each.read_text() for each in sources))
    name = f"kernels-{sha256(chr(0).join(told).encode()).hexdigest()[:16]}.so"
    try:
        return _loaded(_folder() / name, compiler)
    except (OSError, NotAvailable, RuntimeError):  # no folder to keep it in, or a damaged file
        pass
    except subprocess.SubprocessError:
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _loaded(Path(folder, name), compiler)
    except (OSError, NotAvailable, subprocess.SubprocessError):
        return None


def release() -> str:
    """The compiler of the kernels, or "none" where they do not run."""
    compiler = _compiler()
    return "none" if loaded() is None or compiler is None else _version(compiler)


def _loaded(kept: Path, compiler: tuple[str, ...]) -> ctypes.CDLL:
    """The library from a file, which is made where it is not there."""
    if not kept.is_file():
        write_whole(kept, _compiled(compiler))
    return ctypes.CDLL(str(kept))


def _passed(argument: Argument) -> object:
    if isinstance(argument, Tensor):
        assert argument.device.type == "cpu"
        assert argument.dtype in _READ
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return None if argument is None else ctypes.c_int64(argument)


def _compiled(compiler: tuple[str, ...]) -> bytes:
    """The library's file. torch's own OpenMP is linked where it brings one: with two of them the
    threads of one would wait, busily, while the other's work."""
    own = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))[:1]
    sources = sorted(_HERE.glob("*.c"))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "kernels.so")
        words = (*compiler, *_OPTIONS, "-o", target, *sources, *own, "-lm")
        subprocess.run(words, check=True, capture_output=True, timeout=_LONGEST_S)
        return target.read_bytes()


@cache
def _compiler() -> tuple[str, ...] | None:
    words = tuple(shlex.split(os.environ.get("CC", "cc")))
    return words if words and shutil.which(words[0]) else None


@cache
def _version(compiler: tuple[str, ...]) -> str:
    try:
        answer = subprocess.run(
            (*compiler, "--version"), check=True, capture_output=True, text=True, timeout=_LONGEST_S
        )
    except (OSError, subprocess.SubprocessError):
        return "none"
    return answer.stdout.partition("\n")[0]


def _processor() -> tuple[str, ...]:
    """What code for this processor may not run on: a home may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    told = ("vendor_id", "model", "flags", "Features", "CPU part")
    return (platform.machine(), *sorted({each for each in lines if each.startswith(told)}))


def _folder() -> Path:
    """Where the user's caches are."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "featviz"
