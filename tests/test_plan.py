"""A plan has the pictures that its config asks for, in order, each once."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import assert_refused
from safetensors.torch import save_file

import featviz
from featviz.atlas.config import AtlasConfig, read_config
from featviz.atlas.entry import entries_of
from featviz.atlas.plan import Plan, plan
from featviz.atlas.store import Store
from featviz.engine.recipe import Adam, default_recipe
from featviz.engine.render import render
from featviz.errors import FeatvizError, Malformed
from featviz.image.transforms import Stack, lucid
from featviz.network.network import Network
from featviz.network.zoo import load

CONFIGS = Path(__file__).parents[1] / "configs"
CURVES = 26
"""Channels of the planted network's layer `curve`."""


@pytest.fixture(scope="module")
def network() -> Network:
    return load("planted")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config_of(**settings: Any) -> AtlasConfig:
    return AtlasConfig(**{"network": "planted", "size": 48, **settings})


def planned(network: Network, **settings: Any) -> list[tuple[str, str, str]]:
    """Technique, address and title of each picture."""
    entries = plan(config_of(**settings), network).entries
    return [(each.technique, each.address, each.title) for each in entries]


@lru_cache
def ready(name: str) -> tuple[Network, AtlasConfig, Plan]:
    """The plan of a config that comes with featviz; of a whole network, a channel of each layer."""
    config = read_config(CONFIGS / name)
    if config.units == ["*"]:
        config = config.model_copy(update={"units": ["*:0"], "size": 96})
    needs_a_file = config.network == "googlenet_bvlc"
    network = load(config.network, weights="none" if needs_a_file else "default")
    return network, config, plan(config, network)


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.iterdir()))
def test_ready_configs_can_be_planned(name: str) -> None:
    _, config, asked = ready(name)
    digests = {entry.digest for entry in asked.entries}
    assert len(digests) == len(asked.recipes) == len(asked.entries) > 0
    steps = 28 if config.preset == "fast" else config.steps
    assert {recipe.steps for recipe in asked.recipes} == {steps}


def test_early_vision_has_every_channel_of_the_stem_and_of_what_blocks_give() -> None:
    network, _, asked = ready("early-vision.toml")
    layers = {entry.layer for entry in asked.entries if entry.layer}
    blocks = [name for name in network.layers() if name.count(".") == 2 and name[-1].isdigit()]
    assert len(blocks) == 16
    made = {network.operation(layer) for layer in layers}
    assert {network.operation(each) for each in ("conv_stem", *blocks)} <= made
    channels = sum(network.layer(layer).channels for layer in layers)
    assert len(asked.entries) == channels == 2864


def test_a_plan_is_in_the_order_of_the_config_and_none_is_twice(network: Network) -> None:
    asked = config_of(units=["line:1", "line:0-1"], techniques=["channel", "negative"])
    assert [str(recipe.objective) for recipe in plan(asked, network).recipes] == [
        "channel(line, 1)",
        "-channel(line, 1)",
        "channel(line, 0)",
        "-channel(line, 0)",
    ]
    backwards = planned(network, units=["line:1"], techniques=["negative", "channel"])
    assert [title for _, _, title in backwards] == ["-line:1", "line:1"]
    seeds = plan(config_of(units=["line:0-1", "line/post:0"], seeds=[5, 2, 5]), network)
    assert [(each.title, each.seed) for each in seeds.entries] == [
        *(("line:0", 5), ("line:0", 2), ("line:1", 5), ("line:1", 2)),
    ]


def test_what_a_config_gives_counts_under_a_preset_too(network: Network) -> None:
    asked = {"network": "planted", "units": ["line:1"], "preset": "lucid", "size": 48}
    (whole,) = plan(AtlasConfig(**asked), network).recipes
    (changed,) = plan(AtlasConfig(**asked, steps=3, transforms="none"), network).recipes
    assert (whole.steps, whole.transforms) == (512, lucid())
    assert (changed.steps, changed.transforms) == (3, Stack())
    assert changed.optimizer == whole.optimizer != Adam()


