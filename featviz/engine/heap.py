"""Freed memory is kept for the next step: on Linux every large result is else mapped and cleared
anew, page by page, which took a fifth of a step (LOG.md)."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# Parameters of mallopt. Source: glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1
_USUAL = {_TRIM_THRESHOLD: 64 * 2**20, _MMAP_MAX: 65536}
"""Where glibc's own adjustment ends once a program has freed a large result, and its default."""


@contextmanager
def kept_heap() -> Iterator[None]:
    """A context in which freed memory stays with the process, and after which it is given back.

    Nothing happens where the C library is another than glibc.
    """
    library = _glibc()
    if library is None:
        yield
        return
    for parameter, value in {_TRIM_THRESHOLD: _NEVER, _MMAP_MAX: 0}.items():
        library.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, if it is glibc and its user has not set it up."""
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return None
    try:
        is_glibc = (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, AttributeError):
        return None
    return ctypes.CDLL(None) if is_glibc else None
