"""What the tests of kernels share: what they need, a device, numbers, gradients in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from featviz.kernels import host

needs_compiler = pytest.mark.skipif(
    host.loaded() is None, reason="the machine has no C compiler that makes the kernels"
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAST = torch.channels_last


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE)


def gradient_of(work: Callable[[Tensor], Tensor], at: Tensor, coming: Tensor) -> Tensor:
    """Of some work at a place, in float64."""
    at = at.detach().double().requires_grad_()
    return torch.autograd.grad(work(at), at, coming.double())[0]
