"""Redirected gradients where kernels do the work of rectifiers: what is presumed, and what becomes
of a batch in which it was not so."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import network_of
from torch import Tensor, nn

from featviz.engine.accelerated import Accelerated, accelerated
from featviz.engine.objectives import Channel
from featviz.engine.presumed import Presumed, stirs_by_row
from featviz.engine.recipe import default_recipe
from featviz.engine.redirect import redirecting
from featviz.engine.slots import DOUBTED, Finished, Slots, optimize_batch
from featviz.kernels import host
from featviz.network.network import Network
from featviz.network.recording import Prefix

needs_compiler = pytest.mark.skipif(
    host.loaded() is None, reason="the machine has no C compiler that makes the kernels"
)
SIDE = 16


def convolutions() -> nn.Sequential:
    """One of each kind that lets gradients pass, behind a rectifier each; the second and the third
    may be one operation."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.ReLU6(inplace=True)),
        *(nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ReLU()),
        *(nn.Conv2d(32, 40, 1), nn.Hardtanh(-0.25, 0.25)),
        *(nn.Conv2d(40, 40, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(40, 24, 5, padding=2), nn.ReLU()),
        nn.Conv2d(24, 8, 1),
    )


def bottleneck() -> nn.Sequential:
    """A bottleneck between two others."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 16, 1), nn.Hardtanh(-0.25, 0.25)),
        *(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU6()),
        *(nn.Conv2d(16, 12, 1), nn.ReLU()),
        nn.Conv2d(12, 8, 1),
    )


def loud(layers_of: Callable[[], nn.Sequential]) -> nn.Sequential:
    """With larger weights, the same at every call."""
    torch.manual_seed(0)
    layers = layers_of()
    with torch.no_grad():
        for each in layers:
            if isinstance(each, nn.Conv2d):
                nn.init.normal_(each.weight, std=2 / each.weight[0].numel() ** 0.5)
    return layers


def blocked(layers: nn.Sequential, at: int, images: Tensor) -> None:
    """Shifts what the rectifier `at` that place is given: the first picture's gradient passes it
    somewhere, the second's nowhere."""
    with torch.no_grad():
        highest = layers[:at](images).flatten(1).amax(dim=1)
        assert highest[0] > highest[1]
        bias = layers[at - 1].bias
        assert isinstance(bias, Tensor)
        bias += layers[at](torch.tensor(-9.0)) - highest.mean()


def made(layers: nn.Sequential) -> Network:
    return network_of(layers, rows=SIDE, columns=SIDE, dtype=torch.float32)


CASES = [(convolutions, at) for at in (1, 3, 5, 7, 9)] + [(bottleneck, at) for at in (1, 3, 5, 7)]


@needs_compiler
@pytest.mark.parametrize("joins", [True, False])
@pytest.mark.parametrize(("layers_of", "at"), CASES)
def test_a_blocked_row_is_noticed_and_no_other(
    layers_of: Callable[[], nn.Sequential], at: int, *, joins: bool
) -> None:
    layers = loud(layers_of)
    images = torch.rand(2, 3, SIDE, SIDE) * torch.tensor([1.0, 0.01]).view(-1, 1, 1, 1)
    images = images.contiguous(memory_format=torch.channels_last)
    blocked(layers, at, images)
    network, end = made(layers), str(len(layers) - 1)
    prefix = Prefix(network, [end], rows=SIDE, columns=SIDE)
    plan = accelerated(network, SIDE, SIDE).reading(prefix.wanted.operations)
    assert plan.has_bottlenecks
    plan = plan if joins else plan.apart()

    def gradient(substitute: Accelerated | None) -> Tensor:
        pixels = images.clone().requires_grad_()
        (said,) = prefix(pixels, substitute=substitute).values()
        return torch.autograd.grad(said.square().sum(), pixels)[0]

    for rows in ([True, True], [True, False], [False, False]):
        presumed, flags = Presumed(torch.tensor(rows)), torch.tensor(rows)
        exact, quick = (
            gradient(plan.redirecting(flags)),
            gradient(plan.redirecting(flags, presumed)),
        )
        assert presumed.is_refuted == rows[1]
        assert torch.equal(quick[0], exact[0])
        assert torch.equal(quick[1], exact[1]) != rows[1]
    operations = network.trace(SIDE, SIDE).operations
    pixels = images.clone().requires_grad_()
    (said,) = prefix(pixels, substitute=redirecting(operations)).values()
    (true,) = torch.autograd.grad(said.square().sum(), pixels)
    exact = gradient(plan.redirecting(torch.tensor([True, True])))
    assert stirs_by_row(true).all()
    assert torch.allclose(exact, true, atol=1e-5 * float(true.abs().max()))


