"""What the tests of kernels share: a device, numbers, threads, gradients in float64."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAST = torch.channels_last


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """A context in which torch works with so many of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def gradient_of(work: Callable[[Tensor], Tensor], at: Tensor, coming: Tensor) -> Tensor:
    """Of some work at a place, in float64."""
    at = at.detach().double().requires_grad_()
    return torch.autograd.grad(work(at), at, coming.double())[0]
