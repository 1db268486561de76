"""An atlas is built, resumed and repaired from what its store holds; bytes are always the same."""

import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import OWN, assert_refused, huge_png, printed, run
from PIL import Image, ImageFont, ImageOps
from safetensors.torch import save_file

from featviz.atlas import store as stores
from featviz.atlas.build import build
from featviz.atlas.check import check, repair
from featviz.atlas.claims import Claims
from featviz.atlas.config import AtlasConfig
from featviz.atlas.exemplars import exemplar_name
from featviz.atlas.plan import plan
from featviz.atlas.record import Record
from featviz.atlas.sheet import GAP_PX, LINE_PX, _fitted
from featviz.atlas.store import Store, evidence_name, record_name
from featviz.engine.picture import Picture
from featviz.engine.render import render
from featviz.network.planted.answers import DEAD
from featviz.network.zoo import load

UNITS = ["curve:3", "line:0-1", DEAD, "channel(curve, 3) - 0.5 * channel(curve, 5)"]
TOML = f"network = 'planted'\nunits = {UNITS}\nsize = 48\nsteps = 2\nslots = 2\ncolumns = 2\n"
SLOW_TOML = "network = 'planted'\nunits = ['curve:0-5']\nsize = 48\nsteps = 24\nslots = 2\n"
BARE = ("--no-evidence", "--out", "here")


class Heard:
    """Takes notice of what a build tells."""

    def __init__(self) -> None:
        self.done = 0.0
        self.ended: list[tuple[str, bool]] = []

    def advance(self, pictures: float) -> None:
        self.done += pictures

    def finished(self, layer: str, *, is_good: bool) -> None:
        self.ended.append((layer, is_good))


@contextmanager
def heard(what: str, pictures: int) -> Iterator[Heard]:
    yield Heard()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.v1.toml"  # a dot in the name must not make a file of the folder
    path.write_text(TOML)
    return path


