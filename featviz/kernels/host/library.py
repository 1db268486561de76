"""The C kernels: compiled once for a processor and a compiler, kept, and called."""

import ctypes
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from featviz.errors import NotAvailable
from featviz.files import write_whole

_HERE = Path(__file__).parent
_OPTIONS = (
    *("-O3", "-march=native", "-std=gnu11", "-fopenmp", "-fPIC"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing", "-fvisibility=hidden"),
)
_LONGEST_S = 120
Argument = Tensor | int | float | None


def call(kernel: str, *arguments: Argument) -> None:
    """Runs a kernel on torch's number of threads: tensors by their address, the rest by value, as
    the types that C declares. Raises TypeError for others, ValueError for more or fewer.

    Tensors have to lie as the kernel reads them.
    """
    found = getattr(loaded(), kernel)
    told = (*arguments, torch.get_num_threads())
    # not in a from_param of our own: ctypes tells a Ctrl-C that comes there as a wrong argument
    found(*[_passed(*each) for each in zip(told, found.argtypes, strict=True)])


@cache
def loaded() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there is no compiler that makes them."""
    compiler = _compiler()
    if compiler is None:
        return None
    sources = [each.read_text() for each in sorted(_HERE.glob("*.[ch]"))]
    told = (_version(compiler), *compiler, *_OPTIONS, *map(str, _openmp()), *_processor(), *sources)
    library = _kept(_folder(), f"kernels-{_digest(chr(0).join(told).encode())}", compiler)
    if library is not None:
        for name, parameters in re.findall(r"^KERNEL (\w+)\(([^)]*)\)", "".join(sources), re.M):
            kernel = getattr(library, name)
            kernel.restype, kernel.argtypes = None, [*map(_type, parameters.split(","))]
    return library


def release() -> str:
    """The compiler of the kernels, or "none" where they do not run."""
    compiler = _compiler()
    return "none" if loaded() is None or compiler is None else _version(compiler)


def _kept(folder: Path, key: str, compiler: tuple[str, ...]) -> ctypes.CDLL | None:
    """The library of a key, which is compiled where no undamaged file of it is found.

    A file's name ends in the digest of its content: to load a damaged one can kill the process.
    """
    for file in sorted(folder.glob(f"{key}-*.so")):
        try:
            if file.stem == f"{key}-{_digest(file.read_bytes())}":
                return ctypes.CDLL(str(file))
        except OSError:
            continue
    try:
        content = _compiled(compiler)
    except (OSError, subprocess.SubprocessError):
        return None
    name = f"{key}-{_digest(content)}.so"
    try:
        write_whole(folder / name, content)
        return ctypes.CDLL(str(folder / name))
    except (OSError, NotAvailable):  # nothing can be kept there, or nothing there may run
        pass
    try:
        with tempfile.TemporaryDirectory() as elsewhere:
            Path(elsewhere, name).write_bytes(content)
            return ctypes.CDLL(str(Path(elsewhere, name)))
    except OSError:
        return None


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:16]


class _Pointer(ctypes.c_void_p):
    """To numbers: of a tensor on the CPU, or none."""

    dtypes: ClassVar[tuple[torch.dtype, ...]]


class _Floats(_Pointer):
    dtypes = (torch.float32,)


class _Bytes(_Pointer):
    dtypes = (torch.bool, torch.uint8)


class _Integers(_Pointer):
    dtypes = (torch.int64,)


def _passed(argument: Argument, kind: type) -> int | float | None:
    """What ctypes makes a kind of."""
    if not issubclass(kind, _Pointer):
        fits = isinstance(argument, int | float if kind is ctypes.c_float else int)
    elif isinstance(argument, Tensor):
        fits = argument.device.type == "cpu" and argument.dtype in kind.dtypes
    else:
        fits = argument is None
    if not fits:
        raise TypeError(f"{kind.__name__} cannot be made of {argument!r}")
    return argument.data_ptr() if isinstance(argument, Tensor) else argument


def _type(parameter: str) -> type:
    """What C calls a parameter, in ctypes' words."""
    kind = parameter.replace("const", "").split()[0]
    if "*" in parameter:
        return {"float": _Floats, "uint8_t": _Bytes, "int64_t": _Integers}[kind]
    return ctypes.c_float if kind == "float" else ctypes.c_int64


def _openmp() -> list[Path]:
    """torch's own, where it brings one: with two of them the threads of one would wait, busily,
    while the other's work."""
    return sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))[:1]


def _compiled(compiler: tuple[str, ...]) -> bytes:
    """The library's file, of sources that are compiled side by side."""
    sources = sorted(_HERE.glob("*.c"))
    with tempfile.TemporaryDirectory() as folder:
        objects = [Path(folder, f"{source.stem}.o") for source in sources]
        words = [("-c", "-o", *each) for each in zip(objects, sources, strict=True)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda each: _run((*compiler, *_OPTIONS, *each)), words))
        target = Path(folder, "kernels.so")
        _run((*compiler, *_OPTIONS, "-shared", "-o", target, *objects, *_openmp(), "-lm"))
        return target.read_bytes()


def _run(words: tuple[str | Path, ...]) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=_LONGEST_S)


@cache
def _compiler() -> tuple[str, ...] | None:
    try:
        words = tuple(shlex.split(os.environ.get("CC", "cc")))
    except ValueError:  # a quotation without end
        return None
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
    told = ("vendor_id", "model", "flags", "Features", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine(), platform.processor()
    return (platform.machine(), *sorted({each for each in lines if each.startswith(told)}))


def _folder() -> Path:
    """Where the user's caches are."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "featviz"
