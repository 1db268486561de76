"""Redirected gradients are their definition, and an in-place rectifier stays one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from evaluation import EXACT
from networks import Rectified, network_of
from reference.objectives import Array
from torch import Tensor, nn
from torch.nn import functional
from watching import Timeline

from featviz.engine.redirect import redirected
from featviz.network.recording import Prefix

RECTIFIERS: dict[str, tuple[Callable[[], nn.Module], float, float]] = {
    "relu": (nn.ReLU, 0, np.inf),
    "relu in place": (lambda: nn.ReLU(inplace=True), 0, np.inf),
    "relu6": (nn.ReLU6, 0, 6),
    "relu6 in place": (lambda: nn.ReLU6(inplace=True), 0, 6),
    "hardtanh": (lambda: nn.Hardtanh(-0.5, 1.5), -0.5, 1.5),
    "hardtanh in place": (lambda: nn.Hardtanh(inplace=True), -1, 1),
}
FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "functional.relu": (functional.relu, 0, np.inf),
    "torch.relu": (torch.relu, 0, np.inf),
    "Tensor.relu": (lambda x: x.relu(), 0, np.inf),
    "Tensor.relu_": (lambda x: x.relu_(), 0, np.inf),
    "torch.relu_": (torch.relu_, 0, np.inf),
    "functional.relu_": (functional.relu_, 0, np.inf),
    "functional.relu6": (functional.relu6, 0, 6),
    "functional.relu6 in place": (lambda x: functional.relu6(x, inplace=True), 0, 6),
    "functional.hardtanh": (lambda x: functional.hardtanh(x, -2.0, 2.0), -2, 2),
    "functional.hardtanh_": (lambda x: functional.hardtanh_(x, min_val=-2.0), -2, 1),
}


class Redirecting(Timeline):
    """Runs rectifiers as the engine does in its first steps."""

    def run(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        result = redirected(0, name, args, options)
        return function(*args, **options) if result is None else result


def definition(values: Array, gradient: Array, low: float, high: float) -> Array:
    """Row by row: the true gradient or, where that is all zero, one that leads back inside."""
    result = np.zeros_like(gradient)
    for row in range(len(values)):
        true = np.where((values[row] > low) & (values[row] < high), gradient[row], 0)
        outward = ((values[row] <= low) & (gradient[row] < 0)) | (
            (values[row] >= high) & (gradient[row] > 0)
        )
        result[row] = true if true.any() else np.where(outward, 0, gradient[row])
    return result


def rows_of_every_kind(low: float, high: float) -> Tensor:
    """One row inside, one below, one above, one below and above, one mixed, one at the bounds."""
    top = min(high, 9.0)
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(6, 2, 3, 3, generator=generator, dtype=torch.float64)
    inside, below, above = low + share * (top - low), low - share, top + share + 0.01
    rows = [inside[0], below[1], above[2], torch.where(share[3] < 0.5, below[3], above[3])]
    rows += [torch.where(share[4] < 0.3, below[4], inside[4])]
    rows += [torch.where(share[5] < 0.5, torch.tensor(low), torch.tensor(top)).double()]
    return torch.stack(rows)


@pytest.mark.parametrize("name", [*RECTIFIERS, *FUNCTIONS])
def test_the_gradient_is_its_definition(name: str) -> None:
    if name in RECTIFIERS:
        make, low, high = RECTIFIERS[name]
        rectify: Callable[[Tensor], Tensor] = make()
    else:
        rectify, low, high = FUNCTIONS[name]
    leaf = rows_of_every_kind(low, high).requires_grad_()
    upstream = torch.randn(leaf.shape, dtype=torch.float64)
    expected = rectify(leaf.detach().clone())
    with Redirecting():
        result = rectify(leaf * 1)
    torch.testing.assert_close(result, expected, **EXACT)
    (gradient,) = torch.autograd.grad(result, leaf, upstream)
    np.testing.assert_array_equal(
        gradient.numpy(), definition(leaf.detach().numpy(), upstream.numpy(), low, high)
    )


def test_only_rows_whose_true_gradient_is_all_zero_are_redirected() -> None:
    values = torch.tensor([[-1.0, -2.0], [-1.0, 2.0]]).double().requires_grad_()
    with Redirecting():
        result = torch.relu(values * 1)
    (gradient,) = torch.autograd.grad(result, values, torch.tensor([[3.0, -4.0], [3.0, 5.0]]))
    assert gradient.tolist() == [[3, 0], [0, 5]]  # up is let through, down is not


def test_zero_gradients_from_above_stay_zero() -> None:
    values = torch.full((2, 3), -1.0, dtype=torch.float64, requires_grad=True)
    with Redirecting():
        result = torch.relu(values * 1)
    (gradient,) = torch.autograd.grad(result, values, torch.zeros(2, 3))
    assert not gradient.any()


@pytest.mark.parametrize("name", ["sigmoid", "leaky_relu", "conv2d", "gelu", "elu", "add", "clamp"])
def test_other_operations_are_left_alone(name: str) -> None:
    assert redirected(0, name, (torch.zeros(1),), {}) is None


@pytest.mark.parametrize("uses_result", [True, False])
@pytest.mark.parametrize("name", RECTIFIERS)
def test_the_network_says_the_same(name: str, uses_result: bool) -> None:  # noqa: FBT001
    """Whether the network goes on with the rectifier's result or, in place, with its argument."""
    network = network_of(Rectified(RECTIFIERS[name][0](), uses_result=uses_result))
    images = torch.rand(3, 3, 12, 10, dtype=torch.float64)
    is_skipped = not uses_result and "in place" not in name  # then nothing reads the result
    keys = ["conv", "last"] if is_skipped else ["conv/pre", "conv", "last"]
    prefix = Prefix(network, keys, rows=12, columns=10)
    expected = prefix(network.to_input(images))
    actual = prefix(network.to_input(images), substitute=redirected)
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key
    assert torch.equal(expected["last"], network(images))
