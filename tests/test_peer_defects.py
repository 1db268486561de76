"""Defects of other libraries that could exist here, each shown not to.

Elsewhere: signs of the algebra (test_algebra), hooks, weight gradients, whole networks and
swallowed errors (test_recording), cost of a batch and interpolation of one (test_objectives),
dead columns and draws of one's own (test_contracts), zero-filled borders (test_transforms).
"""

import ast
import re
from pathlib import Path

import pytest
import torch
from evaluation import pictures, values_of
from networks import Everything, Rectified, network_of
from torch import Tensor, nn
from watching import Timeline

import featviz
from featviz.engine.expressions import parse_objective
from featviz.engine.objectives import Channel, Direction, Neuron
from featviz.engine.recipe import default_recipe
from featviz.engine.render import render
from featviz.engine.seen import Grid
from featviz.engine.slots import optimize_batch
from featviz.errors import DoesNotFit
from featviz.image.transforms import Stack, lucid, standard
from featviz.network.network import Network
from featviz.network.recording import Prefix, record

PACKAGE = Path(featviz.__file__).parent
SOURCES = {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def operations(network: Network, rows: int, steps: int) -> list[str]:
    wishes = [Channel("third", row % 5) - Neuron("first", row % 6) for row in range(rows)]
    recipes = [
        default_recipe(network, wish, steps=steps, transforms=standard(), seed=row)
        for row, wish in enumerate(wishes)
    ]
    with Timeline() as timeline:
        optimize_batch(network, recipes)
    return timeline.names


def test_a_step_costs_the_same_operations_whatever_the_batch(everything: Network) -> None:
    """Lucent: O(batch**2); torch-dreams and dreamlens: a Python loop over pictures."""
    operations(everything, 2, 1)  # what is made once and kept is made here
    per_step = [
        len(operations(everything, rows, 6)) - len(operations(everything, rows, 5))
        for rows in (2, 32)
    ]
    assert per_step[0] == per_step[1] > 0


def test_no_step_waits_for_the_device(everything: Network) -> None:
    """Lucent's rectifier asks for the places of its mask, twice in every layer."""
    waiting = {
        "item",
        "tolist",
        "nonzero",
        "cpu",
        "numpy",
        "masked_select",
        "__bool__",
        "__float__",
    }
    operations(everything, 3, 1)  # what is made once and kept is made here
    one, more = operations(everything, 3, 5), operations(everything, 3, 6)
    for name in waiting | {"tensor", "as_tensor", "from_numpy", "new_tensor"}:
        assert one.count(name) == more.count(name), name


@pytest.mark.parametrize("penalty", ["roughness()", "total_variation()", "l2(0.5)"])
def test_no_penalty_copies_from_the_host_in_a_step(penalty: str, everything: Network) -> None:
    """Lucent builds its blur kernel on the CPU at every step."""
    asked = Channel("third", 1) - parse_objective(penalty)
    counts = []
    for steps in (1, 2, 3):  # the first makes what is kept
        made = default_recipe(everything, asked, steps=steps)
        with Timeline() as timeline:
            optimize_batch(everything, [made])
        counts.append(sum(name in ("tensor", "new_tensor") for name in timeline.names))
    assert counts[1] == counts[2]


def test_the_center_of_a_map_that_is_not_square() -> None:
    """Lucent takes the row from the width and the column from the height."""
    assert Grid(1, rows=4, columns=9).index("center", "center", layer="x") == 2 * 9 + 4
    assert Grid(1, rows=9, columns=4).index("center", "center", layer="x") == 4 * 4 + 2


def test_tokens_are_sites_and_not_channels(everything: Network) -> None:
    """Lucent's channel of a transformer is a token."""
    images = pictures(2)
    said = Prefix(everything, ["tokens"], rows=12, columns=10)(everything.to_input(images))
    assert said["tokens"].shape == (2, 30, 7)
    mean = values_of(everything, Channel("tokens", 6), images)
    torch.testing.assert_close(mean, said["tokens"][:, :, 6].mean(dim=1), rtol=0, atol=1e-12)


def test_a_direction_prefers_strong_activations(everything: Network) -> None:
    """Lucent's is a bare cosine: twice the activation scores no higher."""
    module = Everything()
    double = Everything()
    double.third.weight.data *= 2
    double.third.bias.data *= 2  # type: ignore[union-attr]
    asked = Direction("third", (1.0, 1.0, 1.0, 1.0, 1.0), 1.0)
    single, twice = (values_of(network_of(each), asked, pictures(1)) for each in (module, double))
    assert twice > 1.9 * single


def test_the_network_sees_the_size_that_was_asked_for(everything: Network) -> None:
    """Lucent enlarges small pictures to 224 px, and sends 224 px ones at 248 to 273."""
    sizes: set[tuple[int, ...]] = set()
    handle = everything.module.register_forward_pre_hook(
        lambda _, inputs: sizes.add(tuple(inputs[0].shape[2:]))
    )
    recipe = default_recipe(everything, Channel("third", 1), size=(16, 22), steps=4)
    everything.layers(16, 22)
    sizes.clear()
    optimize_batch(everything, [recipe])
    handle.remove()
    assert sizes == {(16, 22)}


@pytest.mark.parametrize("transforms", [standard(), lucid()])
def test_no_border_of_black_reaches_the_network(transforms: Stack) -> None:
    """Lucent fills with zeros: black bars after every jitter and rotation."""
    flat = torch.full((8, 3, 48, 40), 0.5, dtype=torch.float64)
    seeds = torch.arange(8)
    for step in range(4):
        shown = transforms.apply(flat, transforms.draw(seeds, torch.full_like(seeds, step)))
        torch.testing.assert_close(shown, torch.full_like(shown, 0.5), rtol=0, atol=1e-12)


def test_bfloat16_networks_render() -> None:
    """Lucent: "no saved feature maps", for a dtype error that it swallowed."""
    network = network_of(Everything(), dtype=torch.float32)
    made = render(network, "third:1", steps=4, dtype="bfloat16")[0]
    assert made.verdict == "rendered"
    assert made.recipe.network == network.fingerprint


def test_no_gradient_is_scaled_to_the_batch() -> None:
    """A norm or clip over the batch would let one loud picture silence the others."""
    network = network_of(Rectified(nn.ReLU()))
    quiet = default_recipe(network, Channel("conv", 0), steps=3)
    loud = default_recipe(network, 1e9 * Channel("conv", 1), steps=3)
    alone = optimize_batch(network, [quiet]).images[0]
    among = optimize_batch(network, [loud, quiet]).images[1]
    torch.testing.assert_close(among, alone, rtol=0, atol=1e-12)


class Paired(nn.Module):
    """Returns a tuple, as many networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        nn.init.ones_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        maps = self.conv(images).relu()
        return maps, {"mean": maps.mean(dim=(2, 3))}


def test_outputs_that_are_no_tensor_do_not_matter() -> None:
    """Lucent: TypeError."""
    network = network_of(Paired())
    assert render(network, "conv:1", steps=2)[0].verdict == "rendered"
    with record(network, ["conv/pre"]) as recorded:
        network.module(network.to_input(pictures(1)))
    assert recorded["conv/pre"].shape == (1, 4, 10, 8)
    with pytest.raises(DoesNotFit, match="ends in features"):
        network.output_layer()


def test_names_with_every_sign_that_torch_allows_are_addressed_as_they_are() -> None:
    """Lucent replaces dots by underscores, so that two layers may have one name."""
    module = nn.Sequential()
    module.add_module("a_b", nn.Sequential(nn.Conv2d(3, 4, 1)))
    module.add_module("a", nn.ModuleDict({"b_0": nn.Conv2d(4, 4, 1)}).b_0)  # type: ignore[arg-type]
    network = network_of(module)
    assert list(network.layers())[:1] == ["a_b.0"]
    assert render(network, ["a_b.0:1", "a:2"], steps=1)[1].recipe.objective == (1 * Channel("a", 2))


def attributes(tree: ast.AST) -> list[str]:
    return [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_source_has_none_of_it(path: Path) -> None:
    text = SOURCES[path]
    tree = ast.parse(text)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in calls}
    # Versions compared as text: "1.13.1" >= "1.7.0" is False.
    assert not re.search(r"__version__\s*[<>]|[<>]=?\s*\w+\.__version__", text)
    # Draws from global generators, which another library may seed or use.
    drawing = r"(np\.|numpy\.)?random\..*|torch\.(rand(n|int|perm)?(_like)?|normal|bernoulli)"
    assert not [name for name in names if re.fullmatch(drawing, name)]
    # Norms and clips over a whole batch; wiping out the hooks of others.
    assert not {"clip_grad_norm_", "clip_grad_value_", "_forward_hooks"} & set(attributes(tree))
    # A device that is fixed at import.
    for node in tree.body:
        assert "cuda.is_available" not in ast.unparse(node) or isinstance(
            node, (ast.FunctionDef, ast.ClassDef)
        )
    # Warnings for everybody turned off; errors swallowed.
    assert "simplefilter" not in text
    for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)):
        assert handler.type is not None
        assert not (
            ast.unparse(handler.type) in ("Exception", "BaseException", "RuntimeError")
            and not any(isinstance(node, ast.Raise) for node in ast.walk(handler))
        )
    assert "hasattr" not in names
