"""What pictures cost is reckoned from a few steps; `featviz plan` says it, and what is there."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import assert_refused, printed

from featviz.atlas.config import AtlasConfig
from featviz.atlas.estimate import Timing, bands, disk_bytes, estimate
from featviz.atlas.plan import plan
from featviz.atlas.store import Store
from featviz.cli.plan import in_words
from featviz.engine.execution import Execution, execution
from featviz.engine.recipe import Recipe
from featviz.engine.render import render
from featviz.network.network import Network
from featviz.network.zoo import load


@pytest.fixture(scope="module")
def network() -> Network:
    return load("planted")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def of_steps(network: Network, units: Sequence[str], **settings: Any) -> list[Recipe]:
    config = AtlasConfig(**{"network": "planted", "size": 48, "units": list(units), **settings})
    return list(plan(config, network).recipes)


def test_an_estimate_counts_whole_batches(network: Network) -> None:
    # Depths in fourths of 20 operations: all five in one; two at once, so three batches, each of
    # 16 redirected steps of .5 s, 4 others of .25 s and 2 s at the end.
    recipes = of_steps(network, ["line:0-4"], steps=20)
    timing = Timing(0.5, 0.25, ending=2.0, beginning=3.0, evidence=0.125, references=7.0)
    seen: list[Sequence[Recipe]] = []

    def timed(_: Network, sample: Sequence[Recipe], how: Execution) -> Timing:
        seen.append(sample)
        return timing

    found = estimate(network, recipes, execution(slots=2), timed=timed)
    assert found.seconds == 3 + 3 * (16 * 0.5 + 4 * 0.25 + 2)
    assert found.evidence_s == 5 * 0.125 + 7
    assert (found.pictures, found.timed) == (5, 5)
    assert seen == [tuple(recipes[1:3])]  # a batch from the middle
    short = [replace(recipe, steps=10) for recipe in recipes[:1]]
    alone = estimate(network, short, execution(slots=2), timed=timed)
    assert alone.seconds == 3 + 10 * 0.5 + 2
    sets = of_steps(network, ["line:0-2"], steps=20, techniques=["diversity"])
    in_sets = estimate(network, sets, execution(slots=8), timed=timed)
    assert in_sets.seconds == 3 + 2 * 11  # two sets of four at once
    assert in_sets.evidence_s == 12 * 0.125 + 7


def test_what_is_not_timed_costs_as_what_is_like_it(network: Network) -> None:
    large = of_steps(network, ["line:0-3"], steps=20, size=96)
    small = of_steps(network, ["line:0-1"], steps=20, size=48)
    found = estimate(
        network,
        small + large,
        execution(slots=2),
        limit_s=-1.0,
        timed=lambda *_: Timing(0.5, 0.25, ending=2.0, beginning=4.0, evidence=1.0, references=8.0),
    )
    assert found.seconds == 4 + 2 * 11 + (4 + 11) / 4
    assert found.evidence_s == 4 * 1 + 8 + (2 * 1 + 8) / 4
    assert (found.pictures, found.timed) == (6, 4)
    assert found.basis.startswith("5 steps of 1 of 2 kinds of pictures, 67% of them; 2 slots, cpu")


def test_recipes_of_like_depth_and_size_are_one_band(network: Network) -> None:
    recipes = of_steps(network, ["whole:0", "gabor:0-1", "whole:1"])
    shallow, deep = sorted(bands(network, recipes), key=lambda band: band.depth)
    assert list(shallow.recipes) == recipes[1:3]
    assert list(deep.recipes) == [recipes[0], recipes[3]]
    assert shallow.work < deep.work


def test_bytes_are_of_pixels_recipes_and_steps(network: Network) -> None:
    (recipe,) = of_steps(network, ["line:0"], steps=20)
    words = 2 * len(recipe.to_json()) + 20 * 20 + 4000
    pixels = 48 * 48
    assert disk_bytes(network, [recipe], ["png"]) == round(2.6 * pixels + words)
    assert disk_bytes(network, [recipe], ["webp", "jpeg"]) == round(3.2 * pixels + words)
    sets = of_steps(network, ["line:0"], steps=20, techniques=["diversity"])
    assert disk_bytes(network, sets, ["png"]) > 4 * disk_bytes(network, [recipe], ["png"])
    assert disk_bytes(network, [], ["png"]) == 0


def test_steps_are_timed_as_the_engine_makes_them(network: Network) -> None:
    found = estimate(network, of_steps(network, ["line:0-2"]), execution(slots=2))
    assert found.seconds > 0
    assert found.evidence_s > 0
    assert found.basis.startswith("5 steps of 1 of 1 kinds of pictures, 100% of them; 2 slots")


TOML = """
network = "planted"
units = ["curve:3-4", "joined:1"]
techniques = ["channel", "negative"]
pairs = [["curve:3", "line:2"]]
size = 48
steps = 2
slots = 2
"""


def test_the_command_shows_what_is_there_and_what_is_missing(network: Network) -> None:
    Path("small.toml").write_text(TOML)
    *table, _, summary = printed("plan", "small.toml", "--no-timing").splitlines()
    assert [line.split() for line in table] == [
        ["layer", "technique", "pictures", "in", "the", "store", "missing"],
        ["curve", "channel", "2", "0", "2"],
        ["curve", "negative", "2", "0", "2"],
        ["joined", "channel", "view", "1", "0", "1"],
        ["joined", "negative", "view", "1", "0", "1"],
        ["several", "pair", "1", "0", "1"],
    ]
    assert summary == (
        "7 pictures, 0 in the store, 7 missing: about 1 MiB; no time is estimated (--no-timing)"
    )
    assert [path.name for path in Path.cwd().iterdir()] == ["small.toml"]
    store = Store.at("atlases/small")
    store.claim(network)
    for picture in render(network, ["curve:3", "joined:1"], size=48, steps=2):
        store.put(picture)
    known = json.loads(printed("plan", "small.toml", "--no-timing", "--json"))
    assert (known["pictures"], known["kept"], known["missing"]) == (7, 2, 5)
    assert known["parts"][0] == {
        "layer": "curve",
        "technique": "channel",
        "is_view": False,
        "pictures": 2,
        "kept": 1,
        "missing": 1,
    }
    assert known["parts"][-1]["layer"] is None
    assert known["estimate"] is None
    assert known["bytes"] > 0
    less = "network = 'planted'\nunits = ['curve:3', 'joined:1']\nsize = 48\nsteps = 2\n"
    Path("less.toml").write_text(less)
    done = printed("plan", "less.toml", "--out", "atlases/small").splitlines()
    assert done[-1] == "2 pictures, 2 in the store, 0 missing: nothing to do"


def test_the_command_estimates(network: Network) -> None:
    Path("small.toml").write_text(TOML)
    estimated = json.loads(printed("plan", "small.toml", "--json"))["estimate"]
    assert estimated["pictures"] == 7
    assert estimated["seconds"] > 0
    last = printed("plan", "small.toml").splitlines()[-1]
    assert last.startswith("estimated from 5 steps of ")


def test_the_command_refuses_a_store_of_another_network(everything: Network) -> None:
    Path("small.toml").write_text(TOML)
    Store.at("theirs").claim(everything)
    assert_refused(
        ["plan", "small.toml", "--out", "theirs"], "'theirs'", "pictures of", "another --out"
    )
    assert_refused(["plan", "small.toml", "--device", "cuda:9"], "'cuda:9'", "there is: cpu")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (59.4, "59 s"),
        (90.0, "2 min"),
        (3600.0, "1 h 0 min"),
        (7830.0, "2 h 10 min"),
        (273600.0, "3 d 4 h"),
    ],
)
def test_durations_are_said_in_units_that_matter(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
