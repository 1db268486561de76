"""The benchmarks measure what they say; times themselves are never tested."""

import argparse
import importlib
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from networks import Everything, network_of
from torch import nn

import featviz
from benchmarks import (
    acceptance,
    atlas,
    cuda,
    everything,
    history,
    lastlayer,
    machine,
    parts,
    peers,
    scaling,
    step,
)
from benchmarks.judge import SCORES
from benchmarks.peer import Peer, Rendered, Target
from featviz.atlas.evidence import Evidence
from featviz.atlas.store import Store
from featviz.engine.ascent import Ascent
from featviz.engine.execution import execution
from featviz.engine.recipe import default_recipe
from featviz.network.planted.answers import DEAD
from featviz.network.recording import Prefix

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
KEYS = {
    *("layer", "size_px", "slots", "ms_per_picture_step", "pictures_per_s", "steps_per_picture"),
    *("forward_mmac", "outside_network", "flop_per_s", "peak_mib", "ms_redirected"),
}
NEWER_KEYS = {
    *("device", "picture_steps_per_s", "core_ms_outside", "bytes_per_s", "share_rest"),
    *(f"share_{part}" for part in parts.PARTS),
}


def test_a_row_of_the_table() -> None:
    network = featviz.load("planted")
    row = step.measure(network, "line", size=48, slots=2, steps=2)
    assert set(row) == KEYS | NEWER_KEYS
    assert (row["layer"], row["size_px"], row["slots"]) == ("line", 48, 2)
    assert (row["device"], row["steps_per_picture"]) == ("cpu", featviz.Recipe.steps)
    assert row["ms_per_picture_step"] > 0
    assert row["outside_network"] > 0
    assert row["core_ms_outside"] > 0
    seconds, redirected = row["ms_per_picture_step"] / 1e3, row["ms_redirected"] / 1e3
    first = featviz.Recipe.redirected_steps
    picture = first * redirected + (featviz.Recipe.steps - first) * seconds
    assert row["pictures_per_s"] == pytest.approx(1 / picture)
    assert row["picture_steps_per_s"] == pytest.approx(1 / seconds)
    assert row["flop_per_s"] == pytest.approx(4e6 * row["forward_mmac"] / seconds)
    assert row["peak_mib"] > 1
    shares = [row[f"share_{part}"] for part in (*parts.PARTS, "rest")]
    assert sum(shares) == pytest.approx(1)
    limits = {"matrix_flop_per_s": 4 * row["flop_per_s"], "copy_bytes_per_s": row["bytes_per_s"]}
    beside = step.of_limits(row, limits)
    assert (beside["of_matrix_rate"], beside["of_copy_rate"]) == pytest.approx((0.25, 1))