def pictures_of(folder: Path) -> dict[str, bytes]:
    files = [path for kind in ("pictures", "thumbnails") for path in (folder / kind).rglob("*.*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def entries_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "plan.json").read_text())["entries"]


def test_an_atlas_has_pictures_records_a_plan_and_a_sheet(config: Path) -> None:
    result = run("atlas", config, "--no-evidence")
    folder = Path("atlases") / "small.v1"
    assert result.stdout.splitlines() == [
        "5 pictures rendered, 0 kept; 1 dead, 0 not finite; evidence of 0 measured",
        f"store: {folder}",
        f"sheet: {folder}/sheet.png",
    ]
    assert result.stderr.splitlines()[-1].startswith("100 % of 5 pictures (")
    assert "1 without a picture" in result.stderr.splitlines()[-1]
    store = Store.at(folder)
    assert store.head()["network"] == "planted"
    entries = entries_of(folder)
    assert [each["title"] for each in entries] == [
        *("curve:3", "line:0", "line:1", DEAD),
        "channel(curve, 3) - 0.5 * channel(curve, 5)",
    ]
    records = [store.get(f"{each['digest']}-{each['index']}") for each in entries]
    assert [record and record.verdict for record in records] == [
        *("rendered", "rendered", "rendered", "dead", "rendered"),
    ]
    for record in records:
        assert record is not None
        assert (record.steps, len(record.course)) == (2, 2)
        assert record.seconds > 0
        with Image.open(io.BytesIO(store.read(record))) as picture:
            assert picture.size == (48, 48)
    assert (check(store).damages, check(store).leftovers, check(store).whole) == ((), (), 5)


def test_the_sheet_has_every_picture_and_marks_the_dead(config: Path) -> None:
    printed("atlas", config, *BARE)
    store = Store.at("here")
    with Image.open("here/sheet.png") as sheet:
        assert sheet.format == "PNG"
        cell = 48 + GAP_PX, 48 + 2 * LINE_PX + GAP_PX
        assert sheet.size == (2 * cell[0] + GAP_PX, 3 * cell[1] + GAP_PX)
        for place, each in enumerate(entries_of(Path("here"))):
            record = store.get(f"{each['digest']}-{each['index']}")
            assert record is not None
            left, top = GAP_PX + place % 2 * cell[0], GAP_PX + place // 2 * cell[1]
            shown = sheet.crop((left, top, left + 48, top + 48))
            with Image.open(io.BytesIO(store.read(record))) as picture:
                assert shown.tobytes() == picture.tobytes()
            below = sheet.crop((left, top + 48 + LINE_PX, left + 48, top + cell[1] - GAP_PX))
            reds = np.asarray(below, dtype=int)[..., 0] - np.asarray(below, dtype=int)[..., 1]
            assert (reds.max() > 60) == (record.verdict == "dead")
    assert printed("sheet", "here", "line", "--out", "line.png", "--columns", 1) == "line.png\n"
    with Image.open("line.png") as sheet:
        assert sheet.size == (cell[0] + GAP_PX, 2 * cell[1] + GAP_PX)
    assert_refused(["sheet", "here", "lime"], "'lime'", "nearest: line")
    assert_refused(["sheet", "nowhere"], "'nowhere'", "no atlas.json")


def test_what_is_there_is_kept_and_what_is_not_is_rendered(config: Path) -> None:
    printed("atlas", config, *BARE)
    first, store = pictures_of(Path("here")), Store.at("here")
    records = [store.get(f"{each['digest']}-0") for each in entries_of(Path("here"))]
    names = [record.files["picture"][0] for record in records if record is not None]
    kept, deleted, truncated, foreign, _ = (Path("here") / name for name in names)
    times = {path: path.stat().st_mtime_ns for path in (kept, deleted)}
    assert printed("atlas", config, *BARE).startswith("0 pictures rendered, 5 kept")
    assert {path: path.stat().st_mtime_ns for path in times} == times
    deleted.unlink()
    assert printed("atlas", config, *BARE).startswith("1 pictures rendered, 4 kept")
    truncated.write_bytes(truncated.read_bytes()[:-40])
    foreign.write_bytes(kept.read_bytes())
    refused = run("store", "check", "here")
    assert refused.exit_code == 2
    lines = sorted(refused.stdout.splitlines()[:-1])
    assert len(lines) == 2
    assert any("truncated or no image" in line and truncated.name in line for line in lines)
    assert any("not the file that is named" in line and foreign.name in line for line in lines)
    assert refused.stdout.splitlines()[-1] == "3 pictures whole; 2 damaged"
    assert "--repair" in refused.stderr
    assert printed("store", "check", "here", "--repair").splitlines()[-1] == (
        "3 pictures whole; 2 damaged; removed"
    )
    assert printed("atlas", config, *BARE).startswith("2 pictures rendered, 3 kept")
    assert printed("store", "check", "here") == "5 pictures whole; 0 damaged\n"
    assert kept.stat().st_mtime_ns == times[kept]
    assert pictures_of(Path("here")) == first


def test_a_longer_config_renders_only_what_it_adds_and_a_shorter_one_hides(config: Path) -> None:
    printed("atlas", config, *BARE)
    other = config.with_name("other.yaml")
    other.write_text("network: planted\nunits: ['line:0-2']\nsize: 48\nsteps: 2\nslots: 2\n")
    assert printed("atlas", other, *BARE).startswith("1 pictures rendered, 2 kept")
    assert [each["title"] for each in entries_of(Path("here"))] == ["line:0", "line:1", "line:2"]
    assert len(list(Store.at("here").records())) == 6


def test_a_store_of_another_network_is_refused(config: Path) -> None:
    printed("atlas", config, *BARE)
    Path("own.py").write_text(OWN)
    Path("own.toml").write_text("network = 'own.py:small'\nunits = ['second']\nsteps = 2\n")
    before = (Path("here") / "plan.json").read_bytes()
    assert_refused(["atlas", "own.toml", *BARE], "'here'", "pictures of planted", "another --out")
    assert (Path("here") / "plan.json").read_bytes() == before
    Path("here/atlas.json").write_text('{"format": 9}')
    assert_refused(["atlas", config, *BARE], "'here'", "format 9", "a newer featviz made it")


def test_coverage_counts_the_network_then_the_config_then_views(config: Path) -> None:
    printed("atlas", config, *BARE)
    found = json.loads(printed("coverage", "here", "--json"))
    total = sum(not each.is_view and each.channels for each in load("planted").layers().values())
    assert found["network"]["units"] == total
    assert found["network"]["pictured"] == 3
    assert sum(found["network"]["failed"].values()) == 1
    config_share = found["config"]
    assert (config_share["units"], config_share["pictured"]) == (5, 4)
    lines = printed("coverage", "here", "--layers").splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["network,", "config,", "network,"]
    assert "100.0%" in lines[2]
    assert lines[-1] == "1 pictures dead: what the network says never changed in any step"
    assert_refused(["coverage", "nowhere"], "'nowhere'", "no atlas.json")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_goes_on_to_the_same_bytes(kind: signal.Signals) -> None:
    Path("slow.toml").write_text(SLOW_TOML)
    broken, unbroken = Path("broken"), Path("unbroken")
    words = ["atlas", "slow.toml", "--no-evidence", "--out", str(broken)]
    command = [sys.executable, "-m", "featviz", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and not any(broken.glob("records/*/*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(kind)
        stdout, stderr = process.communicate()
    assert process.returncode == 1
    assert stdout == ""
    assert "Traceback" not in stderr
    found = check(Store.at(broken))
    assert 1 <= found.whole < 6
    assert (found.damages, found.leftovers) == ((), ())
    printed("atlas", "slow.toml", "--no-evidence", "--out", unbroken)
    assert " 6 kept" not in printed("atlas", "slow.toml", "--no-evidence", "--out", broken)
    assert pictures_of(broken) == pictures_of(unbroken)


def test_a_picture_that_is_not_finite_is_recorded_with_its_reason() -> None:
    Path("own.py").write_text(OWN)
    Path("own.toml").write_text(
        "network = 'own.py:small'\nunits = ['second']\nsteps = 2\nslots = 3\n"
    )
    assert "0 dead, 1 not finite" in printed("atlas", "own.toml", *BARE)
    store = Store.at("here")
    records = [store.get(f"{each['digest']}-0") for each in entries_of(Path("here"))]
    assert [record and record.verdict for record in records] == ["rendered"] * 2 + ["not finite"]
    assert records[2] is not None
    assert records[2].score is None
    assert "NaN or infinite" in records[2].reason


def test_a_file_in_the_place_of_the_store_is_refused(config: Path) -> None:
    Path("file").write_text("here")
    assert_refused(["atlas", config, "--out", "file"], "'file'", "is a file")
    assert_refused(["atlas", config, "--out", "/proc/x"], "'/proc' cannot be written to")
    assert_refused(["atlas", config, "--device", "cuda:9"], "'cuda:9'", "there is: cpu")
    assert_refused(["atlas", config, "--out", "nope://x"], "nope://x", "not known")


def test_a_full_disk_stops_with_a_line_and_whole_files(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, calls = os.link, 0

    def fill(*paths: Any) -> None:
        nonlocal calls
        calls += "claims" not in str(paths[1])
        if calls > 4:  # the store's head and a picture's three files
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        link(*paths)

    monkeypatch.setattr(os, "link", fill)
    result = run("atlas", config, *BARE)
    assert result.exit_code == 2
    assert "no space left on device" in result.stderr.splitlines()[-1]
    monkeypatch.undo()
    monkeypatch.chdir(config.parent)
    found = check(Store.at("here"))
    assert (found.damages, found.whole) == ((), 1)
    assert printed("atlas", config, *BARE).startswith("4 pictures rendered, 1 kept")


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_met_with_a_line(config: Path) -> None:
    """The kernel refuses in the middle of a file, as a full disk does."""
    command = [sys.executable, "-m", "featviz", "atlas", str(config), *BARE]
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    result = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard)),
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "file too large" in result.stderr.splitlines()[-1]
    assert check(Store.at("here")).damages == ()


def test_evidence_is_measured_once_and_again_by_other_references(tmp_path: Path) -> None:
    Path("a.toml").write_text(
        "network = 'planted'\nunits = ['line:0-1']\ntechniques = ['channel', 'diversity']\n"
        "size = 48\nsteps = 2\nseeds = [0, 9]\ndiversity = { count = 2 }\n"
    )
    assert "evidence of 12 measured" in printed("atlas", "a.toml", "--out", "here")
    assert "evidence of 0 measured" in printed("atlas", "a.toml", "--out", "here")
    store, key = Store.at("here"), ""
    for entry in entries_of(Path("here")):
        key = f"{entry['digest']}-{entry['index']}"
        evidence = store.evidence(key)
        assert evidence is not None
        assert evidence["references"] == "pink-512"
        assert evidence["rank_of"] == load("planted").layer("line").channels
        assert (evidence["diversity"] is None) == (entry["technique"] == "channel")
        assert evidence["seed_stability"] is not None
        assert evidence["natural_ratio"] is None
    images = noise_images(tmp_path / "images", 4)
    (images / "broken.png").write_bytes(b"no image")
    result = run("atlas", "a.toml", "--out", "here", "--images", images)
    assert "evidence of 12 measured" in result.stdout
    assert "0 pictures rendered" in result.stdout
    assert "broken.png" in result.stderr
    found = store.evidence(key)
    assert found is not None
    assert found["references"].startswith("images:")
    assert found["natural_best"] in {f"{number}.png" for number in range(4)}
    assert_refused(["atlas", "a.toml", "--images", "nowhere"], "'nowhere'")


def noise_images(folder: Path, count: int) -> Path:
    """A folder of so many pictures, not square."""
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        blocks = noise.repeat(30, axis=0).repeat(30, axis=1)
        Image.fromarray(blocks).save(folder / f"{number}.png")
    return folder


def test_the_images_that_evidence_names_are_kept_small(tmp_path: Path) -> None:
    Path("a.toml").write_text("network = 'planted'\nunits = ['line:0']\nsize = 48\nsteps = 2\n")
    images = noise_images(tmp_path / "images", 4)
    printed("atlas", "a.toml", "--out", "here", "--images", images)
    store, (entry,) = Store.at("here"), entries_of(Path("here"))
    evidence = store.evidence(f"{entry['digest']}-0") or {}
    shas = {file: sha for file, _, sha in evidence["exemplars"]}
    assert len(shas) == 3  # of 4, not the worst
    assert shas.keys() < {f"{number}.png" for number in range(4)}
    assert evidence["natural_best"] == evidence["exemplars"][0][0]
    kept = {path.relative_to("here").as_posix() for path in Path("here").glob("exemplars/*/*")}
    assert kept == {exemplar_name(sha) for sha in shas.values()}
    for name, sha in shas.items():
        with Image.open(images / name) as image:
            fitted = ImageOps.fit(image, (128, 128), Image.Resampling.BICUBIC)
        with Image.open(Path("here") / exemplar_name(sha)) as small:
            difference = np.asarray(small.convert("RGB"), float) - np.asarray(fitted, float)
        assert abs(difference).mean() < 10  # lossy; another image is 80 away


def test_a_lost_image_is_damage_that_a_build_with_the_images_mends(tmp_path: Path) -> None:
    Path("a.toml").write_text("network = 'planted'\nunits = ['line:0']\nsize = 48\nsteps = 2\n")
    images = noise_images(tmp_path / "images", 4)
    printed("atlas", "a.toml", "--out", "here", "--images", images)
    store = Store.at("here")
    assert check(store).damages == ()
    assert check(store).leftovers == ()
    gone, spoilt, flipped = sorted(Path("here").glob("exemplars/*/*.webp"))
    gone.unlink()
    spoilt.write_bytes(spoilt.read_bytes()[:50])
    content = bytearray(flipped.read_bytes())
    content[-20] ^= 1
    flipped.write_bytes(content)
    assert {each.name: each.what for each in check(store).damages} == {
        gone.relative_to("here").as_posix(): "missing, though it is named (photograph)",
        spoilt.relative_to("here").as_posix(): "truncated or no image (photograph)",
        flipped.relative_to("here").as_posix(): "not the file that is named (photograph)",
    }
    repair(store, check(store))
    assert check(store).damages == ()
    again = printed("atlas", "a.toml", "--out", "here", "--images", images)
    assert "evidence of 1 measured" in again
    assert len(list(Path("here").glob("exemplars/*/*.webp"))) == 3
    assert check(store).damages == ()


SETS = (
    "network = 'planted'\nunits = ['line:0']\ntechniques = ['channel', 'diversity']\n"
    "size = 48\nsteps = 2\nseeds = [0, 9]\ndiversity = { count = 2 }\n"
)


def test_evidence_of_sets_survives_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.toml").write_text(SETS)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("featviz.atlas.measuring._Measuring.compare", stop)
    result = run("atlas", "a.toml", "--out", "here")
    assert result.exit_code == 1
    assert "the same command goes on" in result.stderr
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "evidence of 0 measured" in printed("atlas", "a.toml", "--out", "here")
    for entry in entries_of(Path("here")):
        found = Store.at("here").evidence(f"{entry['digest']}-{entry['index']}")
        assert found is not None
        assert found["of_set"]
        assert found["seed_stability"] is not None


def test_what_pictures_say_together_follows_the_set(tmp_path: Path) -> None:
    def stability(seeds: list[int]) -> list[float | None]:
        text = "network = 'planted'\nunits = ['line:0']\nsize = 48\nsteps = 2\n"
        Path("a.toml").write_text(f"{text}seeds = {seeds}\n")
        printed("atlas", "a.toml", "--out", "here")
        known = (f"{each['digest']}-0" for each in entries_of(Path("here")))
        return [(Store.at("here").evidence(key) or {})["seed_stability"] for key in known]

    assert stability([0]) == [None]
    assert stability([9]) == [None]
    one, other = stability([0, 9])
    assert one is not None
    assert one == other
    three = stability([0, 9, 30])
    assert len(set(three)) == 1
    assert three[0] not in (None, one)
    assert stability([9]) == [None]


def test_sets_that_are_measured_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("a.toml").write_text(SETS)
    printed("atlas", "a.toml", "--out", "here")

    def stop(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("featviz.atlas.measuring.decoded", stop)
    assert "evidence of 0 measured" in printed("atlas", "a.toml", "--out", "here")


def test_evidence_is_of_the_file_that_is_there(tmp_path: Path) -> None:
    text = "network = 'planted'\nunits = ['line:0']\nsize = 48\nsteps = 8\n"
    Path("a.toml").write_text(text)
    printed("atlas", "a.toml", "--out", "here")
    store, (entry,) = Store.at("here"), entries_of(Path("here"))
    key = f"{entry['digest']}-0"
    before = store.evidence(key) or {}
    store.files.remove(record_name(key))  # as a crash in the middle of forgetting leaves it
    Path("a.toml").write_text(f"{text}dtype = 'bfloat16'\n")
    assert "evidence of 1 measured" in printed("atlas", "a.toml", "--out", "here")
    after = store.evidence(key) or {}
    record = store.record(key)
    assert after["picture"] == record.files["picture"][1] != before["picture"]
    assert after["score"] == pytest.approx(record.score, rel=1e-2)


def test_evidence_that_cannot_be_read_is_measured_again_and_named(tmp_path: Path) -> None:
    Path("a.toml").write_text(SETS)
    printed("atlas", "a.toml", "--out", "here")
    store, entry = Store.at("here"), entries_of(Path("here"))[0]
    key = f"{entry['digest']}-{entry['index']}"
    good = store.evidence(key) or {}
    for bad in ({k: v for k, v in good.items() if k != "rank"}, {**good, "rank": "high"}):
        store.write_evidence(key, bad)
        (damage,) = check(store).damages
        assert str(damage) == f"{evidence_name(key)}: evidence that cannot be read"
        assert run("store", "table", "here").exit_code == 0
        assert "evidence of 1 measured" in printed("atlas", "a.toml", "--out", "here")
        assert store.evidence(key) == good
    store.write_evidence(key, {"format": 1, "measures": 1})  # as an older featviz wrote it
    assert check(store).damages == ()


def test_a_plan_counts_as_there_what_a_build_would_keep(tmp_path: Path) -> None:
    Path("a.toml").write_text("network = 'planted'\nunits = ['line:0-1']\nsize = 48\nsteps = 2\n")
    printed("atlas", "a.toml", *BARE)
    next(iter(Path("here/pictures").rglob("*.png"))).unlink()
    told = json.loads(printed("plan", "a.toml", "--out", "here", "--no-timing", "--json"))
    assert (told["kept"], told["missing"]) == (1, 1)
    assert printed("atlas", "a.toml", *BARE).startswith("1 pictures rendered, 1 kept")


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {}},
        {"score": "x"},
        {"execution": {}},
        {"recipe": {}},
        {"recipe": []},
        {"verdict": "odd"},
        {"course": ["x"]},
        {"files": {"picture": ["only a name"]}},
    ],
)
def test_a_record_that_is_damaged_inside_is_named_and_made_again(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    Path("a.toml").write_text("network = 'planted'\nunits = ['line:0-1']\nsize = 48\nsteps = 2\n")
    printed("atlas", "a.toml", *BARE)
    store, entry = Store.at("here"), entries_of(Path("here"))[0]
    name = record_name(f"{entry['digest']}-0")
    record = json.loads(store.files.read(name))
    store.files.write(name, json.dumps({**record, **changes}).encode())
    (damage,) = check(store).damages
    assert damage.name == name
    assert run("store", "table", "here").exit_code == 0
    assert run("sheet", "here").exit_code == 0
    assert run("site", "here").exit_code == 0
    assert printed("atlas", "a.toml", *BARE).startswith("1 pictures rendered, 1 kept")
    assert check(store).damages == ()


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path: Path) -> None:
    Path("a.toml").write_text("network = 'planted'\nunits = ['line:0']\nsize = 48\nsteps = 2\n")
    Path("here").mkdir()
    Path("here/claims").write_text("mine")
    refused = run("atlas", "a.toml", *BARE)
    assert refused.exit_code == 2
    last = refused.stderr.splitlines()[-1]
    assert "here/claims" in last
    assert "it is a file" in last


def test_a_file_that_claims_to_be_huge_is_damage(tmp_path: Path) -> None:
    Path("a.toml").write_text("network = 'planted'\nunits = ['line:0']\nsize = 48\nsteps = 2\n")
    printed("atlas", "a.toml", *BARE)
    picture = next(iter(Path("here/pictures").rglob("*.png")))
    picture.write_bytes(huge_png())
    assert "truncated or no image" in run("store", "check", "here").stdout


def test_layers_that_are_damaged_are_named(tmp_path: Path) -> None:
    Path("a.toml").write_text("network = 'planted'\nunits = ['line:0']\nsize = 48\nsteps = 2\n")
    printed("atlas", "a.toml", *BARE)
    Path("here/layers.json").write_text('{"format": 1, "layers": [{}]}')
    assert_refused(["coverage", "here"], "here/layers.json", "layers")
    (damage,) = check(Store.at("here")).damages
    assert damage.name == "layers.json"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ["atlas.json", "whole JSON", "writes it anew"]),
        ("[]", ["atlas.json", "JSON object"]),
        ("{}", ["got format None, expected 1"]),
        ('{"format": 99}', ["got format 99", "newer"]),
    ],
)
def test_a_damaged_head_is_one_line(tmp_path: Path, content: str, words: list[str]) -> None:
    Path("here").mkdir()
    Path("here/atlas.json").write_text(content)
    assert_refused(["store", "check", "here"], *words)
    assert ("newer" in run("store", "check", "here").stderr) == ("99" in content)


