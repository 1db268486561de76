"""What stands in for a network's operations equals them, in value and gradient."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from networks import Everything, network_of
from torch import Tensor, nn
from torch.nn import functional

from featviz.engine.accelerated import accelerated
from featviz.engine.convolution import Beside, Convolution, Normalization, _Wider
from featviz.engine.objectives import Channel
from featviz.engine.operations import Rectifier, ResponseNormalization
from featviz.engine.recipe import default_recipe
from featviz.engine.slots import optimize_batch
from featviz.engine.stem import Folded, Unfolded
from featviz.network.googlenet_bvlc import GoogLeNetBvlc
from featviz.network.network import Network
from featviz.network.recording import Prefix
from featviz.network.zoo import load

SIZE = 64


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def both(function: Callable[[Tensor], Tensor], values: Tensor) -> tuple[Tensor, Tensor]:
    """A result, and its gradient for weights that tell its places apart."""
    given = values.clone().requires_grad_()
    result = function(given * 1)  # not a leaf: it may be overwritten
    (gradient,) = torch.autograd.grad((result * noise(*result.shape, seed=9)).sum(), given)
    return result.detach(), gradient


def assert_same(
    one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], values: Tensor
) -> None:
    for mine, theirs in zip(both(one, values), both(other, values), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)  # float64 rounding


def perturbed(module: nn.Module) -> nn.Module:
    """Statistics of normalizations that are not 0 and 1, as training leaves them."""
    for index, part in enumerate(module.modules()):
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = 0.1 * noise(part.num_features, seed=index)
            part.running_var = 0.5 + noise(part.num_features, seed=index + 1).square()
    return module


class Awkward(nn.Module):
    """What must not be replaced: read twice, overwritten by the network, a weight that is made."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.first = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)
            self.second = nn.Conv2d(4, 4, 3, stride=2)
            self.mixed = nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        raw = self.first(images)
        maps = self.norm(raw) + raw
        clipped = functional.relu6(maps)
        clipped += 0.5
        maps = self.second(functional.pad(clipped, (0, 1, 1, 0)))
        weight = self.mixed.weight * maps.mean()
        return functional.relu(functional.conv2d(maps, weight)) + maps


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "everything": Everything,
    "awkward": Awkward,
    "googlenet_bvlc": GoogLeNetBvlc,
    "resnet18": lambda: torchvision.models.resnet18(weights=None),
    "densenet121": lambda: torchvision.models.densenet121(weights=None),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(weights=None),
    "efficientnet": lambda: timm.create_model("tf_efficientnet_lite0", pretrained=False),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_readable_value_and_its_gradient_stay_what_they_were(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = network_of(perturbed(NETWORKS[name]()), rows=SIZE, columns=SIZE)
    images = noise(2, 3, SIZE, SIZE) * 0.2 + 0.5
    plan = accelerated(network, SIZE, SIZE)
    assert plan.rewrites, "a plan that is wrong is dropped, and would equal anything"
    keys = [key for key, layer in network.layers().items() if layer.sites or key == "head"]
    chosen = [*keys[:3], *keys[len(keys) // 2 : len(keys) // 2 + 2], keys[-1]]
    for key in chosen:
        prefix = Prefix(network, [key, *keys[:1]], rows=SIZE, columns=SIZE)

        def plain(seen: Tensor, prefix: Prefix = prefix, key: str = key) -> Tensor:
            return prefix(seen)[key]

        def fast(seen: Tensor, prefix: Prefix = prefix, key: str = key) -> Tensor:
            return prefix(seen, substitute=plan)[key]

        def fastest(seen: Tensor, prefix: Prefix = prefix, key: str = key) -> Tensor:
            return prefix(seen, substitute=plan.reading(prefix.wanted.operations))[key]

        assert_same(fast, plain, images)
        assert_same(fastest, plain, images)


def test_a_gradient_that_somebody_else_has_is_not_overwritten() -> None:
    network = network_of(perturbed(NETWORKS["mobilenet_v2"]()), rows=SIZE, columns=SIZE)
    plan = accelerated(network, SIZE, SIZE)
    owned = [i for (i, _), each in plan.rewrites.items() if getattr(each, "has_own_gradient", 0)]
    assert len(owned) > 20
    layers = network.layers(SIZE, SIZE)
    key = next(key for key, layer in layers.items() if layer.post == owned[5])
    prefix = Prefix(network, [key], rows=SIZE, columns=SIZE)
    images = (noise(2, 3, SIZE, SIZE) * 0.2 + 0.5).requires_grad_()
    value = prefix(images, substitute=plan.reading(prefix.wanted.operations))[key]
    mine = torch.ones_like(value)
    torch.autograd.grad(value, images, mine)
    assert bool((value == 0).any())
    assert bool((mine == 1).all())


def test_what_can_be_addressed_is_never_skipped() -> None:
    """A mate that reads it must not change what the others compute."""
    network = load()
    plan = accelerated(network, 128, 128)
    skipped = {index for (index, _), each in plan.rewrites.items() if each is None}
    layers = network.layers(128, 128).values()
    normalized = {layer.pre for layer in layers} | {layer.post for layer in layers}
    conv = {i for (i, name), each in plan.rewrites.items() if name == "conv2d" and each is not None}
    assert len(skipped) > 40
    assert not (conv - {layer.post for layer in layers}) & normalized
    pads = {i for (i, name), each in plan.rewrites.items() if name == "pad"}
    assert pads <= skipped
    assert not pads & normalized


def test_the_network_is_as_it_was(everything: Network) -> None:
    before = {name: value.clone() for name, value in everything.module.state_dict().items()}
    accelerated(everything, 12, 10)
    assert all(torch.equal(before[n], v) for n, v in everything.module.state_dict().items())
    assert not any(part._forward_hooks for part in everything.module.modules())


@pytest.fixture(scope="module")
def everything() -> Network:
    return network_of(Everything())


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (3, 3), (2, 1)])
@pytest.mark.parametrize("kernel", [3, 4, 7])
def test_a_stems_gradient_is_torchs(kernel: int, padding: tuple[int, int]) -> None:
    weight, bias = noise(5, 3, kernel, kernel, seed=1), noise(5, seed=2)
    mine = Convolution(weight, bias, (2, 2), padding, (1, 1), 1)
    assert mine._way_back(noise(2, 3, 16, 12)) is not None
    for rows, columns in ((16, 12), (15, 13)):
        images = noise(2, 3, rows, columns)
        expected = lambda seen: functional.conv2d(seen, weight, bias, 2, padding)  # noqa: E731
        assert_same(mine, expected, images)


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (3, 3), (2, 1), (0, 4)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("side", [2, 4])
def test_a_stems_gradient_comes_in_blocks(kernel: int, padding: tuple[int, int], side: int) -> None:
    weight, images = noise(5, 3, kernel, kernel, seed=1), noise(2, 3, 16, 12)
    images.requires_grad_()
    result = functional.conv2d(images, weight, None, 2, padding)
    coming = noise(*result.shape, seed=2)
    (expected,) = torch.autograd.grad(result, images, coming)
    found = Folded.of(weight, padding, side)(coming, 16, 12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)  # float64 rounding


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (3, 3), (2, 1)])
@pytest.mark.parametrize("kernel", [3, 4, 7])
def test_a_stem_on_pairs_of_pixels_is_the_convolution(
    kernel: int, padding: tuple[int, int]
) -> None:
    weight, bias = noise(5, 3, kernel, kernel, seed=1), noise(5, seed=2)
    mine = Unfolded.of(weight, bias, padding)
    assert mine is not None
    images = noise(2, 3, 16, 12)
    expected = functional.conv2d(images, weight, bias, 2, padding)
    torch.testing.assert_close(mine(images), expected, rtol=0, atol=1e-12)  # float64 rounding


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_wider_convolution_keeps_its_first_outputs(*, has_bias: bool) -> None:
    weight, bias = noise(192, 4, 3, 3, seed=1), noise(192, seed=2) if has_bias else None
    plain = Convolution(weight, bias, (1, 2), (1, 0), (1, 1), 1)
    assert len(plain.wider.weight) == 256
    rectifier = Rectifier(0.0, 6.0, overwrites=True)
    assert_same(
        lambda seen: rectifier(_Wider.apply(seen, plain)),
        lambda seen: plain.plain(seen).clamp(0, 6),
        noise(2, 4, 7, 9).contiguous(memory_format=torch.channels_last),
    )


