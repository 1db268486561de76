"""The commands: what they print and write, and how they refuse what is not there."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from commands import FAST, FOUR, OWN, assert_refused, huge_png, printed, rendered, run, tampered
from PIL import Image

from featviz.cli.progress import progress_bar
from featviz.engine.picture import read_evidence
from featviz.engine.recipe import Recipe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own() -> str:
    """The name of a network of one's own; see commands.OWN."""
    Path("own.py").write_text(OWN)
    return "own.py:small"


@pytest.fixture(scope="session")
def curve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that must not be changed."""
    path = tmp_path_factory.mktemp("curve") / "curve.png"
    rendered("planted", "curve:3", *FAST, "--out", path)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("units", "planted", "line:1"),  # works
        ("units", "planted"),  # refused, in other words
    ],
)
def test_a_refusal_that_is_none_is_noticed(arguments: tuple[str, ...]) -> None:
    with pytest.raises(AssertionError):
        assert_refused(arguments, "some other words")


def test_no_command_is_the_help() -> None:
    assert "Commands:" in run().output


def test_help_says_what_each_command_does() -> None:
    text = printed("--help")
    for name in ("networks", "layers", "units", "render", "atlas"):
        (line,) = (line for line in text.splitlines() if line.startswith(f"  {name} "))
        assert not line.endswith("...")  # cut off
        assert "Usage: featviz" in printed(name, "--help")
    assert printed("--version").startswith("featviz, version 0.")


def test_networks_are_listed_with_licences() -> None:
    rows = json.loads(printed("networks", "--json"))
    assert {"network", "weights", "licence", "about"} == set(rows[0])
    names = [row["network"] for row in rows]
    assert names[:3] == ["efficientnet_lite0", "googlenet_bvlc", "planted"]
    lines = printed("networks").splitlines()
    assert [line.split()[0] for line in lines] == ["network", *names]


def test_layers_are_listed_with_their_counts() -> None:
    content = json.loads(printed("layers", "planted", "--size", "48x64", "--json"))
    assert (content["rows"], content["columns"]) == (48, 64)
    rows = {row["layer"]: row for row in content["layers"]}
    assert rows["gabor"]["map"] == "24x32"
    assert rows["gabor"]["neurons"] == 73 * 24 * 32
    assert rows["gabor"]["field_px"] == "9x9"
    assert rows["joined"]["units"] == 0
    assert rows["head"]["map"] == "1"
    assert content["totals"]["units"] == sum(row["units"] for row in rows.values()) == 193
    lines = printed("layers", "planted", "--size", "48x64", "--no-views").splitlines()
    assert [line.split()[0] for line in lines[1:10]] == [n for n in rows if n != "joined"]
    assert lines[-1].startswith("193 unique units in 9 layers; ")


def test_units_are_listed_one_address_a_line() -> None:
    expected = ["line:0", "line:2", "line:4", "line:17"]
    assert printed("units", "planted", "line:0-4/2,17").splitlines() == expected
    assert json.loads(printed("units", "planted", "line:0-4/2,17", "--json")) == expected
    assert len(printed("units", "planted", "*").splitlines()) == 193
    neuron = "curve/pre:3@2,1"
    assert printed("units", "planted", neuron) == neuron + "\n"


def test_pictures_go_to_a_folder_by_their_names() -> None:
    result = run("render", "planted", "curve:3@2,1", "line:0-1", *FAST, "--out", "some/here")
    lines = result.stdout.splitlines()
    assert result.stderr.splitlines()[-1].startswith("100 % of 3 pictures (")
    paths = [Path(line.split("  ")[0]) for line in lines]
    assert sorted(Path("some/here").iterdir()) == sorted(paths)
    for path, line in zip(paths, lines, strict=True):
        evidence = read_evidence(path)
        unit = line.split("  ")[1]
        assert path.name == f"{unit.replace(':', '-')}-{evidence['digest'][:8]}.png"
        assert "  rendered  " in line
        assert line.split(" -> ")[1] == f"{evidence['score']:.4g} in 2 steps"
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((48, 48), "RGB")
    assert {path.name[:-13] for path in paths} == {"curve-3@2,1", "line-0", "line-1"}


def test_one_picture_goes_to_a_file() -> None:
    wish = ("planted", "curve:3", "--size", "48x56", "--steps", "2")
    names = ["a.png", "folder/b.webp", "c.PNG"]
    shown = []
    for name in names:
        assert rendered(*wish, "--out", name) == [Path(name)]
        with Image.open(name) as picture:
            shown.append(picture.convert("RGB").tobytes())
            assert picture.size == (56, 48)
    assert shown[0] == shown[1] == shown[2]
    assert read_evidence("a.png") == read_evidence("folder/b.webp")


def test_a_folder_may_have_a_dot_in_its_name() -> None:
    Path("old.v1").mkdir()
    (path,) = rendered("planted", "curve:3", *FAST, "--out", "old.v1")
    assert path.parent == Path("old.v1")


@pytest.mark.parametrize(
    ("wish", "options", "objective", "name"),
    [
        ("curve:3", ["--negative"], "-channel(curve, 3)", "minus-curve-3"),
        (
            "channel(curve, 3) - 0.5 * channel(curve, 5)",
            [],
            "channel(curve, 3) - 0.5 * channel(curve, 5)",
            "channel-curve,3-0.5-channel-curve,5",
        ),
        (
            "channel(curve, 3) - 0.5 * l1()",
            ["--negative"],
            None,
            "minus-channel-curve,3",
        ),
    ],
)
def test_an_objective_is_what_was_asked(
    wish: str, options: list[str], objective: str | None, name: str
) -> None:
    (path,) = rendered("planted", wish, *FAST, *options)
    recipe = Recipe.from_data(read_evidence(path)["recipe"])
    assert path.parent == Path("pictures")
    assert path.name.startswith(name)
    assert objective is None or str(recipe.objective) == objective


def test_options_stand_in_the_recipe() -> None:
    options = ["--seed", "7", "--learning-rate", "0.25", "--transforms", "none", "--plain-color"]
    options += ["--parameterization", "pixel", "--dtype", "float64", "--slots", "3"]
    (path,) = rendered("planted", "curve:3", *FAST, *options)
    evidence = read_evidence(path)
    recipe = evidence["recipe"]
    assert (recipe["seed"], recipe["steps"]) == (7, 2)
    assert recipe["optimizer"]["learning_rate"] == 0.25
    assert recipe["transforms"]["members"] == []
    assert recipe["parameterization"]["is"] == "Pixel"
    assert recipe["parameterization"]["color"] == "plain"
    assert (evidence["execution"]["dtype"], evidence["execution"]["slots"]) == ("float64", 3)


def test_a_picture_may_begin_from_an_image_and_end_early(curve: Path) -> None:
    wish = ("planted", "curve:3", *FAST, "--transforms", "none")
    given = ("--start", curve, "--learning-rate", "1e-6", "--plateau")
    (path,) = rendered(*wish, *given, "--out", "same.png")
    with Image.open(path) as made, Image.open(curve) as start:
        gap = np.abs(np.asarray(made, dtype=int) - np.asarray(start, dtype=int)).max()
    assert gap <= 1  # two millionths of a step, then rounding to 8 bits
    assert read_evidence(path)["recipe"]["stop"]["is"] == "Plateau"
    shutil.copy(curve, "start.png")
    (path,) = rendered(*wish, "--start", "start.png", "--out", "one.webp")
    Path("start.png").unlink()  # the recipe has what it needs
    rendered("--recipe", path, "--out", "again.webp")
    assert Path("again.webp").read_bytes() == path.read_bytes()


def test_progress_ends_at_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("pictures", 4) as bar:
        for _ in range(6):
            bar.advance(0.25)
        bar.finished("line", is_good=False)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "10 % of 4 pictures",
        "20 % of 4 pictures",
        "30 % of 4 pictures",
        "100 % of 4 pictures",
    ]
    assert lines[-1].endswith("/s, line, 1 without a picture)")
    assert all(line.endswith(" s left)") for line in lines[:-1])
    with progress_bar("pictures", 4) as bar:
        for _ in range(9):  # when memory runs out, what was begun is done again
            bar.advance(0.8)
    told = [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == [f"{share} % of 4 pictures" for share in (20, 40, 60, 80, 100)]
    with pytest.raises(KeyboardInterrupt), progress_bar("pictures", 4):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_other_options_count_under_a_preset() -> None:
    (path,) = rendered("planted", "curve:3", *FAST, "--preset", "lucid", "--plain-color")
    recipe = read_evidence(path)["recipe"]
    assert recipe["steps"] == 2
    assert recipe["parameterization"]["sd"] == 0.0028
    assert recipe["parameterization"]["color"] == "plain"
    assert recipe["optimizer"]["decays"] is False


def test_several_pictures_of_a_unit_are_numbered_and_made_again() -> None:
    paths = rendered("planted", "curve:3", *FAST, "--count", "3", "--out", "many")
    assert [path.name[-6:] for path in paths] == ["-0.png", "-1.png", "-2.png"]
    assert len({Image.open(path).tobytes() for path in paths}) == 3
    (again,) = rendered("--recipe", paths[1], "--out", "again")
    assert again.name == paths[1].name
    assert again.read_bytes() == paths[1].read_bytes()


def test_more_pictures_of_a_unit_than_the_usual_slots() -> None:
    wish = ("planted", "curve:3", "--size", "16", "--steps", "1")
    assert len(rendered(*wish, "--count", "17")) == 17


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_picture_is_made_again_to_the_byte_without_its_mates(suffix: str) -> None:
    paths = rendered("planted", "curve:3-6", *FAST, "--slots", "4", "--out", "four")
    source = paths[2]
    if suffix == ".webp":
        source = Path("one.webp")
        wish = str(Recipe.from_data(read_evidence(paths[2])["recipe"]).objective)
        rendered("planted", wish, *FAST, "--slots", "4", "--out", source)
    result = run("render", "--recipe", source, "--out", f"again{suffix}")
    assert result.exit_code == 0
    assert "not as recorded" not in result.stderr
    assert Path(f"again{suffix}").read_bytes() == source.read_bytes()
    with Image.open(source) as one, Image.open(paths[2]) as other:
        assert one.convert("RGB").tobytes() == other.tobytes()


@pytest.mark.slow
def test_another_process_makes_the_same_bytes(curve: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "featviz", "render", "--recipe", str(curve)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", "again.png"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("again.png  curve:3  rendered  ")
    assert Path("again.png").read_bytes() == curve.read_bytes()


def test_what_differs_from_the_record_is_said(curve: Path) -> None:
    changed = read_evidence(curve)["execution"]
    versions = [[name, "0.1" if name == "torch" else value] for name, value in changed["versions"]]
    picture = tampered(curve, Path("changed.png"), execution={**changed, "versions": versions})
    options = ["--slots", "2", "--dtype", "float64"]
    result = run("render", "--recipe", picture, *options, "--out", "again.png")
    assert result.exit_code == 0
    said = [line for line in result.stderr.splitlines() if "%" not in line]
    recorded = dict(versions)["kernels"]  # which float64 has none of
    if recorded != "none":
        kernels = f"not as recorded: kernels none instead of {recorded}; the bytes may differ"
        assert said.pop() == kernels
    assert said == [
        "not as recorded: slots 2 instead of 1; the bytes may differ",
        "not as recorded: dtype float64 instead of float32; the bytes may differ",
        f"not as recorded: torch {torch.__version__} instead of 0.1; the bytes may differ",
    ]
    assert read_evidence("again.png")["execution"]["dtype"] == "float64"


def test_a_picture_that_is_not_finite_fails_alone(own: str) -> None:
    wish = ("--steps", "3", "--slots", "3")
    mates = rendered(own, "second:0-1", *wish, "--out", "without")
    result = run("render", own, "second:0-2", *wish, "--out", "with")
    assert result.exit_code == 0
    verdicts = [line.split("  ")[1:3] for line in result.stdout.splitlines()]
    assert sorted(verdicts) == [
        ["second:0", "rendered"],
        ["second:1", "rendered"],
        ["second:2", "not finite"],
    ]
    for path in mates:
        assert (Path("with") / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["layers", "plantd"], ["no network 'plantd'", "nearest: planted"]),
        (["layers", "torchvision:resnet5"], ["'resnet5'", "nearest: resnet50"]),
        (["layers", "timm:resnet5"], ["'resnet5'", "nearest: resnet50"]),
        (["layers", "planted", "--size", "big"], ["size 'big'", "128 or 96x128"]),
        (["layers", "planted", "--size", "4x"], ["size '4x'"]),
        (["layers", "none.py:make"], ["'none.py' is not available"]),
        (["units", "planted", "curv:3"], ["no layer 'curv'", "nearest: curve"]),
        (["units", "planted", "curve:99"], ["channel 99", "'curve' has 0 to 25"]),
        (["units", "planted", "curve:3@"], ["selection 'curve:3@'", "expected LAYER:CHANNELS"]),
        (["units", "planted", ""], ["selection ''"]),
        (["units", "planted", "no*:1"], ["no*"]),
        (["units", "planted"], ["Missing argument 'SELECTION'", "'featviz units --help'"]),
        (["laers", "planted"], ["No such command 'laers'", "layers"]),
        (["--jsn"], ["No such option '--jsn'; see 'featviz --help'"]),
        (["networks", "--jsn"], ["No such option '--jsn'", "--json"]),
        (["render"], ["a NETWORK and at least one SELECTION", "'featviz render --help'"]),
        (["render", "planted"], ["at least one SELECTION"]),
        (["render", "--recipe", "no.png"], ["'no.png' is not available", "no such file"]),
    ],
)
def test_what_is_not_there_is_refused(arguments: list[str], words: list[str]) -> None:
    assert_refused(arguments, *words)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("curve:3@6,0", ["row 6", "'curve' has 0 to 5"]),
        ("curve:3@0,6", ["column 6", "'curve' has 0 to 5"]),
        ("channel(curv, 3)", ["no layer 'curv'", "nearest: curve"]),
        ("channel(curve, 99)", ["channel 99", "0 to 25"]),
        ("channel(curve, 3", ["'channel(curve, 3'", "expected"]),
        ("channel(curve, 3) +", ["'channel(curve, 3) +'", "expected"]),
        ("channel(curve, 1.5)", ["1.5", "int"]),
        ("channel(curve)", ["'channel(curve)'", "channel(layer, channel)"]),
        ("chanel(curve, 3)", ["'chanel'", "nearest: channel"]),
        ("channel(curve, 1) * channel(curve, 2)", ["expected"]),
        ("logit(cat)", ["no class label 'cat'", "there is: none"]),
        ("likeness(curve)", ["count 1", "2 or more"]),
    ],
)
def test_what_cannot_be_maximized_is_refused(wish: str, words: list[str]) -> None:
    assert_refused(["render", "planted", "line:0", wish, *FAST], *words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "4"], ["'curve'", "4x4 px", "at least 8x8 px"]),
        (["--size", "0"], ["size '0'"]),
        (["--size", "48x48x48"], ["size '48x48x48'"]),
        (["--steps", "0"], ["steps 0"]),
        (["--steps", "few"], ["'--steps'", "'few'"]),
        (["--seed", "-1"], ["seed -1"]),
        (["--count", "0"], ["count 0"]),
        (["--learning-rate", "nan"], ["learning_rate nan"]),
        (["--slots", "0"], ["'--slots'", "x>=1"]),
        (["--count", "2", "--slots", "1"], ["slots", "got 1", "2"]),
        (["--transforms", "strng"], ["'strng'", "'strong'"]),
        (["--start", "no.png"], ["'no.png' is not available"]),
        (["--device", "cuda:99"], ["'cuda:99'", "there is: cpu"]),
        (["--device", "gpu"], ["no device 'gpu'", "nearest: cpu"]),
        (["--weights", "none"], ["'none'", "'default'"]),
        (["--out", "a.jpg"], ["image format '.jpg'", ".png, .webp"]),
        (["--out", "a.png", "--count", "2"], ["'a.png'", "2 pictures", "give a folder"]),
        (["--out", "/dev/null/x"], ["'/dev/null/x'", "'/dev/null' cannot be written to"]),
        (["--out", "/proc/x.png"], ["'/proc' cannot be written to"]),
        (["--out", "/dev/null"], ["'/dev/null' cannot be written to"]),
    ],
)
def test_bad_options_are_refused(options: list[str], words: list[str]) -> None:
    assert_refused(["render", "planted", "curve:3", "--steps", "2", *options], *words)


def test_a_file_is_not_a_folder() -> None:
    Path("file").write_text("here")
    assert_refused(["render", "planted", "curve:3", *FAST, "--out", "file"], "'file'", "is a file")


def test_a_recipe_is_not_asked_for_beside_other_things(curve: Path) -> None:
    arguments = ["render", "--recipe", curve, "planted", "curve:3", "--steps", "3", "--negative"]
    words = "leave out 'curve:3', --steps, --negative; see 'featviz render --help'"
    assert_refused(arguments, words)


RECIPE_CHANGES = [
    ({"stepz": 3}, ["field 'stepz' in Recipe", "nearest: steps"]),
    ({"steps": "many"}, ["Recipe.steps", "'many'", "int"]),
    ({"steps": 0}, ["steps 0"]),
    ({"format": 2}, ["format 1"]),
    ({"objective": {"is": "Chanel"}}, ["'Chanel'", "nearest: Channel"]),
    ({"network": "0" * 32}, ["planted", "0" * 32]),
    ({"network_name": "plante"}, ["no network 'plante'", "nearest: planted"]),
]


@pytest.mark.parametrize(("changes", "words"), RECIPE_CHANGES)
def test_a_recipe_that_cannot_be_followed_is_refused(
    changes: dict[str, Any], words: list[str], curve: Path
) -> None:
    recipe = read_evidence(curve)["recipe"] | changes
    picture = tampered(curve, Path("changed.png"), recipe=recipe)
    assert_refused(["render", "--recipe", picture], *words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"recipe": None}, ["'changed.png'", "whole recipe", "recipe"]),
        ({"recipe": [1]}, ["recipe of format 1"]),
        ({"execution": None}, ["'changed.png'", "whole recipe and execution"]),
        ({"execution": "here"}, ["'changed.png'", "whole recipe and execution"]),
        ({"index": 1}, ["picture 1 is out of range", "0 to 0"]),
        ({"index": "one"}, ["'changed.png'", "whole recipe"]),
    ],
)
def test_evidence_that_is_not_whole_is_refused(
    changes: dict[str, Any], words: list[str], curve: Path
) -> None:
    picture = tampered(curve, Path("changed.png"), **changes)
    assert_refused(["render", "--recipe", picture], *words)


def test_an_execution_that_cannot_be_followed_is_refused(curve: Path) -> None:
    how = read_evidence(curve)["execution"]
    for change, words in (
        ({"slots": "four"}, ["Execution.slots", "'four'", "int"]),
        ({"slot": 4}, ["field 'slot' in Execution", "nearest: slots"]),
        ({"device": "cuda:99"}, ["'cuda:99'", "there is: cpu"]),
        ({"dtype": "float16"}, ["dtype 'float16'", "float"]),
    ):
        picture = tampered(curve, Path("changed.png"), execution=how | change)
        assert_refused(["render", "--recipe", picture], *words)


def test_a_picture_of_another_network_is_refused(curve: Path, own: str) -> None:
    assert_refused(["render", own, "--recipe", curve], "a recipe for planted", own)


def test_what_is_no_picture_of_ours_is_refused(curve: Path) -> None:
    Path("text.png").write_text("not a picture")
    Path("truncated.png").write_bytes(curve.read_bytes()[:-100])
    Path("short.png").write_bytes(curve.read_bytes()[:60])
    Path("huge.png").write_bytes(huge_png())
    Image.new("RGB", (8, 8)).save("bare.png")
    Image.new("RGB", (8, 8)).save("bare.webp")
    for name, words in (
        ("text.png", "expected a whole PNG or WebP image"),
        ("truncated.png", "expected a whole PNG or WebP image"),
        ("short.png", "expected a whole PNG or WebP image"),
        ("huge.png", "expected a whole PNG or WebP image"),
        ("bare.png", "expected an image that featviz saved"),
        ("bare.webp", "expected an image that featviz saved"),
    ):
        assert_refused(["render", "--recipe", name], repr(name), words)


def _entries(**changes: Any) -> dict[str, torch.Tensor]:
    return {
        "first.weight": torch.zeros(4, 3, 3, 3),
        "first.bias": torch.ones(4),
        "second.weight": torch.ones(3, 4, 1, 1),
    } | changes


def _save_npz(path: Path, entries: dict[str, torch.Tensor]) -> None:
    arrays: dict[str, Any] = {name: value.numpy() for name, value in entries.items()}
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("suffix", "save"),
    [
        (".npz", _save_npz),
        (".pt", lambda path, entries: torch.save(entries, path)),
        (".safetensors", lambda path, entries: safetensors.torch.save_file(entries, path)),
    ],
)
def test_weights_are_read_from_files(
    suffix: str, save: Callable[[Path, dict[str, torch.Tensor]], None], own: str
) -> None:
    path = Path(f"weights{suffix}")
    save(path, _entries())
    (made,) = rendered(own, "second:0", "--steps", "2", "--weights", path)
    evidence = read_evidence(made)
    assert evidence["score"] == 4.0  # four ones times one, whatever the picture
    assert (evidence["verdict"], evidence["execution"]["weights"]) == ("dead", str(path))
    (again,) = rendered("--recipe", made, "--out", "again")
    assert again.read_bytes() == made.read_bytes()
    path.write_bytes(path.read_bytes()[:100])
    assert_refused(["units", own, "*", "--weights", path], repr(str(path)), f"a {suffix} file")


def test_weights_that_do_not_fit_are_refused(own: str) -> None:
    def refused(name: str, *words: str) -> None:
        assert_refused(["units", own, "*", "--weights", name], *words)

    refused("none.npz", "'none.npz' is not available", "no such file")
    refused("own.py", "kind of weights file '.py'")
    _save_npz(Path("shape.npz"), _entries(**{"first.bias": torch.ones(5)}))
    refused("shape.npz", "'first.bias' of 'shape.npz'", "(5,)", "(4,)")
    _save_npz(Path("names.npz"), {"other": torch.ones(2)})
    refused("names.npz", "'names.npz'", "'other'", "'first.weight'")
    _save_npz(Path("nan.npz"), _entries(**{"first.bias": torch.full((4,), torch.nan)}))
    refused("nan.npz", "first.bias", "not finite")


def test_a_factory_that_does_not_fit_is_refused(own: str) -> None:
    assert_refused(["layers", "own.py:smal"], "no function 'smal' in own.py", "nearest: small")
    Path("broken.py").write_text("1 / 0")
    assert_refused(["layers", "broken.py:make"], "'broken.py'", "division by zero")
    Path("other.py").write_text("def make():\n    return 3\n")
    assert_refused(["layers", "other.py:make"], "make() of other.py", "int", "torch.nn.Module")
    shutil.rmtree("__pycache__", ignore_errors=True)


def test_pictures_that_cannot_be_saved_are_refused_before_they_are_made() -> None:
    Path("own4.py").write_text(FOUR)
    Path("own4.toml").write_text("network = 'own4.py:four'\nunits = ['0:0']\n")
    asked = "render", "own4.py:four", "0:0", "--steps", "100000"
    printed("units", "own4.py:four", "0:0")
    assert_refused(asked, "a picture of 4 channels", "Picture.pixels")
    assert_refused(["atlas", "own4.toml"], "a picture of 4 channels")


def test_addresses_may_be_calculated_with() -> None:
    line = printed("render", "planted", "2 * curve:3 - curve:5", *FAST)
    assert "  2.0 * channel(curve, 3) - channel(curve, 5)  rendered  " in line
    assert_refused(["render", "planted", "curve:3 - l1(nan)"], "constant nan is out of range")
    assert_refused(["render", "planted", "direction(curve, [nan, 1.0])"], "value nan")


def test_a_long_vector_is_counted_in_the_line() -> None:
    vector = ", ".join(["0.5"] * 18)
    line = printed("render", "planted", f"direction(line, [{vector}])", *FAST)
    assert "  direction(line, 18 numbers, 0.0)  rendered  " in line