@needs_compiler
@pytest.mark.parametrize("layers_of", [convolutions, bottleneck])
def test_nothing_is_refuted_where_no_gradient_comes(
    layers_of: Callable[[], nn.Sequential],
) -> None:
    """As in rows that ask for less of the network than their mates."""
    torch.manual_seed(0)
    network = made(layers_of())
    end = str(len(layers_of()) - 1)
    prefix = Prefix(network, [end], rows=SIDE, columns=SIDE)
    presumed = Presumed(torch.tensor([True, True]))
    plan = accelerated(network, SIDE, SIDE).reading(prefix.wanted.operations)
    images = torch.rand(2, 3, SIDE, SIDE, requires_grad=True)
    (said,) = prefix(images, substitute=plan.redirecting(presumed.rows, presumed)).values()
    (gradient,) = torch.autograd.grad(said[0].square().sum(), images)
    assert not presumed.is_refuted
    assert stirs_by_row(gradient).tolist() == [True, False]


@needs_compiler
@pytest.mark.parametrize(("layers_of", "at"), [(convolutions, 7), (bottleneck, 5)])
def test_a_step_that_is_refuted_is_taken_rectifier_by_rectifier(
    layers_of: Callable[[], nn.Sequential], at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = loud(layers_of)
    with torch.no_grad():
        grey = layers[:at](torch.zeros(1, 3, SIDE, SIDE)).amax()
        layers[at - 1].bias -= grey + 0.5  # dead at the start
    network = made(layers)
    end, presumptions, passes = str(len(layers) - 1), [], []
    told, redirects = Slots._told, Accelerated.redirecting

    def rendered() -> Finished:
        settings = {"size": SIDE, "steps": 24, "redirected_steps": 16}
        return optimize_batch(
            network,
            [default_recipe(network, Channel(end, k), seed=k, **settings) for k in range(3)],
        )

    def noted(self: Slots, ready: Any, plan: Accelerated) -> tuple[Tensor, ...]:
        passes.append(plan)
        presumptions.extend([] if plan.presumed is None else [plan.presumed])
        return told(self, ready, plan)

    monkeypatch.setattr(Slots, "_told", noted)
    quick = rendered()
    refuted = [each for each in presumptions if each.is_refuted]
    assert 0 < len(refuted) < len(presumptions)
    assert len(passes) == 24 + len(refuted)
    presumes = [each.presumed is not None for each in passes]
    at = [each.presumed for each in passes].index(refuted[0]) + 1
    assert presumes[at : at + DOUBTED + 1] == [False] * DOUBTED + [True]
    monkeypatch.setattr(
        Accelerated, "redirecting", lambda self, rows, _=None: redirects(self, rows)
    )
    exact = rendered()
    assert torch.equal(quick.images, exact.images)
    assert torch.equal(quick.course, exact.course)
    assert bool(quick.moved.all())


@needs_compiler
def test_a_row_that_only_fills_the_batch_refutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network, rows = made(loud(convolutions)), []
    look = Presumed.look

    def noted(self: Presumed, *stirring: Tensor) -> None:
        look(self, *stirring)
        rows.append(self.rows.tolist())

    monkeypatch.setattr(Presumed, "look", noted)
    settings = {"size": SIDE, "steps": 3, "redirected_steps": 2}
    optimize_batch(network, [default_recipe(network, Channel("10", 0), **settings)])
    assert rows
    assert all(each == [True, False] for each in rows)


def test_rows_stir_where_torch_says_so() -> None:
    values = torch.zeros(6, 3, 9, 11)
    values[1, 2, 8, 10] = 1e-40
    values[2, 0, 0, 0] = torch.nan
    values[3] = -0.0
    values[4, 1, 4, 4] = -torch.inf
    expected = [False, True, True, False, True, False]
    for layout in (torch.contiguous_format, torch.channels_last):
        assert stirs_by_row(values.contiguous(memory_format=layout)).tolist() == expected
    assert stirs_by_row(values[:, :, ::2, ::2].double()).tolist() == expected
    assert stirs_by_row(values[:, 1:]).tolist() == [*expected[:2], False, *expected[3:]]
    for dtype in (torch.float32, torch.float64):
        assert stirs_by_row(torch.tensor([0.0, 2.0], dtype=dtype)).tolist() == [False, True]