def test_techniques_are_the_recipes_that_one_makes_by_hand(network: Network) -> None:
    asked = plan(
        config_of(
            units=["curve:3"],
            techniques=["channel", "neuron", "negative", "diversity"],
            diversity={"count": 3, "weight": 2.5},
            pairs=[["curve:3", "early:5@center"]],
            seeds=[7],
            size="48x64",
            learning_rate=0.25,
        ),
        network,
    )
    unit = featviz.Channel("curve", 3)
    settings: dict[str, Any] = {
        "seed": 7,
        "size": (48, 64),
        "optimizer": Adam(learning_rate=0.25),
    }
    by_hand = [
        default_recipe(network, unit, **settings),
        default_recipe(network, featviz.Neuron("curve", 3), **settings),
        default_recipe(network, -unit, **settings),
        default_recipe(network, unit - 2.5 * featviz.Likeness("curve"), count=3, **settings),
        default_recipe(network, unit + featviz.Neuron("early", 5), **settings),
    ]
    assert [each.digest for each in asked.recipes] == [each.digest for each in by_hand]
    shown = [(e.technique, e.address, e.title, e.layer, e.channel, e.index) for e in asked.entries]
    assert shown == [
        ("channel", "curve:3", "curve:3", "curve", 3, 0),
        ("neuron", "curve:3@center", "curve:3@center", "curve", 3, 0),
        ("negative", "curve:3", "-curve:3", "curve", 3, 0),
        ("diversity", "curve:3", "curve:3, 1 of 3", "curve", 3, 0),
        ("diversity", "curve:3", "curve:3, 2 of 3", "curve", 3, 1),
        ("diversity", "curve:3", "curve:3, 3 of 3", "curve", 3, 2),
        ("pair", *["curve:3 + early:5@center"] * 2, None, None, 0),
    ]
    recipes = {recipe.digest: recipe for recipe in asked.recipes}
    assert all(entry.index < recipes[entry.digest].count for entry in asked.entries)
    assert {entry.seed for entry in asked.entries} == {7}


def test_an_address_makes_the_picture(network: Network) -> None:
    units = ["line:2", "line/pre:2", "curve:3@1,2", "curve:3  - 0.5*curve:5", "logit(1)"]
    asked = plan(config_of(units=units, pairs=[["line:0", "line:1"]]), network)
    for entry, recipe in zip(asked.entries, asked.recipes, strict=True):
        (picture,) = render(network, entry.address, size=48, steps=1)
        assert picture.recipe.objective == recipe.objective, entry.address


def test_neurons_expressions_and_views_are_what_they_are(network: Network) -> None:
    units = ["joined:1", "line/pre:2", "curve:3@1,2", "line:0@center", "curve:3 - joined:5"]
    units += ["-channel(curve, 3)", "2 * total_variation()"]
    asked = plan(config_of(units=units, techniques=["negative"]), network)
    found = [(e.technique, e.layer, e.channel, e.is_view) for e in asked.entries]
    assert found == [
        ("negative", "joined", 1, True),
        ("negative", "line", 2, False),
        ("neuron", "curve", 3, False),
        ("neuron", "line", 0, False),
        ("expression", None, None, True),
        ("expression", "curve", None, False),
        ("expression", None, None, False),
    ]


def test_what_has_no_map_has_no_neuron_beside_its_channel(network: Network) -> None:
    both = planned(network, units=["head:0", "line:0"], techniques=["channel", "neuron"])
    assert [technique for technique, _, _ in both] == ["channel", "channel", "neuron"]
    alone = planned(network, units=["head:0"], techniques=["neuron"])
    assert alone == [("neuron", "head:0@center", "head:0@center")]


def test_a_whole_network_and_globs_are_unique_units(network: Network) -> None:
    units = sum(each.channels for each in network.layers().values() if not each.is_view)
    every = plan(config_of(units=["*"]), network)
    assert len(every.entries) == len(every.recipes) == units == 193
    assert not any(entry.is_view for entry in every.entries)
    assert [each.digest for each in every.recipes] == [each.digest for each in every.entries]
    some = [address for _, address, _ in planned(network, units=["[pw]*:*/2"])]
    assert some == ["part:0", "part:2", "whole:0"]


