"""The fingerprint sees every setting that decides what is computed, and nothing else."""

import copy
import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from networks import GREY, Everything
from timm.layers.attention import Attention
from torch import Tensor, nn
from torch.nn import functional

from featviz.network.fingerprint import fingerprint
from featviz.network.zoo import load


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def googlenet(*, transform_input: bool) -> nn.Module:
    return torchvision.models.GoogLeNet(
        4, aux_logits=False, transform_input=transform_input, init_weights=False
    )


def encoder(activation: Callable[[Tensor], Tensor]) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 8, activation=activation)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: nn.MultiheadAttention(12, 2), lambda: nn.MultiheadAttention(12, 4)),
        (lambda: Attention(12, num_heads=2), lambda: Attention(12, num_heads=4)),
        (lambda: googlenet(transform_input=False), lambda: googlenet(transform_input=True)),
        (lambda: encoder(functional.relu), lambda: encoder(functional.gelu)),
    ],
    ids=["torch", "timm", "torchvision", "function"],
)
def test_settings_of_library_modules_count(
    one: Callable[[], nn.Module], other: Callable[[], nn.Module]
) -> None:
    first, second = seeded(one), seeded(other)
    state, others = first.state_dict(), second.state_dict()
    assert all(torch.equal(state[name], others[name]) for name in state)
    assert fingerprint(first, GREY) == fingerprint(seeded(one), GREY)
    assert fingerprint(first, GREY) != fingerprint(second, GREY)


class Setting(nn.Module):
    """A module with any attribute."""

    def __init__(self, value: object, name: str = "setting") -> None:
        super().__init__()
        setattr(self, name, value)


def scaled(images: Tensor, scale: float) -> Tensor:
    return images * scale


@pytest.mark.parametrize("name", ["setting", "_setting"])
def test_every_kind_of_setting_counts(name: str) -> None:
    values: list[object] = [
        *(None, True, 1, 1.0, "1", (1, 2), [1, 2], (2, 1), {"a": 1}, {"a": 2}, {"b": 1}, [[1], 2]),
        *(torch.zeros(2), torch.ones(2), torch.zeros(2, dtype=torch.int64), {1}, {2}),
        *(functools.partial(scaled, scale=1.0), functools.partial(scaled, scale=2.0), scaled),
        *(GREY, torch.zeros(2).numpy(), torch.ones(2).numpy()),
    ]
    found = [fingerprint(Setting(value, name), GREY) for value in values]
    assert len(set(found)) == len(found)
    again = [fingerprint(Setting(copy.deepcopy(value), name), GREY) for value in values]
    assert again == found


def test_bookkeeping_does_not_count() -> None:
    first = fingerprint(Setting(1), GREY)
    for name in ("device", "dtype", "training"):
        module = Setting(1)
        setattr(module, name, False)
        assert fingerprint(module, GREY) == first
    recursive: list[object] = [1]
    recursive.append(recursive)
    assert fingerprint(Setting(recursive), GREY) == fingerprint(Setting(recursive), GREY)


@pytest.mark.parametrize("name", ["timm", "torch", "own"])
def test_how_a_network_is_kept_does_not_count(name: str) -> None:
    makers: dict[str, Callable[[], nn.Module]] = {
        "timm": lambda: timm.create_model("test_vit", pretrained=False),
        "torch": lambda: torchvision.models.squeezenet1_1(weights=None),
        "own": Everything,
    }
    module = seeded(makers[name]).eval()
    first = fingerprint(module, GREY)
    assert fingerprint(copy.deepcopy(module), GREY) == first
    module.train().requires_grad_(requires_grad=False)
    module.register_forward_hook(lambda *_: None)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert fingerprint(module, GREY) == first
    module.to("meta").to_empty(device="cpu").load_state_dict(seeded(makers[name]).state_dict())
    assert fingerprint(module, GREY) == first
    network = load(module, preprocessing=GREY, dtype=torch.bfloat16)
    assert network.at("cpu", torch.float64).fingerprint == network.fingerprint == first


def test_a_cache_that_a_pass_fills_does_not_count() -> None:
    module = timm.create_model("levit_128s", pretrained=False).eval()
    first = fingerprint(module, GREY)
    with torch.no_grad():
        module(torch.zeros(1, 3, 224, 224))
    assert fingerprint(module, GREY) == first


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_device_does_not_count() -> None:
    module = timm.create_model("test_vit", pretrained=False)
    assert fingerprint(copy.deepcopy(module).cuda(), GREY) == fingerprint(module, GREY)


HELPED = """
from torch import nn
from featviz import Preprocessing

def helper(images):
    return images * SCALE

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.words = {"a", "b", "c", "d"}

    def forward(self, images):
        return self.conv(helper(images))

def small():
    return Small(), Preprocessing(rows=8, columns=8)
"""


def test_helper_functions_in_a_file_count(tmp_path: Path) -> None:
    paths = [tmp_path / "one.py", tmp_path / "two.py", tmp_path / "three.py"]
    for path, scale in zip(paths, "232", strict=True):
        path.write_text(HELPED.replace("SCALE", scale))
    one, two, three = (load(f"{path}:small").fingerprint for path in paths)
    assert one == three  # where the file lies does not count
    assert one != two
    paths[0].write_text(HELPED.replace("SCALE", "3"))
    assert load(f"{paths[0]}:small").fingerprint == two


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(HELPED.replace("SCALE", "2"))
    code = f"from featviz.network.zoo import load; print(load({f'{path}:small'!r}).fingerprint)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == load(f"{path}:small").fingerprint