def test_a_damaged_picture_is_named_and_the_rest_goes_on(config: Path) -> None:
    printed("atlas", config, *BARE)
    store = Store.at("here")
    record = next(each for each in store.records() if each.verdict == "rendered")
    (Path("here") / record.files["picture"][0]).write_bytes(b"broken")
    (Path("here") / "layers.json").write_text("{")
    result = run("atlas", config, "--out", "here")
    assert result.exit_code == 0
    assert "evidence of 4 measured" in result.stdout
    assert record.key in result.stderr
    assert "store check here --repair" in result.stderr
    assert store.evidence(record.key) is None
    assert "left out" in run("sheet", "here").stderr
    assert store.layers_data() is not None


def test_evidence_by_photographs_is_not_given_up(tmp_path: Path) -> None:
    images = noise_images(tmp_path / "images", 3)
    Path("a.toml").write_text("network = 'planted'\nunits = ['line:0']\nsize = 48\nsteps = 2\n")
    printed("atlas", "a.toml", "--out", "here", "--images", images)
    assert "evidence of 0 measured" in printed("atlas", "a.toml", "--out", "here")


def test_a_set_larger_than_the_slots_is_refused_before_anything_is_written() -> None:
    Path("a.toml").write_text(SETS + "slots = 1\n")
    for command in ("plan", "atlas"):
        assert_refused([command, "a.toml"], "'slots' of the config", "got 1", "at least 2")