def matrix(**others: Any) -> dict[str, Any]:
    """Writes eight rows of the planted curves' channels, whose row 5 is no number."""
    rows = torch.arange(8.0)[:, None] + torch.arange(CURVES) / 64
    rows[5] = torch.nan
    tensors = {"decoder": rows.half(), "flipped": rows.T.contiguous(), "one": torch.ones(CURVES)}
    save_file(tensors, "words.safetensors")
    named = {"file": "words.safetensors", "tensor": "decoder", "layer": "curve"}
    return {**named, **others}


def test_directions_are_rows_read_with_their_names(network: Network) -> None:
    asked = plan(config_of(directions=[matrix(rows="6,0-3/2", names=["a", "b", "c"])]), network)
    for recipe, row in zip(asked.recipes, (6, 0, 2), strict=True):
        vector = [row + channel / 64 for channel in range(CURVES)]  # exact in 16 bits
        by_hand = default_recipe(network, featviz.Direction("curve", vector), size=48)
        assert recipe.digest == by_hand.digest
    assert [(e.technique, e.address, e.title, e.layer, e.channel) for e in asked.entries] == [
        ("direction", "curve:words/decoder[6]", "a (words/decoder[6])", "curve", None),
        ("direction", "curve:words/decoder[0]", "b (words/decoder[0])", "curve", None),
        ("direction", "curve:words/decoder[2]", "c (words/decoder[2])", "curve", None),
    ]
    bare = planned(network, directions=[matrix(layer="joined", rows="1")])
    assert bare == [("direction", "joined:words/decoder[1]", "words/decoder[1]")]


