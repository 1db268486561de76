"""What makes two networks the same one: structure, weights and preprocessing, as one digest."""

import hashlib
import inspect
from dataclasses import asdict
from operator import itemgetter

import torch
from torch import nn

from featviz.network.preprocessing import Preprocessing

LIBRARIES = ("torch", "torchvision", "timm")
"""Code that a name and a version stand for; other code enters the digest as its source."""


def fingerprint(module: nn.Module, preprocessing: Preprocessing) -> str:
    """32 hexadecimal digits over everything that decides what the network computes.

    Every submodule's class and settings, every parameter and buffer (name, shape, values), the
    source and plain attributes of classes that are not a library's, and the preprocessing.
    Device, memory format and hooks do not enter.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        kind = type(part)
        digest.update(f"{name} {kind.__name__}({part.extra_repr()})\n".encode())
        if kind.__module__.split(".")[0] not in (*LIBRARIES, "featviz"):
            digest.update(f"{_source(kind)}\n{_settings(part)}\n".encode())
    values = [*module.named_parameters(), *module.named_buffers()]
    for name, value in sorted(values, key=itemgetter(0)):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    digest.update(repr(sorted(asdict(preprocessing).items())).encode())
    return digest.hexdigest()[:32]


def _settings(part: nn.Module) -> list[tuple[str, object]]:
    """Its plain attributes, which `forward` may use."""
    return sorted(
        (name, value)
        for name, value in vars(part).items()
        if isinstance(value, (bool, int, float, str, tuple))
        and not name.startswith("_")
        and name != "training"
    )


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # made at run time: no file to read
        return kind.__qualname__
