"""Images that recipes carry, and pictures that start from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import huge_png, printed
from PIL import Image

from featviz.engine.given import GivenImage
from featviz.errors import DoesNotFit, Malformed, NotAvailable, OutOfRange
from featviz.image.parameterizations import Shape


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_comes_back_to_half_a_grey_level(channels: int) -> None:
    image = torch.rand(channels, 3, 5)
    decoded = GivenImage.of(image).decoded(Shape(channels, 3, 5))
    assert (decoded - image).abs().max() <= 0.5 / 255 + 1e-6  # float32 rounding


def test_rows_and_columns_of_a_file_stay_rows_and_columns(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[1, 2] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "dot.png")
    image = GivenImage.open(tmp_path / "dot.png", Shape(3, 4, 6)).decoded(Shape(3, 4, 6))
    assert image[0].argmax() == 1 * 6 + 2
    assert image[1:].max() == 0


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(Malformed, match=r"no\.png.*expected an image file"):
        GivenImage.open(tmp_path / "no.png", Shape(3, 4, 4))
    (tmp_path / "huge.png").write_bytes(huge_png())
    with pytest.raises(Malformed, match=r"huge\.png.*expected an image file"):
        GivenImage.open(tmp_path / "huge.png", Shape(3, 4, 4))
    with pytest.raises(NotAvailable, match="there is no such file"):
        GivenImage.open(tmp_path / "missing.png", Shape(3, 4, 4))
    with pytest.raises(Malformed, match="expected a PNG as base64"):
        GivenImage("cG5n").decoded(Shape(3, 4, 4))
    with pytest.raises(DoesNotFit, match=r"expected the picture's \(3, 4, 4\)"):
        GivenImage.of(torch.rand(3, 4, 5)).decoded(Shape(3, 4, 4))


def test_a_command_starts_from_an_image(tmp_path: Path) -> None:
    gradient = np.linspace(40, 200, 48 * 48 * 3).astype(np.uint8).reshape(48, 48, 3)
    Image.fromarray(gradient).save(tmp_path / "start.png")
    out = tmp_path / "made.png"
    words = ["render", "planted", "curve:0@center", "--size", "48", "--steps", "1"]
    printed(*words, "--learning-rate", "1e-6", "--start", tmp_path / "start.png", "--out", out)
    with Image.open(out) as image:
        assert np.abs(np.asarray(image).astype(int) - gradient).max() <= 1


@pytest.mark.parametrize("value", [255.0, -0.01, float("nan")])
def test_values_outside_the_unit_range_are_refused(value: float) -> None:
    image = torch.full((3, 4, 4), 0.5)
    image[1, 2, 3] = value
    with pytest.raises(OutOfRange, match=r"a given image has 0 to 1"):
        GivenImage.of(image)
    GivenImage.of(torch.full((1, 2, 2), 1 + 1e-7))  # float32 rounding
