"""An animation is the reference loop's own pictures, in an image that moves."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import assert_refused, printed
from PIL import Image, ImageSequence

from featviz.engine.animation import animated, frames
from featviz.engine.objectives import Channel
from featviz.engine.optimize import optimize
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import hwc_uint8_from_images
from featviz.errors import DoesNotFit, UnknownName
from featviz.network.network import Network
from featviz.network.zoo import load


@pytest.fixture(scope="module")
def network() -> Network:
    return load("planted")


@pytest.fixture
def recipe(network: Network) -> Recipe:
    return default_recipe(network, Channel("line", 2), size=32, steps=6)


def test_frames_are_the_loops_pictures(network: Network, recipe: Recipe) -> None:
    steps = [hwc_uint8_from_images(each.images)[0] for each in optimize(network, recipe)]
    found = list(frames(network, recipe, every=4))
    assert len(found) == 3
    for picture, number in zip(found, (0, 4, 6), strict=True):
        assert np.array_equal(picture, steps[number])
    with pytest.raises(DoesNotFit, match="fingerprint"):
        next(frames(network, replace(recipe, network="0" * 64)))


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_an_animation_has_every_frame_and_holds_the_last(suffix: str) -> None:
    pictures = [np.full((9, 7, 3), value, dtype=np.uint8) for value in (0, 128, 255)]
    with Image.open(io.BytesIO(animated(iter(pictures), suffix))) as image:
        shown, times = [], []
        for frame in ImageSequence.Iterator(image):
            shown.append(int(np.asarray(frame.convert("RGB")).mean()))
            times.append(frame.info["duration"])
        assert image.size == (7, 9)
    assert shown == [0, 128, 255]
    assert times[-1] > 5 * times[0]
    with pytest.raises(UnknownName, match=r"\.png"):
        animated(iter(pictures), ".png")


def test_the_command_animates_one_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--size", "32", "--steps", "6", "--every", "2")
    assert printed("animate", "planted", "line:2", *words, "--out", "a.gif").strip() == "a.gif"
    with Image.open("a.gif") as image:
        assert image.n_frames == 4  # type: ignore[attr-defined]
    assert_refused(["animate", "planted", "line:0-1", *words], "2 units", "expected one")
    assert_refused(["animate", "planted", "line:2", "--out", "a.mp4"], "'.mp4'", ".gif")
