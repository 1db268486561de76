"""Layers, units and views of networks whose numbers are worked out by hand."""

from collections.abc import Callable
from functools import cache

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from featviz.network.layers import Layer, Source, layers, totals
from featviz.network.trace import Trace, trace


def traced(module: nn.Module, *shape: int) -> tuple[Trace, dict[str, Layer]]:
    observed = trace(module, torch.zeros(*shape))
    return observed, layers(observed, module)


@cache
def resnet18() -> tuple[Trace, dict[str, Layer]]:
    return traced(torchvision.models.resnet18(weights=None), 1, 3, 224, 224)


@cache
def googlenet() -> tuple[Trace, dict[str, Layer]]:
    module = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False)
    return traced(module, 1, 3, 224, 224)


def operation_names(observed: Trace, layer: Layer) -> tuple[str | None, str]:
    """What is read at `pre` and `post`."""
    pre = None if layer.pre is None else observed.operations[layer.pre].name
    return pre, observed.operations[layer.post].name


class Toy(nn.Module):
    """Depthwise, grouped, transposed convolutions, a sum, a concatenation, a module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 16, 1, groups=2)
        self.twice = nn.Conv2d(8, 8, 1)
        self.pool = nn.MaxPool2d(2)
        self.join = Join()
        self.up = nn.ConvTranspose2d(24, 4, 2, stride=2)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(images)))  # 8 x 8
        shortcut = x
        x = self.twice(self.twice(x))
        x += shortcut
        y = functional.silu(self.grouped(self.depthwise(x)))
        x = self.join(self.pool(y), self.pool(shortcut))  # 4 x 4
        x = self.up(x)  # 8 x 8
        return self.head(self.dropout(x.mean((2, 3)))).sigmoid()


class Join(nn.Module):
    def forward(self, one: Tensor, two: Tensor) -> Tensor:
        return torch.cat((one, two), dim=1)


def test_the_toy_has_the_kinds_and_reads_written_down() -> None:
    observed, found = traced(Toy(), 2, 3, 8, 8)
    units = {name: layer for name, layer in found.items() if not layer.is_view}
    assert {name: (each.kind, each.channels, each.sites) for name, each in units.items()} == {
        "stem": ("conv", 8, (8, 8)),
        "twice": ("conv", 8, (8, 8)),
        "depthwise": ("depthwise conv", 8, (8, 8)),
        "grouped": ("grouped conv", 16, (8, 8)),
        "up": ("transposed conv", 4, (8, 8)),
        "head": ("linear", 5, ()),
    }
    assert {name: operation_names(observed, each) for name, each in units.items()} == {
        "stem": ("batch_norm", "relu"),
        "twice": (None, "conv2d"),  # a sum follows
        "depthwise": (None, "conv2d"),
        "grouped": ("conv2d", "silu"),
        "up": (None, "conv_transpose2d"),
        "head": ("linear", "sigmoid"),
    }
    in_order = "stem norm relu twice depthwise grouped pool join up dropout head"
    assert list(found) == in_order.split()


def test_the_toy_has_the_totals_written_down() -> None:
    count = totals(traced(Toy(), 2, 3, 8, 8)[1])
    assert count.layers == 6
    assert count.units == 8 + 8 + 8 + 16 + 4 + 5
    # stem, depthwise, grouped and up have 64 positions; twice has 64 in each of its two calls
    assert count.neurons == (8 + 8 + 16 + 4) * 64 + 8 * 128 + 5
    assert count.parameters == 216 + (64 + 8) + (72 + 8) + (64 + 16) + (24 * 4 * 4 + 4) + 25
    assert count.tying == count.neurons / count.units


def test_the_toy_has_the_views_written_down() -> None:
    _, found = traced(Toy(), 2, 3, 8, 8)
    grouped, stem = Source("grouped", 0, 16), Source("stem", 0, 8)
    assert (found["join"].kind, found["join"].sources) == ("concatenation", (grouped, stem))
    assert (found["pool"].kind, found["pool"].sources) == ("pool", (stem,))  # the last call
    assert (found["norm"].kind, found["norm"].sources) == ("normalization", (stem,))
    assert (found["relu"].kind, found["relu"].post) == ("activation", found["stem"].post)
    assert (found["dropout"].kind, found["dropout"].sites) == ("pool", ())
    assert found["dropout"].sources == (Source("up", 0, 4),)


def test_resnet18_counted_by_hand() -> None:
    # A stage of width w has 4 convolutions to w channels, the later three also a downsampling one:
    # 4 * 64, 5 * 128, 5 * 256, 5 * 512 units at 56, 28, 14, 7; conv1 64 at 112; fc 1000.
    # Weights: conv1 3 * 64 * 49; stage 1 4 * 64 * 64 * 9; stage 2 (64 + 3 * 128) * 128 * 9
    # + 64 * 128 = 524288, four times as many in each stage after it; fc 512 * 1000 + 1000.
    count = totals(resnet18()[1])
    assert count.layers == 1 + 16 + 3 + 1
    assert count.units == 64 + 256 + 640 + 1280 + 2560 + 1000
    assert count.neurons == (
        64 * 112**2 + 256 * 56**2 + 640 * 28**2 + 1280 * 14**2 + 2560 * 7**2 + 1000
    )
    assert count.parameters == 9408 + 147456 + 524288 * (1 + 4 + 16) + 513000


def test_the_relu_after_a_sum_belongs_to_the_sum() -> None:
    observed, found = resnet18()
    assert operation_names(observed, found["layer1.0.conv1"]) == ("batch_norm", "relu")
    assert operation_names(observed, found["layer1.0.conv2"]) == (None, "batch_norm")
    block = found["layer1.0"]
    assert (block.kind, block.is_view, block.sources) == ("sum", True, ())
    assert operation_names(observed, block) == (None, "relu")
    assert found["layer1.0.relu"].post == block.post  # called twice: the last call
    assert found["layer1.1"].post == found["layer1"].post
    assert "" not in found


def test_googlenet_counted_by_hand() -> None:
    # Output channels of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
    # (Szegedy et al. 2015, table 1)
    at_28 = sum((64, 96, 128, 16, 32, 32)) + sum((128, 128, 192, 32, 96, 64))
    at_14 = (
        sum((192, 96, 208, 16, 48, 64)) + sum((160, 112, 224, 24, 64, 64))
        + sum((128, 128, 256, 24, 64, 64)) + sum((112, 144, 288, 32, 64, 64))
        + sum((256, 160, 320, 32, 128, 128))
    )  # fmt: skip
    at_7 = sum((256, 160, 320, 32, 128, 128)) + sum((384, 192, 384, 48, 128, 128))
    convolutions = 64 + 64 + 192 + at_28 + at_14 + at_7
    count = totals(googlenet()[1])
    assert count.layers == 3 + 9 * 6 + 1
    assert count.units == convolutions + 1000 == 8280
    assert count.neurons == (
        64 * 112**2 + (64 + 192) * 56**2 + at_28 * 28**2 + at_14 * 14**2 + at_7 * 7**2 + 1000
    )
    # torchvision publishes 6 624 904 parameters, of which two for each normalized channel
    assert count.parameters == 6_624_904 - 2 * convolutions


def test_a_concatenation_is_the_units_that_it_joins() -> None:
    _, found = googlenet()
    block = found["inception3a"]
    assert (block.kind, block.channels, block.sites) == ("concatenation", 256, (28, 28))
    assert block.sources == (
        Source("inception3a.branch1.conv", 0, 64),
        Source("inception3a.branch2.1.conv", 0, 128),
        Source("inception3a.branch3.1.conv", 0, 32),
        Source("inception3a.branch4.1.conv", 0, 32),
    )
    assert found["maxpool3"].sources == found["inception3b"].sources
    branch = found["inception3a.branch1"]
    assert branch.post == found["inception3a.branch1.conv"].post
    assert branch.sources == block.sources[:1]
    assert branch.is_view


def test_efficientnet_lite0_subclasses_of_conv2d_count() -> None:
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    observed, found = traced(module, 1, 3, 224, 224)
    # stem; 16 blocks, the first without expansion: 15 * 3 + 2; head; classifier
    assert totals(found).layers == 1 + 15 * 3 + 2 + 1 + 1
    assert operation_names(observed, found["conv_stem"]) == ("batch_norm", "hardtanh")
    assert found["blocks.2.0.conv_dw"].kind == "depthwise conv"
    assert operation_names(observed, found["blocks.2.0.conv_pwl"]) == (None, "batch_norm")
    assert found["blocks.2.1"].kind == "sum"
    assert found["blocks.2"].post == found["blocks.2.1"].post
    assert found["global_pool"].sources == (Source("conv_head", 0, 1280),)


def test_vit_has_tokens() -> None:
    module = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    observed, found = traced(module, 1, 3, 224, 224)
    patches = found["patch_embed.proj"]
    assert (patches.channel_dim, patches.sites) == (1, (14, 14))
    hidden = found["blocks.3.mlp.fc1"]
    assert (hidden.channel_dim, hidden.sites, hidden.channels) == (2, (197,), 768)
    assert operation_names(observed, hidden) == ("linear", "gelu")
    assert (found["blocks.3"].kind, found["blocks.3"].channel_dim) == ("sum", 2)
    assert found["head"].sites == ()
    # patches; qkv, proj, fc1, fc2 in 12 blocks of width 192; head
    assert totals(found).units == 192 + 12 * (576 + 192 + 768 + 192) + 1000


def test_linear_layers_inside_torch_attention_are_units() -> None:
    module = torchvision.models.VisionTransformer(32, 8, 2, 2, hidden_dim=12, mlp_dim=20)
    _, found = traced(module, 1, 3, 32, 32)
    counted = totals(found)
    # patches; in_proj, out_proj, two of the MLP in 2 blocks; head
    assert counted.units == 12 + 2 * (36 + 12 + 20 + 12) + 1000
    assert counted.neurons == 16 * 12 + 17 * 2 * (36 + 12 + 20 + 12) + 1000
    assert counted.parameters == (
        12 * (192 + 1) + 2 * (36 * 13 + 12 * 13 + 20 * 13 + 12 * 21) + 1000 * 13
    )
    inside = "encoder.layers.encoder_layer_1.self_attention"
    assert found[f"{inside}.in_proj"].sites == found[f"{inside}.out_proj"].sites == (17,)
    assert (found[f"{inside}.in_proj"].kind, found[f"{inside}.in_proj"].pre) == ("linear", None)


def test_linear_layers_of_attention_windows_are_units() -> None:
    module = torchvision.models.SwinTransformer(
        [4, 4], 8, [2, 2], [2, 2], window_size=[2, 2], num_classes=3
    )
    _, found = traced(module, 1, 3, 32, 32)
    first, second = (8, 64), (16, 16)  # features, tokens of the two stages
    # patches; qkv, proj, two of the MLP in 2 blocks a stage; what merges patches; head
    assert totals(found).neurons == (
        8 * 64 + 2 * sum((3 + 1 + 4 + 1) * width * count for width, count in (first, second))
        + 16 * 16 + 3
    )  # fmt: skip
    assert totals(found).units == 8 + 2 * 9 * (8 + 16) + 16 + 3


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 2, stride=2)
        self.norm = nn.LayerNorm(6)
        self.linear = nn.Linear(6, 6)
        self.back = Permute(0, 3, 1, 2)
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return self.last(self.back(functional.gelu(self.linear(x))))


class Permute(nn.Module):
    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


def test_channels_last_maps_are_recognised() -> None:
    # 6 channels on a map of 6 x 5: sizes alone do not tell the axes apart
    observed, found = traced(ChannelsLast(), 1, 3, 12, 10)
    places = {name: (each.channel_dim, each.sites) for name, each in found.items()}
    assert places == {
        "conv": (3, (6, 5)),
        "norm": (3, (6, 5)),
        "linear": (3, (6, 5)),
        "back": (1, (6, 5)),
        "last": (1, (6, 5)),
    }
    assert operation_names(observed, found["conv"]) == (None, "layer_norm")
    assert operation_names(observed, found["linear"]) == ("linear", "gelu")


def test_conv1d_has_its_channels_first() -> None:
    _, found = traced(nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU()), 1, 2, 9)
    assert (found["0"].channel_dim, found["0"].sites, found["1"].channel_dim) == (1, (7,), 1)


def test_a_shared_weight_counts_once() -> None:
    one, two = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
    two.weight = one.weight
    _, found = traced(nn.Sequential(one, nn.ReLU(), two), 1, 3, 4, 4)
    assert (found["0"].is_view, found["2"].is_view) == (False, True)
    assert found["2"].sources == (Source("0", 0, 3),)
    count = totals(found)
    assert (count.units, count.neurons, count.parameters) == (3, 3 * 32, 9)


def test_weights_made_of_parameters_are_weights() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 1, bias=False))
    _, found = traced(nn.Sequential(conv), 1, 3, 4, 4)
    assert (found["0"].is_view, found["0"].parameters) == (False, 12 + 4)


def test_a_weight_that_the_parent_applies_belongs_to_its_module() -> None:
    class Parent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Linear(3, 7)

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x, self.part.weight)

    _, found = traced(Parent(), 2, 3)
    assert (found["part"].channels, found["part"].parameters) == (7, 21)


@pytest.mark.parametrize(
    "name", ["gelu", "hardswish", "mish", "elu", "leaky_relu", "tanh", "relu6"]
)
def test_a_nonlinearity_is_recognised_in_function_form(name: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return getattr(functional, name)(self.conv(x)) * 2

    observed, found = traced(Net(), 1, 3, 4, 4)
    assert operation_names(observed, found["conv"]) == ("conv2d", name)


def test_a_channel_shuffle_has_channels_but_no_sources() -> None:
    class Shuffle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(1, 2, 3, 4, 4).transpose(1, 2).reshape(1, 6, 4, 4)

    module = nn.Sequential(nn.Conv2d(3, 6, 1), Shuffle())
    _, found = traced(module, 1, 3, 4, 4)
    assert (found["1"].channels, found["1"].channel_dim, found["1"].sources) == (6, 1, ())


def test_a_piece_of_a_layer_is_not_that_layer() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.other = nn.Conv2d(2, 2, 1)
            self.join = Join()

        def forward(self, x: Tensor) -> Tensor:
            one, two = self.conv(x).chunk(2, dim=1)
            return self.join(functional.relu(one), self.other(two))

    observed, found = traced(Split(), 1, 3, 4, 4)
    assert operation_names(observed, found["conv"]) == (None, "conv2d")
    assert found["join"].sources == ()


class Two(nn.Module):
    """Two convolutions to 4 channels, joined by a function of both results; then a pool."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 1)
        self.two = nn.Conv2d(3, 4, 1)
        self.join = join
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.join(self.one(x), self.two(x)))


def rewritten(one: Tensor, _: Tensor) -> Tensor:
    one[:, 0] = 0.0
    return functional.relu(one)


@pytest.mark.parametrize(
    "join",
    [
        lambda one, two: functional.relu(one) + one + two,  # read twice
        lambda one, two: one.clamp(max=two),  # limited by the other
        lambda one, two: torch.cat((one, two), dim=2),  # one map under the other
        rewritten,
    ],
    ids=["branch", "mixed", "rows", "rewritten"],
)
def test_what_is_mixed_is_nobodys_own(join: Callable[[Tensor, Tensor], Tensor]) -> None:
    observed, found = traced(Two(join), 1, 3, 4, 4)
    assert operation_names(observed, found["one"]) == (None, "conv2d")
    assert found["pool"].sources == ()
