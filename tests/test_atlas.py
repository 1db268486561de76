"""An atlas is built, resumed and repaired from what its folder holds; bytes are always the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import OWN, assert_refused, printed, run
from PIL import Image, ImageFont

from featviz.atlas.build import build
from featviz.atlas.config import AtlasConfig, read_config
from featviz.atlas.plan import plan
from featviz.atlas.sheet import GAP_PX, LINE_PX, _fitted
from featviz.atlas.store import Store
from featviz.engine.recipe import Adam
from featviz.engine.render import render
from featviz.image.transforms import Stack, lucid
from featviz.network.planted.answers import DEAD
from featviz.network.zoo import load

CONFIGS = Path(__file__).parents[1] / "configs"
UNITS = ["curve:3", "line:0-1", DEAD, "channel(curve, 3) - 0.5 * channel(curve, 5)"]
TOML = f"network = 'planted'\nunits = {UNITS}\nsize = 48\nsteps = 2\nslots = 2\ncolumns = 2\n"
SLOW_TOML = "network = 'planted'\nunits = ['curve:0-5']\nsize = 48\nsteps = 24\nslots = 2\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.v1.toml"  # a dot in the name must not make a file of the folder
    path.write_text(TOML)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@contextmanager
def silent(pictures: int) -> Iterator[object]:
    yield lambda done: None


def test_an_atlas_has_pictures_an_index_and_a_sheet(config: Path) -> None:
    result = run("atlas", config)
    folder = Path("atlases") / "small.v1"
    assert result.stdout.splitlines() == [
        "5 pictures rendered, 0 kept; 1 dead, 0 not finite",
        f"pictures: {folder}/pictures",
        f"index:    {folder}/index.json",
        f"sheet:    {folder}/sheet.png",
    ]
    assert result.stderr.splitlines()[-1] == "100 % of 5 pictures"
    index = json.loads((folder / "index.json").read_text())
    assert index["network"] == "planted"
    assert [each["objective"] for each in index["pictures"]] == [
        "channel(curve, 3)",
        "channel(line, 0)",
        "channel(line, 1)",
        f"channel(curve, {DEAD.split(':')[1]})",
        "channel(curve, 3) - 0.5 * channel(curve, 5)",
    ]
    verdicts = [each["verdict"] for each in index["pictures"]]
    assert verdicts == ["rendered", "rendered", "rendered", "dead", "rendered"]
    assert {each["steps"] for each in index["pictures"]} == {2}
    for each in index["pictures"]:
        assert each["picture"] == f"pictures/{each['digest']}-0.png"
        with Image.open(folder / each["picture"]) as picture:
            assert picture.size == (48, 48)
    assert len(list((folder / "pictures").iterdir())) == 5


def test_the_sheet_has_every_picture_and_marks_the_dead(config: Path) -> None:
    printed("atlas", config, "--out", "here")
    index = json.loads(Path("here/index.json").read_text())
    with Image.open("here/sheet.png") as sheet:
        assert sheet.format == "PNG"
        cell = 48 + GAP_PX, 48 + 2 * LINE_PX + GAP_PX
        assert sheet.size == (2 * cell[0] + GAP_PX, 3 * cell[1] + GAP_PX)
        for place, each in enumerate(index["pictures"]):
            left, top = GAP_PX + place % 2 * cell[0], GAP_PX + place // 2 * cell[1]
            shown = sheet.crop((left, top, left + 48, top + 48))
            with Image.open(Path("here") / each["picture"]) as picture:
                assert shown.tobytes() == picture.tobytes()
            below = sheet.crop((left, top + 48 + LINE_PX, left + 48, top + cell[1] - GAP_PX))
            reds = np.asarray(below, dtype=int)[..., 0] - np.asarray(below, dtype=int)[..., 1]
            assert (reds.max() > 60) == (each["verdict"] == "dead")


def test_what_is_there_is_kept_and_what_is_not_is_rendered(config: Path) -> None:
    printed("atlas", config, "--out", "here")
    first = contents(Path("here"))
    deleted, truncated, foreign, kept, _ = sorted(Path("here/pictures").iterdir())
    times = {path: path.stat().st_mtime_ns for path in (kept, deleted)}
    assert printed("atlas", config, "--out", "here").startswith("0 pictures rendered, 5 kept")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    deleted.unlink()
    truncated.write_bytes(truncated.read_bytes()[:-40])
    foreign.write_bytes(kept.read_bytes())
    assert printed("atlas", config, "--out", "here").startswith("3 pictures rendered, 2 kept")
    assert kept.stat().st_mtime_ns == times[kept]
    assert contents(Path("here")) == first


def test_a_longer_config_renders_only_what_it_adds(config: Path) -> None:
    printed("atlas", config, "--out", "here")
    longer = config.with_name("longer.yaml")
    longer.write_text("network: planted\nunits: ['line:0-2']\nsize: 48\nsteps: 2\nslots: 2\n")
    assert printed("atlas", longer, "--out", "here").startswith("1 pictures rendered, 2 kept")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_goes_on_to_the_same_bytes(kind: signal.Signals) -> None:
    Path("slow.toml").write_text(SLOW_TOML)
    broken, unbroken = Path("broken"), Path("unbroken")
    command = [sys.executable, "-m", "featviz", "atlas", "slow.toml", "--out", str(broken)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and not any(broken.glob("pictures/*.png")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(kind)
        stdout, stderr = process.communicate()
    assert process.returncode == (-9 if kind is signal.SIGKILL else 1)
    assert stdout == ""
    assert "Traceback" not in stderr
    assert 1 <= len(list(broken.glob("pictures/*.png"))) < 6
    if kind is not signal.SIGKILL:
        assert all(path.name[0] != "." for path in broken.rglob("*"))
    printed("atlas", "slow.toml", "--out", unbroken)
    assert " 6 kept" not in printed("atlas", "slow.toml", "--out", broken)
    left = contents(broken)
    assert {name: left[name] for name in contents(unbroken)} == contents(unbroken)


def test_a_picture_that_is_not_finite_is_counted(tmp_path: Path) -> None:
    Path("own.py").write_text(OWN)
    Path("own.toml").write_text(
        "network = 'own.py:small'\nunits = ['second']\nsteps = 2\nslots = 3\n"
    )
    assert "0 dead, 1 not finite" in printed("atlas", "own.toml", "--out", "here")
    index = json.loads(Path("here/index.json").read_text())
    assert [each["verdict"] == "not finite" for each in index["pictures"]] == [False, False, True]
    assert index["pictures"][2]["score"] is None


@pytest.mark.parametrize("path", sorted(CONFIGS.iterdir()), ids=lambda path: path.name)
def test_ready_configs_can_be_planned(path: Path) -> None:
    config = read_config(path)
    needs_a_file = config.network == "googlenet_bvlc"
    recipes = plan(config, load(config.network, weights="none" if needs_a_file else "default"))
    assert len({recipe.digest for recipe in recipes}) == len(recipes) > 0
    assert {recipe.steps for recipe in recipes} == {config.steps}


def test_a_plan_is_in_the_order_of_the_config_and_none_is_twice() -> None:
    asked = AtlasConfig(network="planted", units=["line:1", "line:0-1"], negative=True, size=48)
    recipes = plan(asked, load("planted"))
    assert [str(recipe.objective) for recipe in recipes] == [
        "channel(line, 1)",
        "-channel(line, 1)",
        "channel(line, 0)",
        "-channel(line, 0)",
    ]


def test_what_a_config_gives_counts_under_a_preset_too() -> None:
    asked = {"network": "planted", "units": ["line:1"], "preset": "lucid", "size": 48}
    (whole,) = plan(AtlasConfig(**asked), load("planted"))
    (changed,) = plan(AtlasConfig(**asked, steps=3, transforms="none"), load("planted"))
    assert (whole.steps, whole.transforms) == (512, lucid())
    assert (changed.steps, changed.transforms) == (3, Stack())
    assert changed.optimizer == whole.optimizer != Adam()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("no.toml", None, ["'no.toml'", "there is no such file"]),
        ("a.json", "{}", ["kind of config '.json'", ".toml"]),
        ("a.toml", "units = [", ["'a.toml'", "expected TOML", "at end of document"]),
        ("a.yaml", "units: [a\nb: c: d", ["'a.yaml'", "expected YAML", "line 2"]),
        ("a.yaml", "just words", ["'a.yaml'", "keys and values"]),
        ("a.toml", "units = ['line:1']\nstep = 3", ["no key of a.toml 'step'", "nearest: steps"]),
        ("a.toml", "steps = 3", ["'units' of a.toml", "got nothing"]),
        ("a.toml", "units = []", ["'units' of a.toml", "got []", "at least 1"]),
        ("a.toml", "units = 'line:1'", ["'units' of a.toml", "got 'line:1'", "list"]),
        ("a.toml", "units = [3]", ["'units.0' of a.toml", "got 3", "string"]),
        ("a.toml", "units = ['line:1']\nsteps = 'many'", ["'steps' of a.toml", "'many'", "int"]),
        ("a.toml", "units = ['line:1']\nsteps = 0", ["'steps' of a.toml", "got 0", "1"]),
        ("a.toml", "units = ['line:1']\nlearning_rate = nan", ["'learning_rate'", "nan"]),
        ("a.toml", "units = ['line:1']\ntransforms = 'x'", ["'transforms'", "'standard'"]),
        ("a.toml", "units = ['line:1']\npreset = 'luzid'", ["'preset' of", "nearest: 'lucid'"]),
        ("a.toml", "units = ['line:1']\ndtype = 'float16'", ["'dtype' of", "'bfloat16'"]),
        ("a.toml", "units = ['line:1']\ndtype = 16", ["'dtype' of", "got 16", "string"]),
        ("a.toml", "units = ['line:99']", ["channel 99", "0 to 17"]),
        ("a.toml", "units = ['lime*:1']", ["'lime*'"]),
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
    assert_refused(["atlas", name, "--out", "here"], *words)


def test_a_file_in_the_place_of_the_folder_is_refused(config: Path) -> None:
    Path("file").write_text("here")
    assert_refused(["atlas", config, "--out", "file"], "'file'", "is a file")
    assert_refused(["atlas", config, "--out", "/proc/x"], "'/proc' cannot be written to")
    assert_refused(["atlas", config, "--device", "cuda:9"], "'cuda:9'", "there is: cpu")


def test_building_needs_no_command(tmp_path: Path) -> None:
    asked = AtlasConfig(network="planted", units=["line:0"], size=48, steps=2, slots=1)
    made = build(asked, tmp_path / "here", progress=silent)  # type: ignore[arg-type]
    again = build(asked, tmp_path / "here", progress=silent)  # type: ignore[arg-type]
    assert (made.rendered, made.kept, again.rendered, again.kept) == (1, 0, 0, 1)


def test_the_first_picture_of_a_recipe_stays(tmp_path: Path) -> None:
    (first,) = render(load("planted"), "line:0", size=48, steps=1)
    store = Store(tmp_path)
    record = store.put(first)
    before = record.path.read_bytes()
    second = replace(first, pixels=255 - first.pixels, score=first.score + 1)
    assert store.put(second) == record
    assert record.path.read_bytes() == before
    record.path.write_bytes(before[:-40])  # not readable: no picture
    assert store.put(second).score == second.score


def test_a_name_that_is_too_wide_loses_its_front() -> None:
    font = ImageFont.load_default(size=11)
    assert _fitted("line:0", font, 200) == "line:0"
    shown = _fitted("direction(blocks.4)" * 2000, font, 60)
    assert shown[0] == "…"
    assert shown.endswith("blocks.4)")
    assert 45 < font.getlength(shown) <= 61  # kerning
