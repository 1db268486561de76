"""The path of a picture: rank correlations by hand, and a fooling path that must be flagged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from networks import network_of
from torch import Tensor, nn

from featviz.atlas.path import FEWEST, MOST_LAYERS, Path, path_layers, path_of, standing
from featviz.atlas.references import References, pink_references
from featviz.atlas.standards import Standards
from featviz.engine.objectives import Channel
from featviz.engine.penalties import TotalVariation
from featviz.image.parameterizations import Shape
from featviz.network.network import Network
from featviz.network.zoo import load
from featviz.shapes import Images

SIDE = 16


@dataclass(frozen=True)
class Given(References):
    """Some images of one size."""

    pictures: Tensor
    name: str = "given"
    files: tuple[str, ...] = ()

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.pictures)

    def images(self, numbers: Sequence[int], shape: Shape) -> Images:
        return self.pictures[list(numbers)]


class Fooled(nn.Module):
    """`last` looks for light on the left, and for checkerboards, which no photograph has.

    `first` has twelve channels for light, of rising gain, in which a checkerboard of one phase
    counts against the light, and a thirteenth that sees checkerboards alone; `middle` repeats
    them all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 13, 2)
        bias = nn.Parameter(2.0 * torch.arange(1, 14))  # black, which is seen as -2, is 0
        bias.data[12] = 0.0
        self.first.bias = bias
        self.middle = nn.Conv2d(13, 13, 1, bias=False)
        self.last = nn.Conv2d(13, 1, 1, bias=False)
        signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        for channel in range(12):
            self.first.weight.data[channel] = (channel + 1) / 12
            self.first.weight.data[channel] -= signs * (channel + 1) / 2
        self.first.weight.data[12] = 10 * signs
        self.middle.weight.data[:] = torch.eye(13)[:, :, None, None]
        self.last.weight.data[:] = 1 / 12

    def forward(self, images: Tensor) -> Tensor:
        maps = self.middle(nn.functional.relu(self.first(images)))
        weights = torch.linspace(1, 0, maps.shape[3], dtype=maps.dtype)
        return self.last(maps * weights)


def smooth(count: int, *, seed: int = 0) -> Tensor:
    """Pictures like photographs of the sky: light that changes slowly."""
    generator = torch.Generator().manual_seed(seed)
    few = 0.1 + 0.4 * torch.rand(count, 1, 3, 3, generator=generator)
    return nn.functional.interpolate(
        few.expand(-1, 3, -1, -1), (SIDE, SIDE), mode="bilinear", align_corners=True
    )


def pixels_of(image: Tensor) -> np.ndarray:
    return (image.movedim(0, -1) * 255).round().to(torch.uint8).numpy()


def fooled() -> Network:
    return network_of(Fooled(), rows=SIDE, columns=SIDE, dtype=torch.float32)


def ranks(values: Sequence[float]) -> np.ndarray:
    """Mean ranks, by counting."""
    found = np.array(values)
    return np.array([(found < each).sum() + ((found == each).sum() - 1) / 2 for each in found])


def test_products_of_standings_are_rank_correlations() -> None:
    first = [3.0, 1.0, 1.0, 8.0, -2.0, 0.0, 0.0, 0.0]
    second = [1.0, 1.0, 7.0, 9.0, 2.0, 2.0, 2.0, -4.0]
    found = standing(torch.tensor([first, second, second]))
    expected = np.corrcoef(ranks(first), ranks(second))[0, 1]
    assert float(found[0] @ found[1]) == pytest.approx(expected, abs=1e-12)
    assert float(found[1] @ found[2]) == pytest.approx(1, abs=1e-12)
    opposite = standing(torch.tensor([[1.0, 2.0, 4.0], [-1.0, -2.0, -3.0]]))
    assert float(opposite[0] @ opposite[1]) == pytest.approx(-1, abs=1e-12)
    assert standing(torch.full((1, 5), 3.0)).abs().max() == 0


def test_a_fooling_picture_is_flagged_and_an_honest_one_is_not() -> None:
    network = fooled()
    objective = Channel("last", 0).resolve(network)
    photographs = smooth(40)
    standards = Standards(network, Given(photographs))
    squares = torch.tensor(np.indices((SIDE, SIDE)).sum(axis=0) % 2).float().expand(3, -1, -1)
    values = standards.values(Shape(3, SIDE, SIDE), objective)
    # What the best photographs have in common, stronger; no photograph itself.
    common = 1.9 * photographs[values.topk(10).indices].mean(dim=0)
    fooling, honest = (pixels_of(each) for each in (squares, common))
    # Both please the unit more than any photograph.
    for picture in (squares, common):
        alone = Standards(network, Given(picture[None]))
        assert alone.values(Shape(3, SIDE, SIDE), objective) > values.max()
    flagged, free = (path_of(standards, objective, each) for each in (fooling, honest))
    assert flagged is not None
    assert free is not None
    assert flagged.layers == free.layers == ("first", "middle", "last")
    assert flagged.is_unlike
    assert flagged.shares[:2] == (0, 0)
    assert not free.is_unlike
    assert free.similarity > 0.5


def test_photographs_themselves_are_not_flagged() -> None:
    network = fooled()
    objective = Channel("last", 0).resolve(network)
    standards = Standards(network, Given(smooth(40)))
    paths = [path_of(standards, objective, pixels_of(each)) for each in smooth(8, seed=1)]
    assert all(path is not None and not path.is_unlike for path in paths)


def test_the_rule_is_more_than_half_of_the_layers() -> None:
    layers = ("a", "b", "c", "d")
    assert not Path(layers, (0.0, 0.0, 0.3, 1.0)).is_unlike
    assert Path(layers, (0.0, 0.0, 0.0, 1.0)).is_unlike
    assert Path(layers, (0.0, 0.0, 0.0, 1.0)).similarity == 0.25


def test_nothing_is_said_without_photographs_or_layers() -> None:
    network = fooled()
    picture = pixels_of(smooth(1)[0])
    few = Standards(network, Given(smooth(FEWEST - 1)))
    assert path_of(few, Channel("last", 0).resolve(network), picture) is None
    many = Standards(network, Given(smooth(FEWEST)))
    assert path_of(many, Channel("last", 0).resolve(network), picture) is not None
    assert path_of(many, -1 * TotalVariation(), picture) is None


def test_the_layers_are_those_up_to_the_unit_and_it() -> None:
    network = load("planted")
    shape = Shape(3, 48, 48)
    found = path_layers(network, Channel("line", 0).resolve(network), shape)
    assert found == ("gabor", "complex", "line")
    assert path_layers(network, Channel("gabor", 0).resolve(network), shape) == ("gabor",)
    whole = path_layers(network, Channel("whole", 0).resolve(network), shape)
    assert len(whole) <= MOST_LAYERS
    assert whole[-1] == "whole"
    order = list(network.layers())
    assert [order.index(name) for name in whole] == sorted(order.index(name) for name in whole)


def test_a_path_is_the_same_every_time() -> None:
    network = load("planted")
    objective = Channel("line", 0).resolve(network)
    picture = pixels_of(pink_references().images([99], Shape(3, 48, 48))[0])
    paths = [path_of(Standards(network, pink_references(24)), objective, picture) for _ in "ab"]
    assert paths[0] == paths[1]