def test_files_of_directions_lie_beside_the_config(network: Network) -> None:
    folder = Path("deep")
    folder.mkdir()
    directions = matrix(rows="7,0", names="names.txt")
    Path("words.safetensors").rename(folder / "words.safetensors")
    (folder / "names.txt").write_text("".join(f"word {row}\n" for row in range(8)))
    settings = {"network": "planted", "size": 48, "directions": [directions]}
    (folder / "asked.yaml").write_text(json.dumps(settings))  # JSON is YAML
    config = read_config(folder / "asked.yaml")
    titles = [entry.title for entry in plan(config, network).entries]
    assert titles == ["word 7 (words/decoder[7])", "word 0 (words/decoder[0])"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"file": "none.safetensors"}, ["'none.safetensors'", "there is no such file"]),
        ({"file": "text"}, ["'text'", "a .safetensors file"]),
        ({"tensor": "decodr"}, ["no tensor 'decodr' in 'words.safetensors'", "nearest: decoder"]),
        ({"tensor": "one"}, ["the shape 26", "rows of 26"]),
        ({"tensor": "flipped"}, ["the shape 26x8", "rows of 26", "transpose it"]),
        ({"layer": "line"}, ["the shape 8x26", "rows of 18", "layer 'line'"]),
        ({"layer": "curv"}, ["no layer 'curv'", "nearest: curve"]),
        ({"rows": "4-8"}, ["row 8 is out of range", "'decoder'", "0 to 7"]),
        ({"rows": "0-3@1,2"}, ["the rows '0-3@1,2'"]),
        ({"rows": "first"}, ["the rows 'first'", '"0-63"']),
        ({"rows": "4-5"}, ["row 5 of tensor 'decoder' of 'words.safetensors' is not finite"]),
        ({"rows": "0-3", "names": ["a"]}, ["the names of 'decoder'", "got 1", "4, one", "or 8"]),
        ({"rows": "0", "names": "no.txt"}, ["the file of names 'no.txt'", "no such file"]),
        ({"rows": "0", "names": "words.safetensors"}, ["the names", "UTF-8 text"]),
    ],
)
def test_bad_directions_are_refused(
    network: Network, changed: dict[str, Any], words: list[str]
) -> None:
    Path("text").write_text("no tensors")
    with pytest.raises(FeatvizError) as refused:
        plan(config_of(directions=[matrix(**changed)]), network)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("no.toml", None, ["'no.toml'", "there is no such file"]),
        ("a.json", "{}", ["kind of config '.json'", ".toml"]),
        ("a.toml", "units = [", ["'a.toml'", "expected TOML", "at end of document"]),
        ("a.yaml", "units: [a\nb: c: d", ["'a.yaml'", "expected YAML", "line 2"]),
        ("a.yaml", "just words", ["'a.yaml'", "keys and values"]),
        ("a.yaml", "units: [line]\nunits: [curve]", ["the key 'units' stands twice", "line 2"]),
        (".", None, ["the config '.'", "it is a folder"]),
        ("a.toml", "units = ['line:1']\nsize = 100000", ["'size' of", "8 to 4096 pixels"]),
        ("a.toml", "units = ['line:1']\ndiversity = 4", ["'diversity' of", "keys and values"]),
        ("a.yaml", "units: [line]\nsteps: 2024-13-45", ["'a.yaml'", "expected YAML"]),
        ("a.yaml", "units: " + 4000 * "[", ["'a.yaml'", "expected YAML"]),
        ("a.yaml", "1: 2", ["no key '1' in a.yaml"]),
        ("a.toml", "units = ['line:1']\nstep = 3", ["no key 'step' in a.toml", "nearest: steps"]),
        ("a.toml", "units = ['line:1']\nseed = 3", ["'seed'", "nearest: seeds"]),
        ("a.toml", "units = ['line:1']\nnegative = true", ["'negative'", 'techniques = ["ch']),
        ("a.toml", "steps = 3", ["a.toml: 'units': got none", "pairs or directions"]),
        ("a.toml", "units = []", ["'units'", "got none", "at least one"]),
        ("a.toml", "units = 'line:1'", ["'units' of a.toml", "got 'line:1'", "list"]),
        ("a.toml", "units = [3]", ["'units.0' of a.toml", "got 3", "string"]),
        ("a.toml", "units = ['line:1']\nsteps = 'many'", ["'steps' of a.toml", "'many'", "int"]),
        ("a.toml", "units = ['line:1']\nsteps = 0", ["'steps' of a.toml", "got 0", "1"]),
        ("a.toml", "units = ['line:1']\nlearning_rate = nan", ["'learning_rate'", "nan"]),
        ("a.toml", "units = ['line:1']\ntransforms = 'x'", ["'transforms'", "'standard'"]),
        ("a.toml", "units = ['line:1']\npreset = 'luzid'", ["'preset' of", "nearest: 'lucid'"]),
        ("a.toml", "units = ['line:1']\ndtype = 'float16'", ["'dtype' of", "'bfloat16'"]),
        ("a.toml", "units = ['line:1']\ndtype = 16", ["'dtype' of", "got 16", "string"]),
        (
            "a.toml",
            "units = ['line:1']\nsize = 4",
            ["'size' of", "got 4", "8 to 4096 pixels", "auto"],
        ),
        ("a.toml", "units = ['line:1']\nsize = '96x'", ["'size' of", "'96x'", '"96x128"']),
        ("a.toml", "units = ['line:1']\nsize = true", ["'size' of", "got True", "auto"]),
        (
            "a.toml",
            "units = ['line:1']\nseeds = []",
            ["'seeds' of", "got []", "expected 1 or more"],
        ),
        ("a.toml", "units = ['line:1']\nseeds = [0, -1]", ["'seeds.1' of", "got -1", "0"]),
        ("a.toml", "units = ['line:1']\nformats = ['gif']", ["'formats.0'", "'png'", "'webp'"]),
        ("a.toml", "units = ['line:1']\nformats = ['png', 'webp']", ["'formats'", "one lossless"]),
        ("a.toml", "units = ['line:1']\ntechniques = []", ["'techniques' of", "got []"]),
        ("a.toml", "units = ['line:1']\ntechniques = ['neurn']", ["'techniques.0'", "'neuron'"]),
        ("a.toml", "units = ['line:1']\ndiversity = {cuont = 3}", ["'diversity'", "'cuont'"]),
        ("a.toml", "units = ['line:1']\ndiversity = {cuont = 3}", ["nearest: count"]),
        ("a.toml", "units = ['line:1']\ndiversity = {count = 1}", ["'diversity.count'", "got 1"]),
        ("a.toml", "pairs = [['line:1']]", ["'pairs.0' of", "expected 2 or more"]),
        ("a.toml", "pairs = [['a', 'b', 'c']]", ["'pairs.0' of", "expected 2 at most"]),
        ("a.toml", "pairs = [['line:1', 'line/post:1']]", ["a pair", "two different units"]),
        ("a.toml", "pairs = [['line:1', 'line:0-3']]", ["'line:0-3'", "exactly one channel"]),
        (
            "a.toml",
            "pairs = [['line:1', 'lime:1']]",
            ["'pairs' of the config: there is no layer 'lime'"],
        ),
        ("a.toml", "directions = [{file = 'a'}]", ["'directions.0.tensor'", "got nothing"]),
        ("a.toml", "directions = [{flie = 'a'}]", ["'directions' of", "'flie'", "nearest: file"]),
        ("a.toml", "units = ['line:99']", ["'units' of the config: channel 99", "0 to 17"]),
        ("a.toml", "units = ['lime*:1']", ["'lime*'", "nearest: line"]),
        ("a.toml", "units = ['join*']", ["'join*'", "nearest: joined"]),
        ("a.toml", "units = ['lime:1']", ["no layer 'lime'", "line"]),
        ("a.toml", "units = ['channl(line, 1)']", ["'channl'", "nearest: channel"]),
        ("a.toml", "units = ['line:1']\nsize = 8\nnetwork = 'plante'", ["nearest: planted"]),
        ("a.toml", "units = ['line:1@40,0']\nsize = 48", ["row 40", "0 to 11"]),
    ],
)
def test_a_bad_config_is_refused(name: str, text: str | None, words: list[str]) -> None:
    if text is not None:
        is_named = name.endswith(".toml") and "network" not in text
        Path(name).write_text("network = 'planted'\n" + text if is_named else text)
    assert_refused(["plan", name, "--out", "here"], *words)
    assert_refused(["atlas", name, "--out", "here"], *words)