def test_a_part_that_is_slowed_has_the_larger_share(monkeypatch: pytest.MonkeyPatch) -> None:
    network = featviz.load("planted")
    recipes = [default_recipe(network, featviz.Channel("line", n), size=48) for n in range(2)]
    prefix = Prefix(network, ["line"], rows=48, columns=48)
    usual = Ascent.step

    def slow(*args: torch.Tensor, **options: torch.Tensor) -> torch.Tensor:
        time.sleep(0.04)  # far above all else: the parts of 2 pictures of 48 px take 2 ms
        return usual(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(parts, "REPEATS", 3)
    monkeypatch.setattr(Ascent, "step", slow)
    costs = parts.part_costs(network, recipes, prefix)
    shares = parts.shares(costs)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["update"] > 0.5
    assert max(shares[part] for part in parts.PARTS if part != "update") < 0.5
    assert costs["update"].core_s < 0.03 < costs["update"].wall_s  # who sleeps takes no core
    assert costs["outside"].wall_s > 0.03


def test_pieces_move_the_parameters_as_the_engine_moves_them() -> None:
    network = featviz.load("planted")
    recipes = [default_recipe(network, featviz.Channel("line", n), size=48) for n in range(2)]
    pieces = parts.Pieces(network, recipes, Prefix(network, ["line"], rows=48, columns=48))
    assert pieces.works().keys() == {*parts.PARTS, "network", "outside"} - {"backward"}
    before = pieces.parameters.detach().clone()
    for name, work in pieces.works().items():
        work()
        moved = bool((pieces.parameters != before).any())
        assert moved == (name in ("update", "outside")), name
        before = pieces.parameters.detach().clone()


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


@pytest.mark.parametrize(
    ("layer", "weights", "results"),
    [
        # A convolution and its rectifier; of the second, the normalization is folded away.
        ("first", 6 * 27 + 6, 2 * 12 * 10 * 6),
        ("second", 6 * 27 + 6 + 8 * 54 + 8 + 8 + 8, 2 * 12 * 10 * 6 + 2 * 6 * 5 * 8),
    ],
)
def test_moved_bytes_are_counted_by_hand(layer: str, weights: int, results: int) -> None:
    network = network_of(Everything(), dtype=torch.float32)
    prefix = Prefix(network, [layer], rows=12, columns=10)
    picture = 3 * 12 * 10
    # 4 bytes each; weights read twice; 2 pictures' values and gradients each written and read.
    expected = 4 * (2 * weights + 2 * 4 * (picture + results))
    assert step.moved_bytes(network, prefix, 2, 12, 10) == expected


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
    assert result["hardware"]["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert result["settings"]["matrix_flop_per_s"] == 1e9


def test_the_machine_rates_are_rates() -> None:
    assert 0 < machine.matrix_rate(CPU, torch.float32, side=64) < math.inf
    assert 1e7 < machine.copy_rate(CPU, mib=1) < 1e15


def test_committed_results_have_the_shape_that_is_written() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("step-*.json"):
        result = json.loads(path.read_text())
        assert set(result["rows"][0]) >= KEYS
        assert len(result["commit"].removesuffix("+changes")) == 12
        assert "+changes" not in result["commit"]


def test_atlas_compares_four_runs_of_the_same_units() -> None:
    network = featviz.load("planted")
    units = [("line", 0), ("line", 1), ("curve", 2)]
    recipes = [default_recipe(network, featviz.Channel(*unit), size=48, steps=3) for unit in units]
    rows = atlas.measure(network, recipes, execution(slots=2))
    assert [(row["batching"], row["stop"]) for row in rows] == list(atlas.RUNS)
    for row in rows:
        assert row["units"] == 3
        assert row["cpu_s_per_unit"] > 0
        assert row["wall_s_per_unit"] > 0
        assert row["steps_per_picture"] == 3  # a plateau is not looked for so soon
        assert row["score_ratio"] == pytest.approx(1, rel=1e-3)  # rounding, by other mates
        # 3 pictures of 3 steps in 2 slots: 6 steps of the batch, whether it waits or not.
        assert row["useful_share"] == pytest.approx(9 / 12)
        assert set(row["median_score_by_layer"]) == {"line", "curve"}


def test_batches_that_wait_hold_only_what_can_be_rowed_together() -> None:
    network = featviz.load("planted")
    small = [default_recipe(network, featviz.Channel("line", n), size=48) for n in range(3)]
    large = [replace(each, shape=replace(each.shape, rows=64)) for each in small[:1]]
    made = atlas.batches([small[0], *large, *small[1:]], 2)
    assert made == [small[:2], small[2:], large]


class Two(nn.Module):
    """Convolutions of 1 x 1 from 3 to 2 and from 2 to 5 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 5, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(images).relu()).relu()


def test_the_last_layers_share_is_counted_by_hand() -> None:
    found = lastlayer.bound(network_of(Two()), 16)
    # Per pixel 6 and 10 multiply-adds: 2 units of 6, 5 units of 16 of which 10 are the last's.
    assert found == {"units": 7, "saved_at_most": pytest.approx((2 * 6 + 5 * 10) / (12 + 80))}


def a_peer(folder: Path, **settings: Any) -> Peer:
    return Peer("dreamlens", folder, {"planted": ""}, steps=3, **settings)


def test_what_a_peer_rendered_counts_for_its_settings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site-dreamlens").mkdir()  # installed already
    commands: list[list[str]] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        commands.append(words)
        told = {"cpu_s": 2.0, "wall_s": 1.0, "passes": 3}
        return subprocess.CompletedProcess(words, 0, stdout=f"noise\n{json.dumps(told)}\n")

    monkeypatch.setattr(subprocess, "run", run)
    targets = [Target("planted", "curve", 0), Target("planted", "curve", 1)]
    peer = a_peer(tmp_path)
    peer.collect(targets[:1])
    peer.collect(targets)
    assert [words[words.index("--channel") + 1] for words in commands] == ["0", "1"]
    found = peer.known()[targets[1]]
    assert (found.cpu_s, found.wall_s, found.passes, found.presented_px) == (2, 1, 3, 128)
    assert a_peer(tmp_path, variant="frozen").known() == {}
    assert a_peer(tmp_path, threads=2).known() == {}


def test_a_summary_of_peers_is_medians_and_a_ratio_of_sums() -> None:
    one: dict[str, float] = {f"{name}_{side}": 1 for name in SCORES for side in ("ours", "peer")}
    costs = {"rank_ours": 0, "rank_peer": 2, "wall_s_ours": 1, "wall_s_peer": 1}
    one |= costs | {"passes_ours": 40, "passes_peer": 512, "cpu_s_ours": 1, "cpu_s_peer": 50}
    rows = [one, one | {"score_ours": 3, "cpu_s_peer": 150}, one | {"score_ours": 2}]
    summary = peers._summary(rows)
    assert (summary["units"], summary["score_ours"], summary["score_peer"]) == (3, 2, 1)
    assert (summary["score_ratio"], summary["score_higher"]) == (2, 2)
    assert summary["cpu_s_peer_by_ours"] == pytest.approx(250 / 3)


def test_ours_until_equal_is_the_fewest_passes_that_score_no_less() -> None:
    scores = {40: 6, 16: 4, 32: 8, 24: 5.0}
    picture = Path("ours.png")
    tried = [(Rendered(picture, n / 10, n / 20, n, 128), score) for n, score in scores.items()]
    found = peers.until_equal(tried, 5)
    assert found == {
        "cpu_s_until_equal": 2.4,
        "wall_s_until_equal": 1.2,
        "passes_until_equal": 24,
        "is_equal": True,
    }
    assert peers.until_equal(tried, 7)["passes_until_equal"] == 32
    never = peers.until_equal(tried, 9)
    assert (never["passes_until_equal"], never["is_equal"]) == (40, False)


def test_a_summary_until_equal_counts_units_that_never_are() -> None:
    one: dict[str, float] = {f"{name}_{side}": 1 for name in SCORES for side in ("ours", "peer")}
    costs = {"rank_ours": 0, "rank_peer": 2, "wall_s_ours": 1, "wall_s_peer": 1}
    one |= costs | {"passes_ours": 40, "passes_peer": 512, "cpu_s_ours": 1, "cpu_s_peer": 60}
    one |= {"cpu_s_until_equal": 1, "wall_s_until_equal": 1, "passes_until_equal": 20}
    rows = [one | {"is_equal": True}, one | {"is_equal": False, "cpu_s_until_equal": 4}]
    summary = peers._summary(rows)
    assert (summary["equal"], summary["passes_until_equal"]) == (1, 20)
    assert summary["cpu_s_peer_by_ours_until_equal"] == 120 / 5


def test_everything_counts_what_it_was_limited_to() -> None:
    network = featviz.load("planted")
    options = argparse.Namespace(
        device="cpu",
        dtype="float32",
        size="48",
        slots=None,
        units=4,
        preset="fast",
        steps=2,
    )
    summary, rows = everything.measure(network, ["line", "curve"], options)
    assert sum(row["units"] for row in rows) == summary["units"] == 4
    assert [row["layer"] for row in rows] == ["line", "curve"]
    assert summary["all_units"] == 18 + 26
    assert summary["slots"] == 4
    assert summary["wall_s"] < summary["projected_s"] < 11 * summary["wall_s"] + 1e-9
    assert summary["units_per_s"] == pytest.approx(1 / summary["wall_s_per_unit"])
    assert summary["busy_share"] is None
    assert [row["steps_per_picture"] for row in rows] == [2, 2]


def test_evenly_spaced_units_begin_with_the_first() -> None:
    assert everything.evenly(range(10), 4) == [0, 2, 5, 7]
    assert everything.evenly(range(3), 7) == [0, 1, 2]


def test_the_layers_of_everything_are_there() -> None:
    name = "torchvision:googlenet"
    network = featviz.load(name, weights="none")
    channels = [network.layer(layer).channels for layer in everything.LAYERS[name]]
    assert sum(channels) == 5808


def test_a_case_of_scaling_makes_as_many_pictures_as_it_says() -> None:
    case = scaling.Case(units=2, slots=2, size=48, layer="line", network="planted")
    scaling.measure(case)
    few, many = scaling.measure(case), scaling.measure(replace(case, units=40))
    assert (few["pictures"], many["pictures"]) == (2, 40)  # of a layer of 18 channels
    assert 0 < few["base_mib"] <= few["peak_mib"]


def test_a_case_of_scaling_is_measured_in_a_process_of_its_own() -> None:
    case = scaling.Case(units=2, slots=1, size=48, layer="line", network="planted")
    row = scaling.measured_apart(case)
    assert row["pictures"] == 2
    assert row["layer"] == "line"
    assert row["wall_s"] > 0


def test_one_axis_of_scaling_varies_at_a_time() -> None:
    options = argparse.Namespace(
        units=[5, 2],
        slots=[4, 8],
        sizes=[48],
        layers=["b", "a"],
        steps=2,
        network="planted",
        device="cpu",
        dtype="float32",
    )
    found = [(g, c.units, c.slots, c.size, c.layer) for g, c in scaling.cases(options)]
    assert found == [
        *(("units", 2, 4, 48, "b"), ("units", 5, 4, 48, "b")),
        *(("slots", 5, 4, 48, "b"), ("slots", 5, 8, 48, "b")),
        ("size", 5, 4, 48, "b"),
        *(("layer", 5, 4, 48, "b"), ("layer", 5, 4, 48, "a")),
    ]


def result_of(day: int, ms: float, **row: str) -> dict[str, object]:
    """A result of the step benchmark: two layers, and a row that is not asked for."""
    common = {"size_px": 128, "slots": 16, **row}
    rows = [
        {"layer": "blocks.1", "ms_per_picture_step": ms, **common},
        {"layer": "blocks.3", "ms_per_picture_step": 2 * ms, **common},
        {"layer": "blocks.3", "ms_per_picture_step": 9.0, **common, "slots": 1},
    ]
    settings = {"network": "efficientnet_lite0", "dtype": "float32"}
    return {
        "date": f"2026-01-{day:02}",
        "commit": f"{day:012x}",
        "settings": settings,
        "rows": rows,
    }


def test_history_has_a_point_per_result_and_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {"b": result_of(3, 5.0), "a": result_of(9, 2.0, device="cpu", dtype="float32")}
    results["other"] = result_of(5, 1.0, device="cuda", dtype="float32")
    for name, result in results.items():
        (tmp_path / f"step-{name}.json").write_text(json.dumps(result))
    out = tmp_path / "docs" / "history.svg"
    words = ["history", "--results", str(tmp_path), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    history.main()
    table = capsys.readouterr().out
    assert [row.split()[-1] for row in table.splitlines()[1:-1]] == [
        "200.0",
        "100.0",
        "500.0",
        "250.0",
    ]
    circles = ElementTree.parse(out).findall(".//{*}circle")
    assert len(circles) == 4
    places = {
        each[0].text: (float(each.attrib["cx"]), float(each.attrib["cy"])) for each in circles
    }
    older, newer = places["blocks.1, 000000000003: 200.0"], places["blocks.1, 000000000009: 500.0"]
    assert older[0] < newer[0]
    assert older[1] > newer[1]  # more is further up


def test_a_full_batch_has_others_of_the_layer_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    network = featviz.load("planted")
    layer = max(network.layers(), key=lambda key: network.layer(key).channels)
    asked = [default_recipe(network, featviz.Channel(layer, n)) for n in (3, 1, 0)]
    monkeypatch.setattr(peers, "DEFAULT_SLOTS", {"cpu": 5})
    others = peers.beside(network, asked, "cpu")
    assert len(others) == 2
    assert not {each.digest for each in others} & {each.digest for each in asked}
    assert {each.objective.layers for each in others} == {(layer,)}
    monkeypatch.setattr(peers, "DEFAULT_SLOTS", {"cpu": 2})
    assert peers.beside(network, asked, "cpu") == []


def test_history_knows_the_parts_of_a_cuda_result(tmp_path: Path) -> None:
    part = {**result_of(4, 0.5, device="cuda", dtype="bfloat16"), "benchmark": "step"}
    rows = [{"part": "tests", "exit_code": 0}, part, {"benchmark": "everything", "rows": []}]
    (tmp_path / "cuda-x.json").write_text(json.dumps({"rows": rows}))
    options = argparse.Namespace(
        network="efficientnet_lite0", device="cuda", dtype="bfloat16", size=128, slots=16
    )
    found = history.points(tmp_path, options)
    assert [(each.layer, each.picture_steps_per_s) for each in found] == [
        ("blocks.1", 2000),
        ("blocks.3", 1000),
    ]


def test_lucent_is_compared_with_every_unit_of_its_network() -> None:
    every = {"benchmark": "everything", "summary": {"wall_s_per_unit": 0.5, "cpu_s_per_unit": 0.25}}
    mine = {**every, "part": "everything, googlenet_bvlc"}
    other = {**every, "part": "everything, torchvision:googlenet"}
    lucent = {"units": 2, "wall_s_peer": 10.0, "cpu_s_peer": 20.0}
    peers = {"part": "peers", "benchmark": "peers", "summary": {"googlenet_bvlc": lucent}}
    (found,) = cuda.by_ours([mine, other, peers])
    assert found["by_part"] == {mine["part"]: {"wall_s": 20, "cpu_s": 80}}
    assert found["units"] == 2
    assert cuda.by_ours([mine, {"part": "peers", "exit_code": None, "said": ""}]) == []
    assert cuda.by_ours([peers]) == []


def test_history_of_nothing_is_an_empty_plot() -> None:
    assert "circle" not in history.plot([], "nothing")


def test_results_of_one_day_follow_their_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, commit in (("x", "a" * 12), ("y", "c" * 12), ("z", "b" * 12)):
        result = {**result_of(1, 5.0), "commit": commit}
        (tmp_path / f"step-{name}.json").write_text(json.dumps(result))
    monkeypatch.setattr(history, "_commits", lambda: ["c" * 40, "b" * 40, "a" * 40])
    options = argparse.Namespace(
        network="efficientnet_lite0", device="cpu", dtype="float32", size=128, slots=16
    )
    found = history.points(tmp_path, options)
    assert [point.commit[0] for point in found[::2]] == ["c", "b", "a"]


def test_without_a_cuda_device_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["cuda", "--device", "cuda"])
    with pytest.raises(SystemExit) as stopped:
        cuda.main()
    assert stopped.value.code == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_a_part_that_fails_or_is_late_is_said_to() -> None:
    failed = cuda.run(["timeit", "no_such_name"], 60)
    assert failed["exit_code"] == 1
    assert "no_such_name" in failed["said"]
    late = cuda.run(["timeit", "-n", "1", "-r", "1", "import time; time.sleep(60)"], 0.2)
    assert late["exit_code"] is None
    assert late["seconds"] < 30


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "benchmarks.step"),
        ("--slots 4", "benchmarks.step --slots 4"),
        ("--device cpu --steps 2", "benchmarks.step --device cpu --steps 2"),
        ("step --device cuda", "benchmarks.step --device cuda"),
        ("atlas --units 2", "benchmarks.atlas --units 2"),
        ("--device cuda --units 2", "benchmarks.cuda --device cuda --units 2"),
        ("--history --out x.svg", "benchmarks.history --out x.svg"),
    ],
)
def test_the_script_runs_what_is_named(words: str, expected: str) -> None:
    command = ["scripts/bench", *words.split()]
    said = subprocess.run(
        command, cwd=ROOT, env={"BENCH_PYTHON": "echo"}, capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == f"-m {expected}"


def test_the_script_refuses_what_is_not_there() -> None:
    answer = subprocess.run(
        ["scripts/bench", "setp"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert "setp" in answer.stderr


def test_acceptance_tells_the_quality_of_a_layer(tmp_path: Path) -> None:
    store = Store.at(tmp_path)
    made = list(featviz.render(featviz.load("planted"), ["line:0-2", DEAD], size=48, steps=2))
    for rank, picture in enumerate(made):
        key = store.put(picture).key
        known = Evidence("pink-512", score=2.0 + rank, held_out=1.0, rank=rank, rank_of=18)
        store.write_evidence(key, known.to_data())
    row = acceptance.quality(store, [f"{each.recipe.digest}-0" for each in made])
    assert (row["pictures"], row["rendered"], row["dead"]) == (4, 3, 1)
    assert (row["rank_top_1"], row["rank_median"]) == (0.25, 1.5)
    assert (row["median_score"], row["median_spectrum_gap"]) == (3.5, None)
    assert row["median_held_out_ratio"] == pytest.approx((1 / 3 + 1 / 4) / 2)


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py"))
)
def test_every_benchmark_can_be_imported(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")