def test_a_store_may_be_a_url() -> None:
    asked = AtlasConfig(network="planted", units=["line:0"], size=48, steps=2, slots=1)
    store = Store.at("memory://build/atlas")
    made = build(asked, store, progress=heard)
    again = build(asked, store, progress=heard)
    assert (made.rendered, made.kept, again.rendered, again.kept) == (1, 0, 0, 1)
    (record,) = made.records
    (expected,) = render(load("planted"), "line:0", size=48, steps=2)
    assert store.read(record) == expected.encoded()


def test_a_build_tells_how_it_goes_on(tmp_path: Path) -> None:
    tallies: dict[str, Heard] = {}

    @contextmanager
    def progress(what: str, pictures: int) -> Iterator[Heard]:
        assert pictures == 3
        yield tallies.setdefault(what, Heard())

    asked = AtlasConfig(network="planted", units=["line:0-1", DEAD], size=48, steps=2, slots=2)
    build(asked, Store.at(tmp_path / "here"), progress=progress)
    assert set(tallies) == {"pictures"}
    assert tallies["pictures"].done == pytest.approx(3)
    dead = DEAD.split(":")[0]
    assert sorted(tallies["pictures"].ended) == sorted(
        [("line", True), ("line", True), (dead, False)]
    )


def test_what_another_build_claims_comes_last(tmp_path: Path) -> None:
    asked = AtlasConfig(network="planted", units=["line:0-4"], size=48, steps=2, slots=2)
    store, order = Store.at(tmp_path), []
    digests = [recipe.digest for recipe in plan(asked, load("planted")).recipes]
    for digest in digests[:2]:  # of a build that was killed, or is still at work
        store.files.create(f"{stores.CLAIMS}/{digest}", b"another")
    put = store.put

    class Watched(Store):
        def put(self, picture: Picture, **options: Any) -> Record:
            order.append(digests.index(picture.recipe.digest))
            return put(picture, **options)

    assert build(asked, Watched(store.files), progress=heard).rendered == 5
    assert order == [2, 3, 4, 0, 1]
    assert list(store.files.names(stores.CLAIMS)) == []
    assert check(store).leftovers == ()


