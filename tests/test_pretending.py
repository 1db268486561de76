"""A step as CUDA takes it, on a CPU that passes for one: the reference's numbers, and nothing in
it that could not be recorded."""

import numpy as np
import pytest
import torch
from networks import Everything, network_of
from torch import Tensor, nn

pytest.importorskip("triton")

from pretending import Recordable, pretended_cuda

from featviz.engine.objectives import Channel, Neuron
from featviz.engine.optimize import optimize
from featviz.engine.recipe import Plateau, Recipe, default_recipe
from featviz.engine.slots import Slots
from featviz.kernels import kernels
from featviz.kernels.cuda import ascent
from featviz.network.network import Network

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tests/test_cuda.py has a device")


class Various(nn.Module):
    """A stem of stride 2, a pool, response normalization, depthwise and 1 x 1 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
            self.pool = nn.MaxPool2d(3, stride=1, padding=1)
            self.normal = nn.LocalResponseNorm(5, alpha=0.1)
            self.wide = nn.Conv2d(16, 24, 1)
            self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
            self.batch = nn.BatchNorm2d(24)
            self.last = nn.Conv2d(24, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.normal(self.pool(torch.relu(self.stem(images))))
        maps = nn.functional.relu6(self.batch(self.depthwise(torch.relu(self.wide(maps)))))
        return self.last(maps)


def asked(network: Network, layers: list[str], *, steps: int) -> list[Recipe]:
    wishes = [Channel(layers[0], 1), Neuron(layers[-1], 2), Channel(layers[-1], 3)]
    return [
        default_recipe(network, wish, seed=seed, steps=steps, size=16, stop=Plateau(50, 50, 0.1))
        for seed, wish in enumerate(wishes)
    ]


def advanced(
    network: Network, recipes: list[Recipe], monkeypatch: pytest.MonkeyPatch
) -> list[Tensor]:
    """The course of each picture; every step but the first, which makes plans, is recordable."""
    with pretended_cuda(monkeypatch):
        is_double = network.dtype == torch.float64  # which Triton's kernels would spoil
        slots = Slots(network, recipes[0], len(recipes), captures=False)
        assert kernels("ascent", slots._parameters) is (None if is_double else ascent)
        slots.fill(iter(enumerate(recipes)))
        slots.step()
        for _ in range(recipes[0].steps - 1):
            ready = slots._made_ready()
            with Recordable():
                slots._advance(ready, redirects=True)
    return list(slots._course[:-1].T)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-9), (torch.float32, 1e-3), (torch.float16, 3e-2)],
)
@pytest.mark.parametrize(
    ("module", "layers"),
    [(Everything, ["first", "third"]), (Various, ["wide", "last"])],
    ids=["everything", "various"],
)
def test_a_step_is_the_reference(
    module: type[nn.Module],
    layers: list[str],
    dtype: torch.dtype,
    tolerance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In half precision by other ways; the interpreter has no bfloat16."""
    working = torch.promote_types(dtype, torch.float32)
    network = network_of(module(), rows=16, columns=16, dtype=working)
    recipes = asked(network, layers, steps=4)
    found = advanced(network.at("cpu", dtype), recipes, monkeypatch)
    for course, recipe in zip(found, recipes, strict=True):
        steps = optimize(network, recipe, dtype=working)
        values = torch.stack([each.values for each in steps])[:-1, 0]
        torch.testing.assert_close(course, values, rtol=tolerance, atol=1e-5)


def test_what_waits_for_a_device_is_refused() -> None:
    values = torch.arange(4.0)
    with Recordable():
        assert values[torch.ops.aten.argsort(values)].shape == (4,)
        for work in (
            lambda: float(values.sum()),
            lambda: bool((values > 1).any()),
            lambda: values[values > 1],
            lambda: values.nonzero(),
            lambda: torch.tensor([1.0, 2.0]),
            values.tolist,
            values.cpu,
            values.numpy,
            lambda: values.to("cpu:0"),
            lambda: values.to(device=torch.device("cpu")),
            lambda: str(values),
            lambda: f"{values}",
            lambda: values.type("torch.FloatTensor"),
            values.__dlpack__,
            lambda: np.asarray(values),
            lambda: values[(values > 1).to(torch.uint8)],
            lambda: values.__setitem__(values > 1, values[:2]),
        ):
            with pytest.raises(AssertionError, match="waits for the device"):
                work()
