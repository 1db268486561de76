"""What holds on a CUDA device: the definition, the bits of strangers, the plan in bfloat16."""

from collections.abc import Iterator

import pytest
import torch
from networks import Everything, network_of

from featviz.engine.accelerated import accelerated
from featviz.engine.convolution import Convolution
from featviz.engine.execution import execution
from featviz.engine.objectives import Channel
from featviz.engine.optimize import optimize
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import reproducible
from featviz.engine.slots import optimize_batch
from featviz.network.network import Network
from featviz.network.zoo import load

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def _same_bits() -> Iterator[None]:
    with reproducible():
        yield


@pytest.fixture(scope="module")
def small() -> Network:
    return network_of(Everything(), dtype=torch.float32)


@pytest.fixture(scope="module")
def pooled() -> Network:
    """Padding, strides, normalizations, pools, concatenations: GoogLeNet with random weights."""
    return load("torchvision:googlenet", weights="none")


def asked(network: Network, layer: str, count: int, *, steps: int, size: int) -> list[Recipe]:
    return [
        default_recipe(network, Channel(layer, i % 3), seed=i, steps=steps, size=size)
        for i in range(count)
    ]


@pytest.mark.parametrize(("layer", "size"), [("conv3", 64), ("inception3a", 64)])
def test_the_batched_loop_is_the_definition_on_a_cpu(
    layer: str, size: int, pooled: Network
) -> None:
    recipes = asked(pooled, layer, 3, steps=4, size=size)
    done = optimize_batch(pooled.at("cuda", torch.float32), recipes)
    for row, recipe in enumerate(recipes):
        values = torch.stack([each.values for each in optimize(pooled, recipe)])[:-1, 0]
        course = done.course[:, row].cpu()
        torch.testing.assert_close(course[:2], values[:2], rtol=1e-3, atol=1e-6)
        # Adam's first steps are as long where the gradient is rounding as anywhere.
        torch.testing.assert_close(course, values, rtol=5e-2, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_strangers_to_the_bit(dtype: torch.dtype, pooled: Network) -> None:
    placed = pooled.at("cuda", dtype)
    recipes = asked(placed, "inception3b", 4, steps=24, size=64)
    whole = optimize_batch(placed, recipes)
    others = asked(placed, "inception3a", 3, steps=24, size=64)
    moved = optimize_batch(placed, [*others, recipes[1]])
    again = optimize_batch(placed, [recipes[1], *others])
    for found, row in ((moved, 3), (again, 0)):
        assert torch.equal(found.images[row], whole.images[1])
        assert torch.equal(found.course[:, row], whole.course[:, 1])


def test_what_is_read_before_a_rectifier_changes_no_mate(pooled: Network) -> None:
    """Where nobody reads it a convolution leaves its bias to the rectifier: for the same bits."""
    placed = pooled.at("cuda", torch.bfloat16)
    mine = asked(placed, "inception3a", 1, steps=8, size=64)[0]
    before = next(key for key in placed.layers() if key.endswith("3a.branch1.conv")) + "/pre"
    compare_beside(placed, mine, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_read_before_a_depthwise_rectifier_changes_no_mate(dtype: torch.dtype) -> None:
    placed = load().at("cuda", dtype)
    before = next(key for key in placed.layers() if key.endswith("1.0.conv_dw")) + "/pre"
    compare_beside(placed, asked(placed, "blocks.2", 1, steps=8, size=64)[0], before)


def compare_beside(placed: Network, mine: Recipe, before: str) -> None:
    """Asserts that a picture is the same whether a mate reads what its plan has held, or not."""
    plan = accelerated(placed, 64, 64).rewrites.values()
    beside = [each.held for each in plan if isinstance(each, Convolution) and each.held]
    assert any(placed.operation(before, 64, 64) in each.between for each in beside)
    other = default_recipe(placed, Channel(before, 0), steps=8, size=64)
    alone, beside = optimize_batch(placed, [mine, mine]), optimize_batch(placed, [mine, other])
    assert torch.equal(alone.course[:, 0], beside.course[:, 0])
    assert torch.equal(alone.images[0], beside.images[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_default", [False, True])
def test_the_cheaper_operations_are_used(
    dtype: torch.dtype,
    pooled: Network,
    is_default: bool,  # noqa: FBT001
) -> None:
    network = load() if is_default else pooled
    plan = accelerated(network.at("cuda", dtype), 64, 64).rewrites.values()
    wanted = {"Convolution", "Rectifier", "NoneType"} | (set() if is_default else {"MaxPool"})
    assert wanted <= {type(each).__name__ for each in plan}
    convolutions = [each for each in plan if isinstance(each, Convolution)]
    assert any(each._by_place is not None for each in convolutions) == is_default
    assert any(each._is_slow for each in convolutions) == (
        dtype == torch.bfloat16 and not is_default
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_depthwise_rows_are_strangers_to_the_bit(dtype: torch.dtype) -> None:
    placed = load().at("cuda", dtype)
    recipes = asked(placed, "blocks.3", 3, steps=20, size=64)
    whole, moved = (
        optimize_batch(placed, order)
        for order in (recipes, [recipes[1], *asked(placed, "blocks.2", 2, steps=20, size=64)])
    )
    assert torch.equal(moved.images[0], whole.images[1])


def test_the_execution_says_which_kernels_ran() -> None:
    assert dict(execution(slots=2, device="cuda").versions)["kernels"].startswith("triton ")


def test_float64_agrees_with_the_cpu(small: Network) -> None:
    exact = small.at("cpu", torch.float64)
    recipes = asked(exact, "third", 2, steps=16, size=12)
    here, there = (
        optimize_batch(network, recipes) for network in (exact, exact.at("cuda", torch.float64))
    )
    torch.testing.assert_close(there.images.cpu(), here.images, rtol=0, atol=1e-9)
