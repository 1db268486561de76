"""The catalogue: whatever can stand in a recipe keeps the contract of its kind.

Parameterizations and transforms have their own files (test_parameterizations, test_transforms);
here is what holds for all of them inside the engine, and that none is forgotten.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from inspect import isabstract
from typing import Any

import pytest
import torch
from evaluation import pictures
from networks import Everything, network_of
from test_objectives import COUPLED, SINGLE

from featviz import errors
from featviz.engine import custom, objectives, penalties
from featviz.engine.algebra import Term
from featviz.engine.objectives import Channel
from featviz.engine.recipe import VOCABULARY, Recipe, default_recipe
from featviz.engine.slots import optimize_batch
from featviz.errors import FeatvizError
from featviz.image import parameterizations, transforms
from featviz.image.parameterizations import Fourier, Parameterization, Pixel
from featviz.image.transforms import (
    Blur,
    Crop,
    Flip,
    Geometric,
    Jitter,
    Noise,
    Pad,
    Photometric,
    Rotate,
    Scale,
    Stack,
    lucid,
    standard,
    strong,
)
from featviz.network.network import Network

PARAMETERIZATIONS: dict[str, Parameterization] = {
    "pixel": Pixel(),
    "pixel, plain": Pixel(color="plain"),
    "fourier": Fourier(),
    "fourier, plain": Fourier(color="plain"),
    "fourier, white": Fourier(decay_power=0.0),
}
STACKS: dict[str, Callable[[], Stack]] = {
    "nothing": Stack,
    "standard": standard,
    "strong": strong,
    "lucid": lucid,
    "everything": lambda: Stack(
        (
            Pad(2),
            Jitter(1),
            Scale(0.9, 1.1),
            Rotate(5.0),
            Flip(),
            Crop(1),
            Noise(0.1),
            Blur(0.0, 0.5),
        )
    ),
}


def kinds_in(module: Any, base: type) -> set[type]:
    return {
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, base)
        and is_dataclass(each)
        and not isabstract(each)
    }


def test_no_objective_is_left_out() -> None:
    tried = {type(term) for each in (*SINGLE.values(), *COUPLED.values()) for _, term in each.terms}
    there = kinds_in(objectives, Term) | kinds_in(penalties, Term)
    assert tried == there
    assert {each.__name__ for each in there | kinds_in(custom, Term)} <= VOCABULARY.names


def test_everything_a_recipe_may_hold_can_be_stored() -> None:
    there = kinds_in(parameterizations, Parameterization)
    there |= kinds_in(transforms, Geometric) | kinds_in(transforms, Photometric)
    assert {each.__name__ for each in there} <= VOCABULARY.names
    assert {type(each) for each in PARAMETERIZATIONS.values()} == kinds_in(
        parameterizations, Parameterization
    )
    assert {type(m) for m in STACKS["everything"]().members} == kinds_in(
        transforms, Geometric
    ) | kinds_in(transforms, Photometric)


def test_values_are_frozen_and_hashable() -> None:
    for value in (*SINGLE.values(), *COUPLED.values(), *PARAMETERIZATIONS.values(), standard()):
        assert hash(value) == hash(value)
        name = fields(value)[0].name if fields(value) else "anything"  # type: ignore[arg-type]
        with pytest.raises((AttributeError, TypeError)):
            setattr(value, name, 1)


def started(parameterization: Parameterization, network: Network, **settings: Any) -> Recipe:
    return default_recipe(
        network, Channel("third", 1), parameterization=parameterization, **settings
    )


@pytest.mark.parametrize("size", [(12, 10), (33, 47)])
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_a_parameterization_can_make_any_picture(name: str, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, dtype=torch.float64) * 0.9 + 0.05
    parameterization = PARAMETERIZATIONS[name]
    again = parameterization.decode(parameterization.encode(images))
    torch.testing.assert_close(again, images, rtol=0, atol=1e-9)  # float64, logit and back


@pytest.mark.parametrize("size", [(12, 10), (13, 11)])
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_every_parameter_is_moved(name: str, size: tuple[int, int], everything: Network) -> None:
    """Lucent's odd sizes leave a dead column in the spectrum."""
    parameterization = PARAMETERIZATIONS[name]
    recipe = started(parameterization, everything, size=size, steps=3, transforms=Stack())
    images = optimize_batch(everything, [recipe]).images
    first = parameterization.initial(torch.tensor([0]), recipe.shape, dtype=torch.float64)
    moved = parameterization.encode(images) - first
    assert (moved.abs() > 1e-6).all()


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_pictures_stay_pictures(name: str, stack: str) -> None:
    network = network_of(Everything(), dtype=torch.float32)
    recipe = started(PARAMETERIZATIONS[name], network, steps=4, transforms=STACKS[stack]())
    finished = optimize_batch(network, [recipe])
    assert finished.is_finite.all()
    assert finished.images.shape == (1, 3, 12, 10)
    assert finished.images.min() >= 0
    assert finished.images.max() <= 1


@pytest.mark.parametrize("stack", STACKS)
def test_pictures_draw_for_themselves(stack: str) -> None:
    """Lucid and lucent make one draw a step for the whole batch."""
    images = pictures(1).expand(3, -1, -1, -1)
    members = STACKS[stack]()
    seeds, steps = torch.tensor([0, 1, 0]), torch.tensor([4, 4, 5])
    first, second, later = members.apply(images, members.draw(seeds, steps))
    if members.members:
        assert not torch.equal(first, second)
        assert not torch.equal(first, later)


def test_every_error_is_one_class_a_cause() -> None:
    kinds = {
        each for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, Exception)
    }  # fmt: skip
    assert all(issubclass(each, FeatvizError) for each in kinds)
    assert errors.__doc__ is not None
    for each in kinds:
        assert each.__name__ in errors.__doc__
