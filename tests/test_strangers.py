"""Rows are strangers: a picture is the same whatever shares its batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kerneling import needs_compiler
from networks import Everything, network_of
from test_custom import peak

from featviz.engine.execution import execution
from featviz.engine.objectives import (
    Channel,
    DeepDream,
    Direction,
    Likeness,
    Logit,
    Neuron,
    NeuronDirection,
)
from featviz.engine.penalties import L2, Roughness, TotalVariation
from featviz.engine.picture import Picture
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import render_each
from featviz.engine.slots import optimize_batch
from featviz.image.parameterizations import Fourier, Pixel
from featviz.image.transforms import Blur, Flip, Jitter, Noise, Pad, Rotate, Scale, Stack
from featviz.image.warp import Fill
from featviz.network.network import Network
from featviz.network.zoo import load

PRECISIONS = ("float32", pytest.param("bfloat16-products", marks=needs_compiler))
MOVING = Stack((Jitter(3), Scale(0.9, 1.1), Rotate(10.0)))
EVERYTHING = Stack((Pad(3, Fill(0.5)), Jitter(2), Flip(), Noise(0.05), Blur(0.2, 0.6), Rotate(5.0)))


def wishes(index: int) -> Recipe | object:
    """Objectives of every kind, on every layer."""
    kinds = [
        Channel("third", index % 5),
        Channel("first/pre", index % 6) - 0.5 * Channel("third", 0),
        Neuron("second", index % 8, 2, 3),
        Logit(index % 4),
        Channel("tokens", index % 7) + 2 * TotalVariation(),
        DeepDream("second") - L2(0.5),
        Direction("third", (1.0, -1.0, 0.5, 0.25, float(index)), 1.0),
        NeuronDirection("third", (0.5, float(index), 0.0, 1.0, 1.0)) - Roughness(),
        peak(layer="third", channel=index % 5),
    ]
    return kinds[index % len(kinds)]


def recipes(network: Network, count: int, **settings: object) -> list[Recipe]:
    return [
        default_recipe(network, wishes(index), seed=index, **settings)  # type: ignore[arg-type]
        for index in range(count)
    ]


def rendered(
    network: Network, asked: Sequence[Recipe], *, slots: int, dtype: str = "float32"
) -> dict[str, Picture]:
    how = execution(slots=slots, dtype=dtype)
    return {f"{p.recipe.digest}/{p.index}": p for p in render_each(network, asked, how)}


def assert_same_bits(one: Picture, other: Picture) -> None:
    assert one.course == other.course
    assert one.score == other.score
    assert one.steps == other.steps
    assert np.array_equal(one.pixels, other.pixels)


def test_comparing_pictures_can_fail() -> None:
    network = network_of(Everything(), dtype=torch.float32)
    one, other = recipes(network, 2, steps=1, transforms=Stack())
    pictures = list(rendered(network, [one, other], slots=2).values())
    with pytest.raises(AssertionError):
        assert_same_bits(*pictures)


@pytest.mark.parametrize("transforms", [MOVING, EVERYTHING])
def test_alone_as_among_32_mates_in_float64(transforms: Stack, everything: Network) -> None:
    asked = recipes(everything, 32, steps=64, transforms=transforms, size=(13, 17))
    together = optimize_batch(everything, asked)
    for row in (0, 5, 8, 31):
        alone = optimize_batch(everything, [asked[row]])
        difference = (together.images[row] - alone.images[0]).abs().max()
        assert difference < 1e-9  # float64 rounding, after 64 steps of Adam
        assert (together.course[:, row] - alone.course[:, 0]).abs().max() < 1e-9


@pytest.mark.parametrize("parameterization", [Fourier(), Pixel(color="plain")])
@pytest.mark.parametrize("size", [(12, 10), (33, 47), (19, 8)])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_it_is_the_same_to_the_bit(
    dtype: str, size: tuple[int, int], parameterization: Fourier | Pixel
) -> None:
    network = network_of(Everything(), dtype=torch.float32)
    settings = {"steps": 12, "size": size, "parameterization": parameterization}
    asked = recipes(network, 9, transforms=EVERYTHING, **settings)
    together = rendered(network, asked, slots=5, dtype=dtype)
    backwards = rendered(network, asked[::-1], slots=5, dtype=dtype)
    for index in (0, 3, 8):
        (alone,) = rendered(network, [asked[index]], slots=5, dtype=dtype).values()
        name = f"{asked[index].digest}/0"
        assert_same_bits(alone, together[name])
        assert_same_bits(alone, backwards[name])


@pytest.mark.parametrize("slot", range(4))
def test_no_slot_is_special(slot: int) -> None:
    """The pictures and their course before anything is rounded to 8 bits."""
    network = network_of(Everything(), dtype=torch.float32)
    asked = recipes(network, 9, steps=8, size=(33, 47), transforms=EVERYTHING)
    mine = asked[6]
    first = optimize_batch(network, [mine, asked[0], asked[1], asked[2]])
    order = [asked[3], asked[4], asked[8]]
    other = optimize_batch(network, [*order[:slot], mine, *order[slot:]])
    assert torch.equal(first.images[0], other.images[slot])
    assert torch.equal(first.course[:, 0], other.course[:, slot])


def test_coupled_recipes_are_strangers_to_each_other() -> None:
    network = network_of(Everything(), dtype=torch.float32)
    asked = [
        default_recipe(
            network,
            Channel("third", unit) - Likeness(layer),
            count=2,
            steps=8,
            seed=unit,
            transforms=MOVING,
        )
        for unit, layer in enumerate(("third", "head", "second"))
    ]
    together = rendered(network, asked, slots=6)
    for recipe in asked:
        alone = rendered(network, [recipe], slots=6)
        for name, picture in alone.items():
            assert_same_bits(picture, together[name])


def test_a_mates_clip_norm_or_draw_is_not_mine() -> None:
    """A mate with gradients 1e6 times as large, and one that has none."""
    network = network_of(Everything(), dtype=torch.float32)
    mine = default_recipe(network, Channel("third", 1), steps=8, transforms=MOVING)
    loud = replace(mine, objective=1e6 * Channel("first", 0), seed=3)
    silent = replace(mine, objective=0.0 * Channel("first", 0), seed=4)
    among = optimize_batch(network, [loud, mine, silent]).images[1]
    assert torch.equal(among, optimize_batch(network, [mine, mine, mine]).images[0])


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, (65, 71)])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_the_real_network(dtype: str, size: int | tuple[int, int]) -> None:
    network = load()
    mates = ["blocks.0.0.conv_dw:3", "blocks.2.1.conv_pw:17", "blocks.4.0.conv_pwl:30"]
    asked = [
        default_recipe(network, wish, size=size, steps=4, seed=index)
        for index, wish in enumerate(
            [
                *(Channel(*_parts(mate)) for mate in mates),
                Logit("goldfish"),
                Neuron("blocks.3.0.conv_dw", 9) - TotalVariation(),
            ]
        )
    ]
    together = rendered(network, asked, slots=3, dtype=dtype)
    for recipe in asked:
        (alone,) = rendered(network, [recipe], slots=3, dtype=dtype).values()
        assert_same_bits(alone, together[f"{recipe.digest}/0"])


def _parts(address: str) -> tuple[str, int]:
    layer, _, channel = address.partition(":")
    return layer, int(channel)


@pytest.mark.slow
def test_another_real_network(shared_data: Callable[[str], Path]) -> None:
    """Local response normalization and ceil-mode pools, whose kernels are not convolutions."""
    path = shared_data("networks/googlenet_bvlc_fp16.npz")
    network = load("googlenet_bvlc", weights=str(path))
    asked = [
        default_recipe(network, wish, size=(64, 81), steps=3, seed=index)
        for index, wish in enumerate(
            [Channel("conv2", 5), Channel("inc3a.b5", 7), Channel("inc4b.b3", 100)]
        )
    ]
    together = rendered(network, asked, slots=3)
    (alone,) = rendered(network, [asked[0]], slots=3).values()
    assert_same_bits(alone, together[f"{asked[0].digest}/0"])
