"""A picture is as large as the unit's field and the transforms' reach, but not above native."""

import math

import pytest
import torch
from networks import Everything, network_of
from torch import Tensor, nn

from featviz.engine.objectives import Channel, Logit, Neuron
from featviz.engine.penalties import TotalVariation
from featviz.engine.recipe import default_recipe
from featviz.engine.sizing import GRAIN_PX, LEAST_PX, _field_px, auto_size
from featviz.errors import DoesNotFit, UnknownName
from featviz.image.transforms import Flip, Jitter, Noise, Rotate, Scale, Stack, standard
from featviz.image.warp import rotation
from featviz.network.network import Network
from featviz.network.zoo import load

NATIVE = 256


class Chain(nn.Module):
    """Four convolutions of stride 2: fields of 3, 7, 15 and, with a 9 wide kernel, 79 px; a mean.

    The ReLU after weights of zero hides nothing of what a neuron could see.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 2, 3, stride=2, padding=1)
        self.b = nn.Conv2d(2, 2, 3, stride=2, padding=1)
        self.c = nn.Conv2d(2, 2, 3, stride=2, padding=1)
        self.d = nn.Conv2d(2, 2, (9, 1), stride=1, padding=(4, 0))
        self.head = nn.Linear(2, 2)
        nn.init.zeros_(self.b.weight)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.c(torch.relu(self.b(torch.relu(self.a(images)))))
        return self.head(self.d(maps).mean(dim=(2, 3)))


FIELDS_PX = {"a": (3, 3), "b": (7, 7), "c": (15, 15), "d": (79, 15)}


@pytest.fixture(scope="module")
def chain() -> Network:
    return network_of(Chain(), rows=NATIVE, columns=NATIVE)


@pytest.mark.parametrize("layer", FIELDS_PX)
def test_a_field_is_measured_to_a_sixteenth_of_the_picture(chain: Network, layer: str) -> None:
    """Both ends are found to a 32nd, and never too near."""
    for found, true in zip(_field_px(chain, layer), FIELDS_PX[layer], strict=True):
        assert true <= found <= true + NATIVE / 16 + 2


def test_sizes_grow_with_the_field_and_the_transforms(chain: Network) -> None:
    plain = Stack()
    assert auto_size(chain, ["a"], plain) == (LEAST_PX, LEAST_PX)
    rows, columns = auto_size(chain, ["d"], plain)
    assert 79 <= rows <= 79 + 16 + GRAIN_PX
    assert columns == LEAST_PX
    assert rows % GRAIN_PX == 0
    moved, _ = auto_size(chain, ["d"], Stack((Jitter(20),)))
    assert moved == rows + 2 * 20 + (-2 * 20) % GRAIN_PX
    assert auto_size(chain, ["a", "d"], plain) == (rows, columns)


def test_a_field_without_bounds_gets_the_native_size(chain: Network) -> None:
    assert auto_size(chain, ["head"], standard()) == (NATIVE, NATIVE)
    assert default_recipe(chain, Logit(1)).shape.rows == NATIVE


def test_no_picture_is_larger_than_the_native_size() -> None:
    tiny = network_of(Everything())
    assert auto_size(tiny, ["third"], standard()) == (12, 10)


def test_a_network_of_one_size_gets_that_size() -> None:
    transformer = load("timm:vit_tiny_patch16_224", weights="none")
    assert auto_size(transformer, ["patch_embed.proj"], standard()) == (224, 224)


def test_recipes_have_it_unless_told_otherwise(chain: Network) -> None:
    expected = auto_size(chain, ["d"], standard())
    for settings in ({}, {"size": "auto"}, {"size": None}):
        shape = default_recipe(chain, Channel("d", 1), **settings).shape
        assert (shape.rows, shape.columns) == expected
    assert default_recipe(chain, Channel("d", 1), size=40).shape.rows == 40
    both = default_recipe(chain, Neuron("a", 0) + Channel("d", 1) - TotalVariation())
    assert (both.shape.rows, both.shape.columns) == expected
    wide = default_recipe(chain, Channel("d", 1), transforms=Stack((Jitter(30),)))
    assert wide.shape.rows > expected[0]
    with pytest.raises(DoesNotFit, match='"auto"'):
        default_recipe(chain, Channel("d", 1), size="large")
    with pytest.raises(UnknownName):
        default_recipe(chain, Channel("nowhere", 1))


def test_the_reach_of_a_stack_is_how_far_it_moves_a_place() -> None:
    """The farthest of many draws comes close to it, and none goes beyond."""
    stack = Stack((Jitter(4), Scale(0.9, 1.2), Flip(0.5), Noise(0.1)))
    assert stack.reach_px(50.0) == pytest.approx(4 + 54 * (1 - 1 / 1.2))
    assert Stack().reach_px(50.0) == 0
    turn = Rotate(10.0)
    assert turn.reach_px(50.0) == pytest.approx(2 * 50 * math.sin(math.radians(5)))
    angles = torch.linspace(-10, 10, 21, dtype=torch.float64)
    maps = rotation(angles, center=(0.0, 0.0))
    moved = (maps @ torch.tensor([50.0, 0.0, 1.0], dtype=torch.float64)) - torch.tensor([50.0, 0.0])
    assert moved.norm(dim=1).max() == pytest.approx(turn.reach_px(50.0))
