"""A recipe is what is asked for: as JSON both ways, and named by a digest that misses nothing."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featviz.engine.algebra import Objective
from featviz.engine.custom import Custom
from featviz.engine.fading import Fading
from featviz.engine.given import GivenImage
from featviz.engine.objectives import (
    Channel,
    DeepDream,
    Direction,
    Likeness,
    Logit,
    Misalignment,
    Neuron,
    NeuronDirection,
    TensorDirection,
)
from featviz.engine.penalties import L1, L2, ImageDistance, Roughness, TotalVariation
from featviz.engine.recipe import (
    VOCABULARY,
    Adam,
    FactoredAdam,
    Plateau,
    Recipe,
    default_recipe,
    fast_preset,
    lucid_preset,
)
from featviz.engine.serial import Vocabulary, canonical
from featviz.errors import (
    DoesNotFit,
    FeatvizError,
    Malformed,
    NotFinite,
    OutOfRange,
    UnknownName,
)
from featviz.image.parameterizations import Fourier, Pixel, Shape
from featviz.image.spectrum import lucid_gain_sd
from featviz.image.transforms import (
    Blur,
    Crop,
    Flip,
    Jitter,
    Noise,
    Pad,
    Rotate,
    Scale,
    Stack,
    lucid,
)
from featviz.image.warp import Fill, Reflect
from featviz.network.network import Network

EVERY_OBJECTIVE: Objective = (
    Channel("a", 1)
    - 0.5 * Neuron("b/pre", 2, 3, "center")
    + DeepDream("c")
    - 2 * Direction("d", (1.0, -0.25), 2.0)
    + NeuronDirection("d", (1.0, 2.0), 0, 1, 0.5)
    + TensorDirection("e", (1, 2, 1), (3.0, 4.0))
    + Logit("tench")
    - 0.1 * Likeness("f")
    - Misalignment("g", 3.0)
    + Fading(Channel("a", 1), rises=True)
    - TotalVariation()
    - L1(0.5, "h")
    - L2(0.25, "i", 1e-3)
    - Roughness()
    - ImageDistance("cG5n")
    + Custom("module:function", ("a", "b/pre"), (("factor", 2.0), ("name", "x")), "0123")
)
EVERY_TRANSFORM = Stack(
    (
        *(Pad(2, Fill(0.25)), Jitter(3), Crop(1), Scale(0.9, 1.1), Rotate(10.0), Noise(0.1)),
        *(Flip(0.25), Pad(1, Reflect()), Blur(0.1, 0.5), Pad(1, Fill((0.1, 0.2, 0.3)))),
    )
)
RECIPE = Recipe(
    network="0123456789abcdef",
    network_name="tiny",
    objective=EVERY_OBJECTIVE,
    shape=Shape(3, 33, 47),
    parameterization=Fourier(sd=0.02, color="decorrelated", decay_power=1.5),
    transforms=EVERY_TRANSFORM,
    optimizer=Adam(0.05, decays=False, beta1=0.8, beta2=0.99, epsilon=1e-7),
    steps=7,
    stop=Plateau(2, 3, 0.5),
    seed=11,
    count=4,
    start=GivenImage("cG5n"),
    redirected_steps=5,
)


def changed(value: object) -> object:
    """Another value of the same kind."""
    others: dict[Any, Any] = {"decorrelated": "plain", "center": 0}
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value + 1 / 1024
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return others.get(value, f"{value}x")
    assert isinstance(value, tuple), value
    return (changed(value[0]), *value[1:])


def variants(value: Any, path: str = "recipe") -> Iterator[tuple[str, Any]]:
    """`value` with each of its parts, however deep, made another one; and where that was."""
    if is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            if each.compare:
                inner = f"{path}.{each.name}"
                for where, other in variants(getattr(value, each.name), inner):
                    yield where, replace(value, **{each.name: other})
    elif isinstance(value, tuple):
        for index, member in enumerate(value):
            for where, other in variants(member, f"{path}[{index}]"):
                yield where, (*value[:index], other, *value[index + 1 :])
    else:
        yield path, changed(value)


def test_it_survives_json() -> None:
    again = Recipe.from_json(RECIPE.to_json())
    assert again == RECIPE
    assert again.digest == RECIPE.digest
    assert again.to_json() == RECIPE.to_json()
    assert json.loads(RECIPE.to_json())["format"] == 1


def test_every_class_of_a_recipe_is_tried_here() -> None:
    other = replace(RECIPE, parameterization=Pixel(), optimizer=FactoredAdam())
    text = RECIPE.to_json() + other.to_json()
    assert {name for name in VOCABULARY.names if f'"is":"{name}"' in text} == VOCABULARY.names


def test_the_digest_changes_with_everything_but_the_name() -> None:
    for base in (RECIPE, replace(RECIPE, parameterization=Pixel(0.02))):
        digests = {place: other.digest for place, other in variants(base)}
        assert len(digests) > 60
        assert digests.pop("recipe.network_name") == base.digest
        fewer, noisy = replace(base, stop=None), replace(base, start=None)
        turned = replace(base, transforms=Stack(EVERY_TRANSFORM.members[::-1]))
        named = [base.digest, fewer.digest, noisy.digest, turned.digest, *digests.values()]
        assert len(set(named)) == len(named)


def test_order_of_terms_is_kept() -> None:
    one = replace(RECIPE, objective=Channel("a", 1) - Likeness("b"))
    other = replace(RECIPE, objective=-Likeness("b") + Channel("a", 1))
    assert one.digest != other.digest


@dataclass(frozen=True)
class Sample:
    """Every kind of field that may hold a float."""

    number: float
    either: float | tuple[float, ...]
    pairs: tuple[tuple[float, str], ...]
    perhaps: float | None
    whole: int | str = 3


@given(number=st.integers(-100, 100))
def test_equal_values_are_equal_text(number: int) -> None:
    vocabulary, point = Vocabulary([Sample]), -float(-number)  # -0.0 for 0
    one = Sample(number, (number, 2), ((number, "a"),), number)
    other = Sample(point, (point, 2.0), ((point, "a"),), point)
    assert one == other
    texts = [canonical(vocabulary.to_data(each)) for each in (one, other)]
    assert texts[0] == texts[1]
    assert vocabulary.from_data(vocabulary.to_data(one)) == one
    assert canonical(vocabulary.to_data(Sample(1, number, (), None))) == canonical(
        vocabulary.to_data(Sample(1.0, point, (), None))
    )


def test_a_digest_is_fixed_for_all_time() -> None:
    """Stored pictures are named by it: a change of this line orphans every atlas."""
    assert RECIPE.digest == "fb3dce3308292a02e6c4993926353bb9"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"steps": 0}, OutOfRange, "steps 0 is out of range: a recipe has 1"),
        ({"count": 0}, OutOfRange, "count 0"),
        ({"redirected_steps": -1}, OutOfRange, "redirected_steps -1"),
        ({"seed": -1}, OutOfRange, "seed -1"),
        ({"seed": 2**62}, OutOfRange, "seed"),
        ({"count": 1}, DoesNotFit, "got count 1, expected a count of 2 or more"),
    ],
)
def test_numbers_have_ranges(change: dict[str, Any], error: type[FeatvizError], words: str) -> None:
    with pytest.raises(error, match=words):
        replace(RECIPE, **change)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Adam(0.0),
        lambda: Adam(math.nan),
        lambda: Adam(beta1=1.0),
        lambda: Adam(beta2=-0.1),
        lambda: Adam(epsilon=0.0),
        lambda: FactoredAdam(beta1=1.0),
        lambda: Plateau(window=0),
        lambda: Plateau(minimum=0),
        lambda: Plateau(tolerance=math.nan),
        lambda: Shape(3, 0, 4),
    ],
)
def test_settings_have_ranges(make: Any) -> None:
    with pytest.raises(OutOfRange):
        make()


def edited(**changes: Any) -> str:
    data = json.loads(RECIPE.to_json())
    for path, value in changes.items():
        target = data
        *inner, last = path.split("__")
        for key in inner:
            target = target[key]
        target[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", Malformed, "cannot read a recipe ''"),
        ("[]", Malformed, "a recipe of format 1"),
        ("{", Malformed, "JSON"),
        (edited(format=2), Malformed, "format 1"),
        (edited(steps="7"), DoesNotFit, "Recipe.steps: got '7', expected int"),
        (edited(steps=7.5), DoesNotFit, "Recipe.steps"),
        (edited(steps=True), DoesNotFit, "Recipe.steps"),
        (edited(stepz=7), UnknownName, "no field 'stepz' in Recipe; nearest: steps"),
        (edited(optimizer__is="Adamm"), UnknownName, "no kind of value 'Adamm'; nearest: Adam"),
        (edited(optimizer__beta1=2.0), OutOfRange, "beta1 2.0"),
        (edited(optimizer__decays=1), DoesNotFit, "Adam.decays: got 1, expected .*bool"),
        (edited(shape={"is": "Adam"}), DoesNotFit, "Recipe.shape"),
        (edited(parameterization__color="grey"), DoesNotFit, "Fourier.color: got 'grey'"),
        (edited(objective__weighted=[[1.0]]), DoesNotFit, "WeightedSum.weighted"),
        (edited(stop={"is": "Plateau", "window": "3"}), DoesNotFit, "Plateau.window"),
        (edited(shape={"is": "Shape", "rows": 3}), DoesNotFit, "a stored Shape"),
    ],
)
def test_a_stored_recipe_is_checked(text: str, error: type[FeatvizError], words: str) -> None:
    with pytest.raises(error, match=words):
        Recipe.from_json(text)


def test_the_rate_falls_as_a_parabola() -> None:
    rates = [Adam(0.2).rate(step, 4) for step in range(5)]
    assert rates == pytest.approx([0.2, 0.1875, 0.15, 0.0875, 0], abs=1e-15)  # float64 rounding


def test_the_rate_falls_as_a_cubic() -> None:
    rates = [FactoredAdam(0.2).rate(step, 4) for step in range(5)]
    expected = [0.2, 0.2 * 63 / 64, 0.175, 0.2 * 37 / 64, 0]
    assert rates == pytest.approx(expected, abs=1e-15)  # float64 rounding


def test_the_rate_falls_as_half_a_cosine() -> None:
    rates = [Adam(0.2, decays=True).rate(step, 4) for step in range(5)]
    expected = [0.2, 0.1 * (1 + math.sqrt(0.5)), 0.1, 0.1 * (1 - math.sqrt(0.5)), 0]
    assert rates == pytest.approx(expected, abs=1e-15)  # float64 rounding
    assert {Adam(0.2, decays=False).rate(step, 4) for step in range(4)} == {0.2}


def test_defaults_come_from_the_network(everything: Network) -> None:
    recipe = default_recipe(everything, Channel("third", 1))
    assert (recipe.shape.rows, recipe.shape.columns) == (12, 10)
    assert (recipe.network, recipe.network_name) == (everything.fingerprint, "tiny")
    assert default_recipe(everything, Channel("third", 1), size=16).shape == Shape(3, 16, 16)
    assert default_recipe(everything, Channel("third", 1), size=(9, 7)).shape == Shape(3, 9, 7)


def test_a_default_recipe_is_resolved_and_checked(everything: Network) -> None:
    resolved = default_recipe(everything, Logit(2)).objective
    assert resolved.terms == Channel("head", 2).terms
    with pytest.raises(UnknownName, match="nearest: third"):
        default_recipe(everything, Channel("thrid", 1))
    with pytest.raises(UnknownName, match="no setting 'stepz'; nearest: steps"):
        default_recipe(everything, Channel("third", 1), stepz=4)
    for size in (0, "64", (12,), -3, (8, 0)):
        with pytest.raises(DoesNotFit, match=f"the size: got {re.escape(repr(size))}, expected"):
            default_recipe(everything, Channel("third", 1), size=size)
    with pytest.raises(DoesNotFit, match=r"Recipe.steps: got '64', expected int"):
        default_recipe(everything, Channel("third", 1), steps="64")


@pytest.mark.parametrize("name", ["network", "network_name", "objective", "shape"])
def test_what_is_decided_already_is_no_setting(name: str, everything: Network) -> None:
    with pytest.raises(DoesNotFit, match=f"the setting '{name}': got one, expected none: "):
        default_recipe(everything, Channel("third", 1), **{name: "x"})


def test_no_text_holds_a_number_that_is_not_finite() -> None:
    with pytest.raises(NotFinite):
        canonical({"a": math.nan})
    text = default(Channel("a", 1) - L1(0.5)).to_json()
    with pytest.raises(OutOfRange, match="constant nan"):
        Recipe.from_json(text.replace('"constant":0.5', '"constant":NaN'))


def default(objective: Objective) -> Recipe:
    return Recipe("0" * 32, "x", objective, Shape(3, 4, 4))


def test_the_fast_preset_is_fewer_steps_of_another_kind() -> None:
    preset = fast_preset(RECIPE)
    assert (preset.optimizer, preset.steps) == (FactoredAdam(), 28)
    assert replace(preset, optimizer=RECIPE.optimizer, steps=RECIPE.steps) == RECIPE
    assert Recipe.from_json(preset.to_json()) == preset
    pixels = replace(RECIPE, parameterization=Pixel())
    assert fast_preset(pixels) == replace(pixels, steps=32)


def test_the_lucid_preset_keeps_what_is_asked_for() -> None:
    preset = lucid_preset(RECIPE)
    assert preset.transforms == lucid()
    assert preset.optimizer == Adam(
        0.05 * lucid_gain_sd(33, 47), decays=False, beta1=0.9, beta2=0.999
    )
    assert preset.steps == 512
    for name in ("network", "objective", "shape", "seed", "count", "stop"):
        assert getattr(preset, name) == getattr(RECIPE, name)
