"""A frozen network: its copies, its units and labels, and that inference mode leaves no trace."""

import pytest
import torch
from evaluation import pictures
from networks import GREY, Everything, network_of
from torch import nn

from featviz.errors import DoesNotFit, NotAvailable, OutOfRange, UnknownName
from featviz.network.network import Network
from featviz.network.zoo import load


def test_another_dtype_is_a_copy_that_is_kept() -> None:
    network = network_of(Everything(), dtype=torch.float32)
    double = network.at("cpu", torch.float64)
    assert (network.dtype, double.dtype) == (torch.float32, torch.float64)
    assert network.at("cpu", torch.float64) is double
    assert network.at("cpu", torch.float32) is network


def test_a_copy_of_a_rounded_copy_is_not_rounded() -> None:
    plain = load(Everything(), preprocessing=GREY)
    rounded = load(Everything(), preprocessing=GREY, dtype=torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    again = rounded.at("cpu", torch.float32)
    images = pictures(1).float()
    assert torch.equal(again(images), plain(images))
    assert again.fingerprint == rounded.fingerprint == plain.fingerprint
    assert again.at("cpu", torch.bfloat16) is rounded
    double = rounded.at("cpu", torch.float64)
    assert double is again.at("cpu", torch.float64)
    weight = plain.module.get_parameter("third.weight")
    assert torch.equal(double.module.get_parameter("third.weight"), weight.double())


def test_a_network_in_pairs_is_the_same_but_for_who_accelerates_it() -> None:
    network = network_of(Everything(), dtype=torch.float64)
    single = network.at("cpu", torch.float32)
    pairs = network.at("cpu", torch.float32, in_pairs=True)
    assert pairs.in_pairs
    assert not single.in_pairs
    assert (pairs.module, pairs.fingerprint) == (single.module, network.fingerprint)
    assert pairs.at("cpu", torch.float32, in_pairs=True) is pairs
    assert single.at("cpu", torch.float32, in_pairs=True) is pairs
    assert pairs.at("cpu", torch.float32) is single
    assert pairs.at("cpu", torch.float64) is network
    images = pictures(2).float()
    assert torch.equal(pairs(images), single(images))


class Picky(nn.Module):
    """Takes pictures of one size, and not in half precision, as some of torch's operations."""

    def __init__(self, *reason: str) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 2, 1)
        self.reason = reason

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.dtype == torch.bfloat16:
            raise NotImplementedError(*self.reason)
        return self.a(images.view(-1, 3, 12, 10))


@pytest.mark.parametrize(
    ("reason", "there"),
    [
        (["\"picky\" not implemented for 'BFloat16'"], '"picky" not implemented for'),
        ([], "it does not run so, without a reason given"),
    ],
)
def test_a_dtype_that_torch_has_no_operation_for_is_named(reason: list[str], there: str) -> None:
    rounded = load(Picky(*reason), preprocessing=GREY).at("cpu", torch.bfloat16)
    with pytest.raises(NotAvailable, match=f"Picky in bfloat16 on cpu is not available; {there}"):
        rounded.layers()
    with pytest.raises(DoesNotFit, match="got 8x8 px, expected a size that the network runs at"):
        rounded.layers(8, 8)


def gradient(network: Network) -> torch.Tensor:
    images = pictures(1).to(network.dtype).requires_grad_()
    network(images).sum().backward()
    assert images.grad is not None
    return images.grad


def test_a_look_in_inference_mode_does_not_bar_gradients() -> None:
    network = network_of(Everything())
    with torch.inference_mode():
        network(pictures(1))
        network.layers()
        single = network.at("cpu", torch.float32)
        single(pictures(1).float())
        loaded = load(Everything(), preprocessing=GREY)
        named = load("efficientnet_lite0", weights="none")
    for each in (network, single, loaded):
        assert gradient(each).abs().sum() > 0
    assert not any(weight.is_inference() for weight in named.module.parameters())


def test_units_have_a_read_point_and_a_place_that_exist(everything: Network) -> None:
    assert [str(unit) for unit in everything.units("*/pre:0")] == [
        *("first/pre:0", "second/pre:0", "third/pre:0", "tokens/pre:0"),
    ]
    with pytest.raises(UnknownName, match="no read point 'head/pre'"):
        everything.units("head/pre:1")
    assert len(everything.units("third:0-1@5,4", *everything.size)) == 2
    assert len(everything.units("tokens:1@29,0", *everything.size)) == 1
    assert len(everything.units("head:1@center", *everything.size)) == 1
    for selection, words in (
        ("third:1@6,0", "row 6 is out of range: the map of 'third' has 0 to 5"),
        ("third/pre:1@0,5", "column 5 is out of range: the map of 'third/pre' has 0 to 4"),
        ("*:0@6,0", "row 6 .* 'second' has 0 to 5"),
        ("tokens:1@0,1", "column 1 .* 'tokens' has 0 to 0"),
        ("head:1@1,0", "row 1 .* 'head' has 0 to 0"),
    ):
        with pytest.raises(OutOfRange, match=words):
            everything.units(selection, *everything.size)
        assert everything.units(selection)  # a larger picture may have that place
    assert len(everything.units("third:1@6,0", 16, 14)) == 1  # its map is 8x7 there


def test_labels_are_found_by_name_or_word() -> None:
    labels = ("tench, Tinca tinca", "goldfish, Carassius auratus", "crane")
    network = network_of(Everything(), labels=labels)
    assert network.label_index("Goldfish") == 1
    assert network.label_index("tench, Tinca tinca") == 0
    assert network.label_index("Tinca tinca") == 0
    with pytest.raises(UnknownName, match="no class label 'crame'; nearest: crane"):
        network.label_index("crame")


def test_a_label_of_several_classes_is_refused_with_their_indices() -> None:
    labels = ("Cardigan", "crane", "cardigan", "ox, crane")
    network = network_of(Everything(), labels=labels)
    assert network.label_index("Cardigan") == 0
    assert network.label_index("cardigan") == 2
    for label, words in (("CARDIGAN", r"0 \(Cardigan\), 2 \(cardigan\)"), ("crane", "1 .*, 3 ")):
        with pytest.raises(DoesNotFit, match=rf"{label}': got the classes {words}"):
            network.label_index(label)


def test_imagenets_labels_that_differ_in_case_or_in_a_word() -> None:
    imagenet = load("efficientnet_lite0", weights="none")
    labels = ("Cardigan", "cardigan", "crane bird", "Crane", "maillot", "maillot tank suit")
    assert [imagenet.label_index(each) for each in labels] == [264, 474, 134, 517, 638, 639]
    with pytest.raises(DoesNotFit, match=r"264 \(Cardigan\), 474 \(cardigan\), expected one"):
        imagenet.label_index("CARDIGAN")
