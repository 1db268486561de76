"""Objectives from text: what is written is what is meant, and mistakes are named."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featviz.engine.algebra import Objective
from featviz.engine.expressions import FUNCTIONS, is_expression, parse_objective
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
from featviz.engine.penalties import L1, L2, Roughness, TotalVariation
from featviz.errors import FeatvizError, Malformed, UnknownName

ONE, TWO = Channel("blocks.4", 7), Channel("blocks.4", 3)

EVERY_FORM: list[Objective] = [
    Channel("blocks.4/pre", 7),
    Neuron("blocks.4", 7, 1, 2),
    Neuron("4", 7),
    DeepDream("stem"),
    Direction("stem", (1.0, -2.5, 1e-20)),
    Direction("stem", (1.0,), 2.0),
    NeuronDirection("stem", (1.0, 2.0), 3, 4, 0.5),
    NeuronDirection("stem", (1.0, 2.0)),
    TensorDirection("stem", (2, 1, 1), (0.5, -0.5), 1.0),
    Logit(281),
    Logit("7"),
    Logit("tench, Tinca tinca"),
    Logit("potter's wheel (clay)"),
    Likeness("stem"),
    Misalignment("stem", 1.5),
    TotalVariation(),
    L1(0.5, "stem"),
    L2(0.5, "stem", 1e-3),
    Roughness(),
]


@pytest.mark.parametrize("objective", EVERY_FORM, ids=str)
def test_every_objective_reads_as_it_prints(objective: Objective) -> None:
    assert parse_objective(str(objective)) == objective


def test_every_function_has_an_example_above() -> None:
    assert {str(each).partition("(")[0] for each in EVERY_FORM} == set(FUNCTIONS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("channel(blocks.4, 7)", ONE),
        ("channel( blocks.4 ,7 )", ONE),
        ("channel('blocks.4', 7)", ONE),
        ("blocks.4:7", ONE),
        ("-(4/pre:7)", -Channel("4/pre", 7)),
        ("blocks.4/pre:7@1, 2", Neuron("blocks.4/pre", 7, 1, 2)),
        ("blocks.4:7@center", Neuron("blocks.4", 7)),
        ("blocks.4:7 - 0.5 * blocks.4:3", ONE - 0.5 * TWO),
        ("channel(blocks.4, 7) - .5*channel(blocks.4, 3)", ONE - 0.5 * TWO),
        ("2e-1 * blocks.4:7", 0.2 * ONE),
        ("1/2 * blocks.4:7", 0.5 * ONE),
        ("blocks.4:7 / 4", 0.25 * ONE),
        ("blocks.4:7 * 3 / 2", 1.5 * ONE),
        ("-blocks.4:7 + blocks.4:3", -ONE + TWO),
        ("-(blocks.4:7 - blocks.4:3)", TWO * -1 * -1 * -1 * -1 - ONE),
        ("blocks.4:7 - (blocks.4:3 - blocks.4:7)", ONE - TWO + ONE),
        ("(1 + 2) * blocks.4:7", 3 * ONE),
        ("blocks.4:7 - blocks.4:3 - 2 * total_variation()", ONE - TWO - 2 * TotalVariation()),
        ("- - blocks.4:7", 1 * ONE),
        ("logit(great white shark)", Logit("great white shark")),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, expected: Objective) -> None:
    assert sorted(parse_objective(text).terms, key=str) == sorted(expected.terms, key=str)


@pytest.mark.parametrize(
    "text",
    [
        *("", "3", "channel(a, 1", "channel(a, 1))", "channel(a, 1) +", "* channel(a, 1)"),
        *("channel(a, 1) channel(a, 2)", "a:1 * a:2", "2 / a:1", "a:1 + 2", "a:1 / 0", "a:1 - "),
        *("channel(a)", "channel(a, 1, 2, 3)", "l1(a, b, c)", "()", "a:1 ** 2", "a:", "channel"),
        *("logit()", "-", "a:1 & a:2"),
    ],
)
def test_mistakes_are_named(text: str) -> None:
    with pytest.raises(Malformed, match="cannot read the objective"):
        parse_objective(text)


def test_an_error_says_where() -> None:
    with pytest.raises(Malformed, match=r"at '\* 2'"):
        parse_objective("a:1 + * 2")
    with pytest.raises(Malformed, match="at its end"):
        parse_objective("a:1 +")
    with pytest.raises(UnknownName, match="no objective 'chanel'; nearest: channel"):
        parse_objective("chanel(a, 1)")


@pytest.mark.parametrize("text", ["channel(a,1)", "a:1 - 0.5 * a:2", "2 * a:1", "a:1-a:2", "a:1 +"])
def test_what_calls_or_calculates_is_an_expression(text: str) -> None:
    assert is_expression(text)


@pytest.mark.parametrize(
    "text", ["blocks.4:0-3", "blocks.*:0-3", "*", "*:*/2", "a:1 - 3", "a-b:1, 2", "a/pre:1@1, 2"]
)
def test_what_may_be_a_selection_is_none(text: str) -> None:
    assert not is_expression(text)


@given(text=st.text(alphabet="a1:.@/()+-*, []'x\"eE", max_size=16))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(FeatvizError):
        assert parse_objective(text).terms
