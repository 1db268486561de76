"""Layers in which the pictures of a batch are not the first axis are read picture by picture."""

import numpy as np
import pytest
import torch
from evaluation import EXACT, pictures
from networks import network_of
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from featviz.engine.execution import execution
from featviz.engine.objectives import Channel, Neuron
from featviz.engine.recipe import default_recipe
from featviz.engine.render import render_each
from featviz.network.layers import Layer, layers
from featviz.network.network import Network
from featviz.network.places import FIRST, Place
from featviz.network.recording import record
from featviz.network.trace import trace

TOKENS, FEATURES = 30, 8


class Attentive(nn.Module):
    """Patches (5x6 of 8 features), windows of 5 tokens, torch's attention, a head."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.patches = nn.Conv2d(3, FEATURES, 2, stride=2)
            self.inside = nn.Linear(FEATURES, 7)
            self.back = nn.Linear(7, FEATURES)
            self.attention = nn.MultiheadAttention(FEATURES, 2, **settings)  # type: ignore[arg-type]
            self.head = nn.Linear(FEATURES, 4)
            for weight in self.parameters():
                nn.init.normal_(weight, std=0.5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        windows = tokens.reshape(-1, 5, FEATURES)
        tokens = tokens + self.back(functional.gelu(self.inside(windows))).view(tokens.shape)
        if not self.attention.batch_first:
            tokens = tokens.transpose(0, 1)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head(mixed.mean(dim=1 if self.attention.batch_first else 0))


def by_hand(network: Network, images: Tensor) -> dict[str, Tensor]:
    """Every layer's values as (picture, token, channel), from formulas."""
    weight = network.module.get_parameter
    applied = lambda x, name: x @ weight(f"{name}weight").T + weight(f"{name}bias")  # noqa: E731
    maps = functional.conv2d(
        network.to_input(images), weight("patches.weight"), weight("patches.bias"), stride=2
    )
    tokens = maps.flatten(2).transpose(1, 2)
    said = {"inside/pre": applied(tokens, "inside.")}
    said["inside"] = functional.gelu(said["inside/pre"])
    said["back"] = applied(said["inside"], "back.")
    said["attention.in_proj"] = applied(tokens + said["back"], "attention.in_proj_")
    heads = said["attention.in_proj"].view(len(images), TOKENS, 3, 2, FEATURES // 2)
    queries, keys, values = heads.permute(2, 0, 3, 1, 4)
    shares = (queries @ keys.transpose(2, 3) / (FEATURES // 2) ** 0.5).softmax(dim=3)
    mixed = (shares @ values).transpose(1, 2).flatten(2)
    said["attention.out_proj"] = applied(mixed, "attention.out_proj.")
    said["head"] = applied(said["attention.out_proj"].mean(dim=1), "head.")
    return said


@pytest.fixture(params=[True, False], ids=["batch first", "tokens first"])
def attentive(request: pytest.FixtureRequest) -> Network:
    return network_of(Attentive(batch_first=request.param))


@pytest.mark.parametrize("count", [1, 3])
def test_values_are_those_of_the_formulas(attentive: Network, count: int) -> None:
    images = pictures(count)
    expected = by_hand(attentive, images)
    with record(attentive, expected) as recorded:
        output = attentive(images)
    assert set(recorded) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(recorded[key], value, **EXACT)
    torch.testing.assert_close(output, expected["head"], **EXACT)


def test_where_the_pictures_are(attentive: Network) -> None:
    found = attentive.layers()
    assert {key: layer.place for key, layer in found.items() if layer.place} == {
        "inside": Place(axis=0, share=6, before=1),
        "back": Place(axis=0, share=6, before=1),
        "attention.in_proj": Place(axis=1, share=1, before=30),
        "attention.out_proj": Place(axis=0, share=30, before=30),
    }
    assert all(found[key].sites == (TOKENS,) for key in found if found[key].place)


@pytest.mark.parametrize(
    ("place", "shape"),
    [
        (FIRST, (3, 5, 2)),
        (Place(axis=1, share=1, before=4), (4, 3, 2)),
        (Place(axis=0, share=4, before=4), (12, 2)),
        (Place(axis=0, share=4, before=1), (12, 5, 2)),
        (Place(axis=1, share=4, before=10), (5, 12, 2)),
    ],
)
def test_flags_meet_the_values_of_their_picture(place: Place, shape: tuple[int, ...]) -> None:
    numbers = torch.arange(3.0)
    values = place.spread(numbers == 1, shape).expand(shape).double()
    said = place.by_picture(values, len(shape) - 1) if place != FIRST else values
    assert said.shape[0] == place.count(shape) == 3
    assert said.shape[-1] == 2
    assert said.flatten(1).mean(dim=1).tolist() == [0, 1, 0]


class Kind(nn.Module):
    """A linear layer on tokens (4 of 6 features) arranged in one way or another."""

    def __init__(self, arrange: str) -> None:
        super().__init__()
        self.arrange = arrange
        self.linear = nn.Linear(6, 6)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2)[:, :2].reshape(-1, 4, 6)
        if self.arrange == "nested":
            return self.linear(tokens.view(-1, 2, 2, 6).transpose(0, 1).reshape(-1, 2, 6))
        if self.arrange == "one token":
            return self.linear(tokens[:, :1].transpose(0, 1))
        if self.arrange == "mixed":
            return self.linear(tokens.flatten(0, 1).roll(1, 0))
        return self.linear(tokens.mean(dim=0))


def layer_of(arrange: str, seed: int = 0) -> dict[str, Layer]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Kind(arrange)
    observed = trace(module, torch.zeros(1, 3, 3, 4))
    return layers(observed, module)


def test_pictures_between_other_entries_and_single_tokens() -> None:
    assert layer_of("nested")["linear"].place == Place(axis=0, share=2, before=2)
    assert layer_of("one token")["linear"].place == Place(axis=1, share=1, before=1)


@pytest.mark.parametrize("arrange", ["mixed", "none"])
def test_layers_without_a_place_for_each_picture_are_not_addressable(arrange: str) -> None:
    assert all(layer_of(arrange, seed) == {} for seed in range(100))


class Particular(nn.Module):
    """A convolution that does not take more than one picture, or remembers what it has seen."""

    def __init__(self, *, takes_many: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.takes_many = takes_many
        self.register_buffer("mean", torch.zeros(()))
        self.kept: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 1 and not self.takes_many:
            raise TypeError
        maps = self.conv(images)
        if self.kept is None:
            self.kept = maps.new_ones(()) * 2
        self.get_buffer("mean").add_(maps.mean())
        return maps * self.kept


def test_networks_that_refuse_a_batch_are_read_as_they_are() -> None:
    module = Particular(takes_many=False)
    observed = trace(module, torch.zeros(1, 3, 4, 4))
    assert observed.places == {}
    assert layers(observed, module)["conv"].channels == 4


def test_a_network_that_keeps_something_is_traced_as_it_runs_from_then_on() -> None:
    network = network_of(Particular(takes_many=True))
    with record(network, ["conv"]) as recorded:
        network(pictures(2))
    assert recorded["conv"].shape == (2, 4, 12, 10)
    assert network.trace().operations[-1].name == "mul"
    assert [each.name for each in network.trace().operations].count("new_ones") == 0
    assert network.module.get_buffer("mean").isfinite()


def test_weights_with_names_of_their_own_are_layers() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value_weight = nn.Parameter(torch.ones(5, 3))
            self.weight_two = nn.Parameter(torch.ones(2, 5))
            self.key_weight = nn.Parameter(torch.ones(7, 2))
            self.key = nn.Linear(7, 6)
            self.sliced_weight = nn.Parameter(torch.ones(3, 12))

        def forward(self, images: Tensor) -> Tensor:
            values = functional.linear(images.mean(dim=(2, 3)), self.value_weight)
            keys = self.key(
                functional.linear(functional.linear(values, self.weight_two), self.key_weight)
            )
            half = self.sliced_weight.chunk(2, dim=1)
            return functional.linear(keys, half[0]) + functional.linear(keys, half[1])

    module = torch.nn.Sequential(Named())
    nn.utils.parametrizations.weight_norm(module[0], "value_weight")
    prune.identity(module[0], "key_weight")
    observed = trace(module, torch.zeros(1, 3, 4, 4))
    found = layers(observed, module)
    counts = [(key, layer.channels) for key, layer in found.items() if not layer.is_view]
    assert counts == [("0.value", 5), ("0.weight_two", 2), ("0.key_weight", 7), ("0.key", 6)]


def test_what_does_not_depend_on_the_pictures_is_not_addressable() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.table = nn.Conv2d(3, 4, 1), nn.Linear(2, 4)
            self.norm = nn.LayerNorm(4)

        def forward(self, images: Tensor) -> Tensor:
            bias = self.norm(self.table(images.new_ones(1, 2)))
            return self.conv(images) + bias[..., None, None]

    module = Constant()
    assert list(layers(trace(module, torch.zeros(1, 3, 4, 4)), module)) == ["conv"]


def test_attention_with_keys_of_another_width_has_three_layers() -> None:
    class Cross(nn.Module):
        def __init__(self, **settings: object) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 2, stride=2)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **settings)  # type: ignore[arg-type]

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.conv(images).flatten(2).transpose(1, 2)
            width = self.attention.kdim
            return self.attention(tokens[:, :3], tokens[..., :width], tokens[..., :width])[0]

    network = network_of(Cross(kdim=5, vdim=5))
    units = {key: layer for key, layer in network.layers().items() if not layer.is_view}
    parts = [f"attention.{part}" for part in ("q_proj", "k_proj", "v_proj", "out_proj")]
    assert list(units) == ["conv", *parts]
    assert [units[part].sites for part in parts] == [(3,), (30,), (30,), (3,)]
    packed = network_of(Cross()).layers()  # one weight, applied in pieces
    assert [key for key in packed if not packed[key].is_view] == ["conv", "attention.out_proj"]


def test_a_picture_of_an_attention_unit_does_not_depend_on_its_mates() -> None:
    network = network_of(Attentive(batch_first=True))
    keys = ("inside", "attention.in_proj", "attention.out_proj", "head")
    asked = [
        default_recipe(network, objective, seed=seed, steps=12)
        for seed, key in enumerate(keys)
        for objective in (Channel(key, 1), Neuron(key, 2))
    ]
    how = execution(slots=len(asked), dtype="float64")
    together = {p.recipe.digest: p for p in render_each(network, asked, how)}
    for recipe in asked:
        (alone,) = render_each(network, [recipe], how)
        mate = together[recipe.digest]
        assert alone.course == pytest.approx(mate.course, abs=1e-9)
        assert np.abs(np.diff(alone.course)).min() > 1e-6  # each step moved the picture
