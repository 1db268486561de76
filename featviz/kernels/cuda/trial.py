"""The smallest kernel, to see whether any can be compiled here."""

# pyright: reportCallIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl


def launch() -> None:
    """Runs it. Raises what Triton raises where it cannot be compiled or launched."""
    _one[(1,)](torch.zeros(1, device="cuda"))


@triton.jit
@no_type_check
def _one(value):
    tl.store(value, 1.0)