@pytest.mark.parametrize("sides", [(0, 1, 0, 1), (1, 1, 1, 1), (1, 2, 2, 1), (1, 0, 0, 0)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_takes_in_a_padding(sides: tuple[int, int, int, int], stride: int) -> None:
    weight = noise(6, 1, 3, 3, seed=1)
    plain = Convolution(weight, None, (stride, stride), (0, 0), (1, 1), 6)
    mine = plain.after(sides)
    assert mine is not None
    padded = lambda seen: plain(functional.pad(seen, sides))  # noqa: E731
    assert_same(mine, padded, noise(2, 6, 11, 12))


def test_a_padding_that_would_cost_more_is_left() -> None:
    plain = Convolution(noise(6, 1, 3, 3), None, (1, 1), (0, 0), (1, 1), 6)
    assert plain.after((0, 2, 0, 2)) is None
    assert plain.after((-1, 0, 0, 0)) is None
    dilated = Convolution(noise(6, 1, 3, 3), None, (1, 1), (0, 0), (2, 2), 6)
    assert dilated.after((0, 1, 0, 1)) is None


@pytest.mark.parametrize("has_bias", [False, True])
def test_a_convolution_takes_in_a_normalization(*, has_bias: bool) -> None:
    bias = noise(5, seed=2) if has_bias else None
    plain = Convolution(noise(5, 3, 3, 3, seed=1), bias, (1, 1), (1, 1), (1, 1), 1)
    normalization = Normalization(noise(5, seed=3), noise(5, seed=4))
    chained = lambda seen: normalization(plain(seen))  # noqa: E731
    assert_same(plain.then(normalization), chained, noise(2, 3, 9, 8))


@pytest.mark.parametrize("size", [1, 4, 5])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_response_normalization_is_torchs(size: int, beta: float) -> None:
    mine = ResponseNormalization(size, alpha=0.3, beta=beta, k=1.5)
    theirs = nn.LocalResponseNorm(size, alpha=0.3, beta=beta, k=1.5)
    assert_same(mine, theirs, noise(2, 7, 4, 5))


@pytest.mark.parametrize("overwrites", [False, True])
@pytest.mark.parametrize("bounds", [(0.0, float("inf")), (0.0, 0.6), (-0.4, 0.4)])
def test_a_rectifier_is_torchs(bounds: tuple[float, float], *, overwrites: bool) -> None:
    mine = Rectifier(*bounds, overwrites=overwrites)
    assert_same(mine, lambda seen: seen.clamp(*bounds), noise(3, 4, 5, 5))


def test_rows_are_redirected_as_the_definition_does_it() -> None:
    """Rows 0 and 2 are silent everywhere; only rows 0 and 1 may be redirected."""
    from featviz.engine.redirect import redirected

    values = noise(3, 2, 4, 4)
    values[0], values[2] = -values[0].abs() - 0.1, -values[2].abs() - 0.1
    rows = torch.tensor([True, True, False])

    def definition(seen: Tensor) -> Tensor:
        result = redirected(0, "relu6", (seen,), {}, rows=rows)
        assert result is not None
        return result

    def mine(seen: Tensor) -> Tensor:
        return Rectifier(0.0, 6.0, overwrites=True)(seen, rows)

    assert_same(mine, definition, values)
    _, gradient = both(mine, values)
    assert gradient[0].any()
    assert not gradient[2].any()


def _gate(values: Tensor) -> Tensor:
    return values.mean(dim=1, keepdim=True) * 2 - values


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    hidden = torch.jit.script(_gate)  # torch functions in there are not seen by a trace


class HiddenReader(nn.Module):
    """The rectifier's and the normalization's inputs are read again where no trace looks."""

    def __init__(self, *, normalizes: bool) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4) if normalizes else nn.ReLU()
            self.last = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        raw = self.conv(images)
        return self.last(self.norm(raw) + hidden(raw))


class MadeKernel(nn.Module):
    """A constant picture under a kernel that is made from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("template", noise(1, 3, 9, 9, seed=5))
        self.read = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        kernel = self.read(images).mean(dim=(2, 3))[0].view(4, 1, 1, 1).expand(4, 3, 1, 1)
        return torch.relu(functional.conv2d(self.get_buffer("template"), kernel))


class OtherNorm(nn.Module):
    """`torch.batch_norm`, which has another order of arguments than torch.nn.functional's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        ones = torch.ones(4, dtype=maps.dtype)
        maps = torch.batch_norm(
            maps, ones, ones, ones, 2 * ones, training=False, momentum=0.1, eps=1e-5,
            cudnn_enabled=False,
        )  # fmt: skip
        return self.last(torch.relu(maps))


@pytest.mark.parametrize(
    "module",
    [HiddenReader(normalizes=True), HiddenReader(normalizes=False), MadeKernel(), OtherNorm()],
    ids=["scripted, norm", "scripted, rectifier", "kernel", "torch.batch_norm"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_trace_cannot_see_is_noticed(module: nn.Module) -> None:
    network = network_of(perturbed(module), rows=12, columns=12)
    images = noise(1, 3, 12, 12) * 0.2 + 0.5
    plan = accelerated(network, 12, 12)
    key = list(network.layers())[-1]
    prefix = Prefix(network, [key], rows=12, columns=12)
    for substitute in (plan, plan.reading(prefix.wanted.operations)):
        assert_same(
            lambda seen, substitute=substitute: prefix(seen, substitute=substitute)[key],
            lambda seen: prefix(seen)[key],
            images,
        )


def test_few_sizes_are_kept() -> None:
    from featviz.engine.accelerated import MOST_SIZES, _known

    network = network_of(Everything())
    plans = [accelerated(network, 12 + extra, 10) for extra in range(MOST_SIZES + 2)]
    assert len(_known[network]) == MOST_SIZES
    assert accelerated(network, 12 + MOST_SIZES + 1, 10) is plans[-1]


def test_tokens_before_the_batch_are_not_taken_for_pictures() -> None:
    """Redirected gradients are told apart by picture; there they are left as they are."""

    class TokensFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 4, stride=4)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=False)
            self.head = nn.Linear(8, 3)

        def forward(self, images: Tensor) -> Tensor:
            tokens = self.conv(images).flatten(2).permute(2, 0, 1)
            return self.head(self.layer(tokens).mean(dim=0))

    network = network_of(TokensFirst(), rows=16, columns=16, dtype=torch.float32)
    asked = [default_recipe(network, Channel("head", i), steps=3) for i in range(2)]
    assert optimize_batch(network, asked).is_finite.all()


def test_plans_for_several_sizes_share_their_convolutions() -> None:
    network = network_of(Everything())
    plans = [accelerated(network, *size).rewrites for size in ((12, 10), (20, 18))]
    shared = [
        (mine, plans[1][key]) for key, mine in plans[0].items() if isinstance(mine, Convolution)
    ]
    assert shared
    assert all(mine is theirs for mine, theirs in shared)


def test_convolutions_that_differ_in_anything_are_not_alike() -> None:
    weight, bias = noise(4, 3, 3, 3), noise(4, seed=1)
    own = Convolution(weight, bias, (1, 1), (1, 1), (1, 1), 1)
    assert own.is_like(Convolution(weight.clone(), bias.clone(), (1, 1), (1, 1), (1, 1), 1))
    others = [
        Convolution(weight + 1e-12, bias, (1, 1), (1, 1), (1, 1), 1),
        Convolution(weight, None, (1, 1), (1, 1), (1, 1), 1),
        Convolution(weight, bias + 1, (1, 1), (1, 1), (1, 1), 1),
        Convolution(weight, bias, (2, 1), (1, 1), (1, 1), 1),
        Convolution(weight, bias, (1, 1), (1, 0), (1, 1), 1),
        replace(own, held=Beside((0.0, 6.0), (3,))),
        replace(own, within=Beside((0.0, 6.0), (3,))),
    ]
    assert not any(own.is_like(each) for each in others)
