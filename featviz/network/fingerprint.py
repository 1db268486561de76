"""What makes two networks the same one: structure, weights and preprocessing, as one digest."""

import hashlib
import inspect
from dataclasses import asdict

import torch
from torch import nn

from featviz.network.preprocessing import Preprocessing

LIBRARIES = ("torch", "torchvision", "timm")
"""Code that a name and a version stand for; other code enters the digest as its source."""


def fingerprint(module: nn.Module, preprocessing: Preprocessing) -> str:
    """32 hexadecimal digits over everything that decides what the network computes.

    Every submodule's class and settings, every parameter and buffer (name, shape, values), the
    source of classes that are not a library's, and the preprocessing. Device and memory
    format do not enter.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        kind = type(part)
        digest.update(f"{name} {kind.__name__}({part.extra_repr()})\n".encode())
        if kind.__module__.split(".")[0] not in (*LIBRARIES, "featviz"):
            digest.update(_source(kind).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    digest.update(repr(sorted(asdict(preprocessing).items())).encode())
    return digest.hexdigest()[:32]


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # made at run time: no file to read
        return kind.__qualname__