def test_a_build_that_stops_gives_its_claims_back(tmp_path: Path) -> None:
    asked = AtlasConfig(network="planted", units=["line:0-4"], size=48, steps=2, slots=2)
    store = Store.at(tmp_path)

    @contextmanager
    def stopping(what: str, pictures: int) -> Iterator[Any]:
        class Stopping(Heard):
            def advance(self, pictures: float) -> None:
                assert len(list(store.files.names(stores.CLAIMS))) == 2
                raise KeyboardInterrupt

        yield Stopping()

    with pytest.raises(KeyboardInterrupt):
        build(asked, store, progress=stopping)
    assert list(store.files.names(stores.CLAIMS)) == []


def test_a_name_that_is_too_wide_loses_its_front() -> None:
    font = ImageFont.load_default(size=11)
    assert _fitted("line:0", font, 200) == "line:0"
    shown = _fitted("direction(blocks.4)" * 2000, font, 60)
    assert shown[0] == "…"
    assert shown.endswith("blocks.4)")
    assert 45 < font.getlength(shown) <= 61  # kerning


def test_a_build_that_begins_a_recipe_again_has_claimed_it_itself(tmp_path: Path) -> None:
    (recipe,) = plan(
        AtlasConfig(network="planted", units=["line:0"], size=48), load("planted")
    ).recipes
    store = Store.at(tmp_path)
    with Claims(store) as mine, Claims(store) as others:
        assert not mine.is_elsewhere(recipe)
        assert not mine.is_elsewhere(recipe)  # as after memory ran out
        assert others.is_elsewhere(recipe)


def test_an_expression_that_is_one_channel_counts_as_its_unit() -> None:
    asked = AtlasConfig(network="planted", units=["channel(line, 5)", "line:1 + line:2"], size=48)
    found = [(each.layer, each.channel) for each in plan(asked, load("planted")).entries]
    assert found == [("line", 5), ("line", None)]


def test_a_direction_of_zeros_is_refused() -> None:
    channels = load("planted").layer("line").channels
    save_file({"d": torch.zeros(2, channels)}, "zeros.safetensors")
    Path("a.toml").write_text(
        "network = 'planted'\nsize = 48\n"
        "directions = [{ file = 'zeros.safetensors', tensor = 'd', layer = 'line' }]\n"
    )
    assert_refused(["plan", "a.toml"], "row 0 of tensor 'd'", "got zeros", "choose other rows")
