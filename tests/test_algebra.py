"""Weighted sums are exact: what an expression says is what is maximized."""

import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featviz.engine.algebra import Objective, Term, WeightedSum
from featviz.engine.expressions import parse_objective
from featviz.engine.objectives import Channel, Likeness, Misalignment, Neuron
from featviz.engine.penalties import TotalVariation
from featviz.errors import OutOfRange

A, B, C = Channel("a", 1), Neuron("b", 2, 3, 4), TotalVariation()

Tree = tuple[Any, ...]
"""How to make an objective; beartype draws random numbers, so strategies do not make them."""

numbers = st.integers(-64, 64).map(lambda n: n / 8)  # exact in binary, so sums are exact too
trees: st.SearchStrategy[Tree] = st.recursive(
    st.sampled_from("ABC").map(lambda name: (name,)),
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-"), inner, inner),
        st.tuples(st.just("*"), inner, numbers),
        st.tuples(st.just("/"), inner, st.sampled_from([1, 2, -4])),
        st.tuples(st.just("negative"), inner),
    ),
    max_leaves=6,
)


def built(tree: Tree) -> Objective:
    kind, *rest = tree
    if kind in "ABC":
        return {"A": A, "B": B, "C": C}[kind]
    if kind == "negative":
        return -built(rest[0])
    first, second = built(rest[0]), rest[1]
    if kind == "*":
        return first * second
    if kind == "/":
        return first / second
    return first + built(second) if kind == "+" else first - built(second)


def weights(objective: Objective) -> dict[Term, float]:
    total: Counter[Term] = Counter()
    for weight, term in objective.terms:
        total[term] += weight  # type: ignore[assignment]  # a Counter of floats
    return {term: total[term] for term in total if total[term]}


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (A - B, [(1, A), (-1, B)]),
        (A + 2 * B, [(1, A), (2, B)]),
        (-(A - B), [(-1, A), (1, B)]),
        ((A + B) / 4, [(0.25, A), (0.25, B)]),
        (sum([A, B, C]), [(1, A), (1, B), (1, C)]),
        (3 * (A - 2 * (B - C)), [(3, A), (-6, B), (6, C)]),
        (A - B - C, [(1, A), (-1, B), (-1, C)]),
        (A - (B - C), [(1, A), (-1, B), (1, C)]),
        (A * np.float64(0.5), [(0.5, A)]),
        (np.float64(2) * A, [(2, A)]),
        (A * 0, [(0, A)]),
    ],
)
def test_weights_are_what_the_expression_says(
    objective: Objective, expected: list[tuple[float, Term]]
) -> None:
    """Xplique and DreamLens make A - B into -A - B, and A + 2 B into 2 A + 2 B."""
    assert list(objective.terms) == expected
    assert all(type(weight) is float for weight, _ in objective.terms)


@given(one=trees, other=trees, factor=numbers)
def test_algebra_is_that_of_numbers(one: Tree, other: Tree, factor: float) -> None:
    first, second = built(one), built(other)
    assert weights(first - second) == weights(first + -1 * second)
    assert weights(-(first - second)) == weights(second - first)
    assert weights(factor * (first + second)) == weights(factor * first + second * factor)
    assert weights(first - first) == {}
    assert weights(first / 2) == weights(first * 0.5)
    summed = sum([first, second])
    assert isinstance(summed, Objective)
    assert weights(summed) == weights(first + second)


@given(one=trees, other=trees)
def test_no_operand_is_changed(one: Tree, other: Tree) -> None:
    """Xplique and DreamLens change their operands in - and *."""
    first, second = built(one), built(other)
    before = first.terms, second.terms, str(first), str(second)
    made = [first + second, first - second, -first, 2 * first, first / 3, sum([first, second])]
    assert all(isinstance(each, WeightedSum) for each in made)
    assert (first.terms, second.terms, str(first), str(second)) == before


@pytest.mark.parametrize(
    ("operation", "left", "right"),
    [
        (operator.mul, A, B),
        (operator.truediv, A, B),
        (operator.truediv, 1, A),
        (operator.add, A, 1),
        (operator.add, 1, A),
        (operator.sub, 1, A),
        (operator.sub, A, 1.0),
        (operator.mul, A, "2"),
    ],
)
def test_what_means_nothing_is_a_type_error(
    operation: Callable[[Any, Any], Any], left: object, right: object
) -> None:
    with pytest.raises(TypeError):
        operation(left, right)


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_weight_is_finite(factor: float) -> None:
    with pytest.raises(OutOfRange, match=r"weight (nan|inf) .*channel\(a, 1\)"):
        assert factor * A


@given(tree=trees)
def test_an_expression_prints_as_itself(tree: Tree) -> None:
    objective = built(tree)
    assert parse_objective(str(objective)).terms == objective.terms


def test_examples_of_printing() -> None:
    assert str(A - 0.5 * B) == "channel(a, 1) - 0.5 * neuron(b, 2, 3, 4)"
    assert str(-A + 2 * C) == "-channel(a, 1) + 2.0 * total_variation()"
    assert str(-0.5 * A) == "-0.5 * channel(a, 1)"


def test_values_compare_and_hash() -> None:
    assert Channel("a", 1) - 2 * Neuron("b", 2, 3, 4) == A - 2 * B
    assert A - B != B - A
    assert len({A + B, A + B, A - B}) == 2


def test_layers_and_coupling_are_those_of_the_terms() -> None:
    objective = A - B + C + Channel("a", 3)
    assert objective.layers == ("a", "b")
    assert C.layers == ()
    assert not objective.is_coupled
    assert (A - 0.1 * Likeness("z")).is_coupled
    assert (A - Misalignment("z")).is_coupled


def test_a_group_is_what_rows_may_share() -> None:
    assert Channel("a", 1).group == Channel("a", 2).group
    assert Channel("a", 1).group != Channel("b", 1).group
    assert Misalignment("a").group != Misalignment("a", 3.0).group
    assert isinstance(A + B, WeightedSum)
