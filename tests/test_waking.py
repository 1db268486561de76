"""Units that neither a quiet start nor redirected gradients stir begin again from louder noise."""

from dataclasses import replace

import pytest
import torch
from networks import network_of
from torch import Tensor, nn

from featviz.engine.objectives import Channel
from featviz.engine.optimize import optimize
from featviz.engine.penalties import TotalVariation
from featviz.engine.recipe import Adam, FactoredAdam, Recipe, default_recipe
from featviz.engine.slots import optimize_batch
from featviz.image.parameterizations import Fourier
from featviz.image.transforms import Stack
from featviz.network.network import Network


class Edges(nn.Module):
    """Channel 0 fires for a step of more than .3 between neighbours, 1 never, 2 for anything.

    Columns close to a ring, so the mean of all steps is 0 whatever the picture: a redirected
    gradient finds nothing to raise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, (1, 2), bias=True)
        weight = torch.zeros(3, 3, 1, 2)
        weight[0, 0, 0] = torch.tensor([-1.0, 1.0])
        weight[2, 1, 0, 0] = 1.0
        self.conv.weight.data = weight
        assert self.conv.bias is not None
        self.conv.bias.data = torch.tensor([-0.6, -1.0, 2.0])

    def forward(self, images: Tensor) -> Tensor:
        closed = torch.cat([images, images[..., :1]], dim=3)
        return torch.relu(self.conv(closed))


@pytest.fixture(scope="module")
def edges() -> Network:
    return network_of(Edges(), rows=16, columns=17)


def asked(network: Network, channel: int, *, wake_sd: float = 0.2) -> Recipe:
    quiet = Fourier(color="plain", sd=0.005)
    return default_recipe(
        network,
        Channel("conv", channel),
        steps=24,
        wake_sd=wake_sd,
        redirected_steps=8,
        parameterization=quiet,
        transforms=Stack(()),
    )


def test_a_unit_that_never_stirred_is_woken(edges: Network) -> None:
    finished = optimize_batch(edges, [asked(edges, 0)])
    assert set(finished.course[:8, 0].tolist()) == {0.0}
    assert finished.course[8, 0] > 0
    assert finished.course[-1, 0] > finished.course[8, 0]
    assert finished.moved.tolist() == [True]
    asleep = optimize_batch(edges, [asked(edges, 0, wake_sd=0.0)])
    assert asleep.moved.tolist() == [False]


@pytest.mark.parametrize("optimizer", [Adam(), FactoredAdam()])
def test_only_sleepers_begin_again(edges: Network, optimizer: Adam) -> None:
    rows = [replace(asked(edges, channel), optimizer=optimizer) for channel in (2, 0, 1)]
    together = optimize_batch(edges, rows)
    assert together.moved.tolist() == [True, True, False]
    for row, recipe in enumerate(rows):
        last = list(optimize(edges, recipe, dtype=torch.float64))[-1]
        torch.testing.assert_close(together.images[row], last.images[0], rtol=0, atol=1e-9)
    unwoken = optimize_batch(edges, [replace(row, wake_sd=0.0) for row in rows])
    assert torch.equal(together.images[0], unwoken.images[0])
    assert not torch.equal(together.images[1], unwoken.images[1])


@pytest.mark.parametrize("optimizer", [Adam(), FactoredAdam()])
def test_a_penalty_does_not_make_a_dead_unit_look_alive(edges: Network, optimizer: Adam) -> None:
    recipe = replace(asked(edges, 1), optimizer=optimizer)
    penalized = replace(recipe, objective=recipe.objective - 0.1 * TotalVariation())
    finished = optimize_batch(edges, [penalized])
    assert len(set(finished.course[:, 0].tolist())) > 1
    assert finished.moved.tolist() == [False]
    last = list(optimize(edges, penalized, dtype=torch.float64))[-1]
    torch.testing.assert_close(finished.images, last.images, rtol=0, atol=1e-9)
