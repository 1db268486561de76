"""Objectives of one's own: plain functions that are stored by their import path."""

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation import EXACT, pictures, program_values, seen_of, values_of
from torch import Tensor

from featviz.engine.custom import Custom, imported, objective
from featviz.engine.objectives import Channel
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import render
from featviz.errors import DoesNotFit, Malformed, NotAvailable, OutOfRange, UnknownName
from featviz.network.network import Network


@objective("{layer}")
def peak(recorded: dict[str, Tensor], layer: str, channel: int, factor: float = 1.0) -> Tensor:
    """The largest value of a channel."""
    return recorded[layer][:, channel].amax(dim=(1, 2)) * factor


@objective("third", "{other}/pre")
def gap(recorded: dict[str, Tensor], other: str) -> Tensor:
    return recorded["third"].mean(dim=(1, 2, 3)) - recorded[f"{other}/pre"].mean(dim=(1, 2, 3))


@objective("third")
def shapeless(recorded: dict[str, Tensor]) -> Tensor:
    return recorded["third"].mean()


@objective("third")
def wordy(recorded: dict[str, Tensor]) -> Any:
    return "high"


def test_a_function_is_an_objective(everything: Network) -> None:
    asked = 2 * peak(layer="third", channel=1) - Channel("third", 0)
    assert asked.layers == ("third",)
    maps = seen_of(everything, ["third"], pictures()).raw["third"]
    expected = 2 * maps[:, 1].amax(dim=(1, 2)) - maps[:, 0].mean(dim=(1, 2))
    torch.testing.assert_close(values_of(everything, asked, pictures()), expected, **EXACT)


def test_read_points_are_filled_from_the_arguments(everything: Network) -> None:
    assert gap(other="second").layers == ("third", "second/pre")
    assert values_of(everything, gap(other="second"), pictures()).isfinite().all()


def test_it_is_batched_with_others(everything: Network) -> None:
    rows = [
        peak(layer="third", channel=1),
        Channel("third", 1),
        peak(layer="third", channel=2) - peak(layer="third", channel=1),
        peak(layer="first", channel=0, factor=0.5),
    ]
    values, seen = program_values(everything, rows, pictures(4))
    for row, each in enumerate(rows):
        torch.testing.assert_close(values[row], each(seen)[row], **EXACT)


def test_it_is_stored_by_its_path_and_found_again(everything: Network) -> None:
    recipe = default_recipe(everything, peak(layer="third", channel=1), steps=3)
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.digest == recipe.digest
    assert again.objective.terms[0][1].call is None  # type: ignore[attr-defined]
    torch.testing.assert_close(
        values_of(everything, again.objective, pictures()),
        values_of(everything, recipe.objective, pictures()),
        **EXACT,
    )


def stored(term: Custom, **changes: str) -> Custom:
    return Custom(
        changes.get("function", term.function),
        term.read_points,
        term.arguments,
        changes.get("source", term.source),
    )


def test_another_function_of_the_same_name_is_refused_before_the_first_step(
    everything: Network,
) -> None:
    term = shapeless().terms[0][1]
    assert isinstance(term, Custom)
    for wrong, error in (
        (stored(term, source="0" * 16), DoesNotFit),
        (stored(term, function="test_custom:missing"), UnknownName),
        (stored(term, function="no_such_module_at_all:f"), NotAvailable),
        (stored(term, function="nonsense"), Malformed),
    ):
        with pytest.raises(error):
            imported(wrong)
        with pytest.raises(error):
            render(everything, wrong, steps=1)


def test_another_text_is_another_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everything: Network
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = """
from featviz import objective

@objective("third")
def mine(recorded):
    return recorded["third"].{}(dim=(1, 2, 3))
"""
    digests = []
    for name, reduction in (("mine_mean", "mean"), ("mine_amax", "amax")):
        (tmp_path / f"{name}.py").write_text(text.format(reduction))
        module = importlib.import_module(name)
        digests.append(module.mine().terms[0][1].source)
    assert digests[0] != digests[1]


def test_what_a_function_returns_is_checked(everything: Network) -> None:
    with pytest.raises(DoesNotFit, match=r"shapeless returns: got \(\), expected one .*\(6,\)"):
        values_of(everything, shapeless(), pictures())
    with pytest.raises(DoesNotFit, match="wordy returns: got str"):
        values_of(everything, wordy(), pictures())


def test_arguments_are_checked_when_it_is_made(everything: Network) -> None:
    with pytest.raises(DoesNotFit, match=r"test_custom:peak.*\['chanel', 'layer'\]"):
        peak(layer="third", chanel=1)
    with pytest.raises(DoesNotFit, match="channel"):
        peak(layer="third")
    with pytest.raises(UnknownName, match="nearest: third"):
        peak(layer="thrid", channel=1).resolve(everything)


def test_it_keeps_its_name_and_words() -> None:
    assert peak.__name__ == "peak"
    assert peak.__doc__ == "The largest value of a channel."
    assert str(peak(layer="third", channel=1)) == "test_custom:peak(channel=1, layer='third')"


def test_a_function_of_the_variables_around_it_is_refused() -> None:
    """Two of one factory have one text, and would be one recipe."""

    def made(k: float) -> Any:
        @objective("third")
        def closed(recorded: dict[str, Tensor]) -> Tensor:
            return k * recorded["third"].mean(dim=(1, 2, 3))

        return closed

    with pytest.raises(DoesNotFit, match=r"variable k .*pass it as an argument"):
        made(1.0)
    with pytest.raises(DoesNotFit, match=r"got partial, expected a function"):
        objective("third")(partial(torch.sum))


def test_another_default_is_another_objective() -> None:
    def made(k: float) -> Any:
        @objective("third")
        def defaulted(recorded: dict[str, Tensor], k: float = k) -> Tensor:
            return k * recorded["third"].mean(dim=(1, 2, 3))

        return defaulted

    assert made(1.0)().terms[0][1] == made(1.0)().terms[0][1]
    assert made(1.0)().terms[0][1] != made(2.0)().terms[0][1]


def test_its_numbers_are_finite() -> None:
    with pytest.raises(OutOfRange, match="factor nan"):
        peak(layer="third", channel=1, factor=float("nan"))