def test_yaml_may_merge_what_has_a_name() -> None:
    Path("a.yaml").write_text("units: ['line:1']\ndiversity: {<<: {count: 2}, weight: 3.0}\n")
    assert read_config(Path("a.yaml")).diversity.count == 2


def test_a_plan_is_json_both_ways(network: Network) -> None:
    asked = plan(
        config_of(
            units=["line:1", "curve:3 - joined:5"],
            techniques=["diversity"],
            directions=[matrix(rows="0")],
            formats=["webp", "jpeg"],
        ),
        network,
    )
    data = json.loads(json.dumps(asked.to_data()))
    assert data["format"] == 1
    assert data["config"]["formats"] == ["webp", "jpeg"]
    assert data["config"].keys() == {
        *("network", "size", "units", "techniques", "directions", "formats")
    }
    assert data["entries"][3] == {
        "digest": asked.recipes[0].digest,
        "index": 3,
        "address": "line:1",
        "layer": "line",
        "channel": 1,
        "technique": "diversity",
        "title": "line:1, 4 of 4",
        "seed": 0,
        "is_view": False,
    }
    store = Store.at("here")
    assert entries_of(store) is None
    twice = {**data, "entries": [*data["entries"], data["entries"][0]]}
    store.write_json("plan.json", twice)
    assert entries_of(store) == asked.entries
    store.write_json("plan.json", {**data, "entries": []})
    assert entries_of(store) == ()


Spoil = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data.update(format=2), ["format 1"]),
        (lambda data: data.pop("entries"), ["entries"]),
        (lambda data: data["entries"][0].pop("digest"), ["0.digest", "required"]),
        (lambda data: data["entries"][0].update(technique="chanel"), ["0.technique", "'channel'"]),
        (lambda data: data["entries"][0].update(index="first"), ["0.index", "integer"]),
        (lambda data: data.update(entries=[3]), ["entries", "(0: "]),
    ],
)
def test_what_is_no_plan_is_refused(network: Network, spoil: Spoil, words: list[str]) -> None:
    data = plan(config_of(units=["line:1"]), network).to_data()
    spoil(data)
    store = Store.at("here")
    store.write_json("plan.json", data)
    with pytest.raises(Malformed, match=r"plan\.json") as refused:
        entries_of(store)
    assert all(word in str(refused.value) for word in words)
