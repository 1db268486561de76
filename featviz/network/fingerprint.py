"""What makes two networks the same one: structure, weights and preprocessing, as one digest."""

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featviz.network.preprocessing import Preprocessing

LIBRARIES = ("torch", "torchvision", "timm", "featviz")
"""Code that a name and a version stand for; other code enters the digest as its file."""
_BOOKKEEPING = frozenset(
    (
        *("training", "device", "dtype", "memory_format", "requires_grad", "_compiled_call_impl"),
        *("fused_attn", "grad_checkpointing"),  # timm: how it is computed, not what
        *("pretrained_cfg", "pretrained_model_args", "default_cfg", "feature_info"),  # about it
    )
)
_DEEPEST = 8


def fingerprint(module: nn.Module, preprocessing: Preprocessing) -> str:
    """32 hexadecimal digits over everything that decides what the network computes.

    Every submodule's class and settings (attributes that are numbers, words, tensors, functions
    or collections of these), every parameter and buffer (name, shape, values), the files of
    classes and functions that are not a library's, and the preprocessing. Device, memory format,
    hooks and what is only for training do not enter.
    """
    digest = hashlib.sha256()
    sources: set[str] = set()
    for name, part in module.named_modules():
        kind = type(part)
        digest.update(f"{name} {kind.__name__}({part.extra_repr()})\n".encode())
        digest.update(f"{list(_settings(part))}\n".encode())
        sources.update(_sources(kind))
        sources.update(each for value in vars(part).values() for each in _sources(value))
    values = [*module.named_parameters(), *module.named_buffers()]
    for name, value in sorted(values, key=itemgetter(0)):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(_bytes(value))
    for source in sorted(sources):
        digest.update(f"{source}\n".encode())
    digest.update(repr(sorted(asdict(preprocessing).items())).encode())
    return digest.hexdigest()[:32]


def _settings(part: nn.Module) -> Iterator[tuple[str, str]]:
    """Its attributes, which `forward` may use, by name; None is as good as no attribute.

    A library's private ones are left out, and so are caches (by name: timm's LeViT fills one per
    device) and what every module has.
    """
    is_private = "_" if _is_library(type(part)) else "__"
    common = vars(nn.Module())
    for name, value in sorted(vars(part).items()):
        is_own = name not in common and not name.startswith(is_private) and "cache" not in name
        if is_own and name not in _BOOKKEEPING and value is not None:
            yield name, _text(value)


def _text(value: Any, depth: int = 0) -> str:
    """A value in words that are the same in every process: no addresses, no order of hashes."""
    if isinstance(value, (bool, int, float, complex, str, bytes, np.generic, type(None))):
        return repr(value)
    if isinstance(value, Tensor):
        content = hashlib.sha256(_bytes(value)).hexdigest()
        return f"tensor({tuple(value.shape)}, {value.dtype}, {content})"
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(value.tobytes()).hexdigest()
        return f"array({value.shape}, {value.dtype}, {content})"
    if inspect.isroutine(value) or isinstance(value, type):
        return str(getattr(value, "__qualname__", type(value).__name__))
    parts = _parts(value) if depth < _DEEPEST else []
    texts = [_text(each, depth + 1) for each in parts]
    return (
        f"{type(value).__name__}{sorted(texts) if isinstance(value, (set, frozenset)) else texts}"
    )


def _parts(value: Any) -> list[Any]:
    """What a collection, a dataclass or a partial function is made of; of others nothing."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if is_dataclass(value):
        return [(field.name, getattr(value, field.name, None)) for field in fields(value)]
    return []


def _bytes(value: Tensor) -> bytes:
    if value.is_meta:
        return b""
    flat = value.detach().to_dense().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _is_library(code: Any) -> bool:
    """True of a library's code, Python's own and what is no code at all."""
    origin = (getattr(code, "__module__", None) or "").partition(".")[0]
    return origin in LIBRARIES or origin in sys.stdlib_module_names


def _sources(value: Any) -> Iterator[str]:
    """The files of a class or function that is no library's, and of the classes it extends."""
    if isinstance(value, functools.partial):
        value = value.func
    if not (isinstance(value, type) or inspect.isroutine(value)):
        return
    for code in value.__mro__ if isinstance(value, type) else (value,):
        if not _is_library(code):
            yield _source(code)


def _source(code: Any) -> str:
    """The text of the file that a class or function is in, so that its helpers count."""
    try:
        return Path(inspect.getsourcefile(code) or "").read_text(encoding="utf-8")
    except (OSError, TypeError, UnicodeDecodeError):  # typed by hand, or made at run time
        pass
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return getattr(code, "__qualname__", "")
