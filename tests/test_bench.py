"""The step benchmark measures what it says; times themselves are never tested."""

import argparse
import json
import math
from pathlib import Path

import pytest
import torch
from networks import Everything, network_of

import featviz
from benchmarks import machine, step
from featviz.network.recording import Prefix

CPU = torch.device("cpu")
KEYS = {
    *("layer", "size_px", "slots", "ms_per_picture_step", "pictures_per_s", "steps_per_picture"),
    *("forward_mmac", "outside_network", "flop_per_s", "peak_mib", "ms_redirected"),
}


def test_a_row_of_the_table() -> None:
    network = featviz.load("planted")
    row = step.measure(network, "line", size=48, slots=2, steps=2)
    assert set(row) == KEYS
    assert (row["layer"], row["size_px"], row["slots"]) == ("line", 48, 2)
    assert row["steps_per_picture"] == featviz.Recipe.steps
    assert row["ms_per_picture_step"] > 0
    assert row["outside_network"] > 0
    seconds, redirected = row["ms_per_picture_step"] / 1e3, row["ms_redirected"] / 1e3
    first = featviz.Recipe.redirected_steps
    picture = first * redirected + (featviz.Recipe.steps - first) * seconds
    assert row["pictures_per_s"] == pytest.approx(1 / picture)
    assert row["flop_per_s"] == pytest.approx(4e6 * row["forward_mmac"] / seconds)
    assert row["peak_mib"] > 1


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        # Sites times output channels times weights of one of them.
        ("first", 12 * 10 * 6 * (3 * 9)),
        ("second", 12 * 10 * 6 * (3 * 9) + 6 * 5 * 8 * (6 * 9)),
        (
            "head",
            12 * 10 * 6 * (3 * 9) + 6 * 5 * 8 * (6 * 9) + 6 * 5 * 5 * 8 + 30 * 7 * 5 + 4 * 7,
        ),
    ],
)
def test_multiply_adds_are_counted_by_hand(layer: str, expected: int) -> None:
    network = network_of(Everything(), dtype=torch.float32)
    prefix = Prefix(network, [layer], rows=12, columns=10)
    assert step.forward_mac(network, prefix, 12, 10) == expected


def test_the_result_file_says_how_it_was_measured(tmp_path: Path) -> None:
    rows = [{"place": "early", "ms_per_picture_step": 1.5}]
    path = tmp_path / "new" / "step.json"
    options = argparse.Namespace(network="planted", dtype="float32", steps=2, out=path)
    step.write(options, CPU, 1e9, rows)
    result = json.loads(path.read_text())
    assert set(result) == {
        *("benchmark", "date", "hardware", "versions", "commit", "settings", "rows")
    }
    assert result["benchmark"] == "step"
    assert result["rows"] == rows
    assert result["versions"]["torch"] == torch.__version__
    assert result["hardware"]["threads"] == torch.get_num_threads()
    assert result["settings"]["matrix_flop_per_s"] == 1e9


def test_the_matrix_rate_is_a_rate() -> None:
    rate = machine.matrix_rate(CPU, torch.float32, side=64)
    assert 0 < rate < math.inf


def test_committed_results_have_the_shape_that_is_written() -> None:
    for path in (Path(__file__).parents[1] / "benchmarks" / "results").glob("step-*.json"):
        result = json.loads(path.read_text())
        assert set(result["rows"][0]) >= KEYS
        assert len(result["commit"].removesuffix("+changes")) == 12
        assert "+changes" not in result["commit"]
