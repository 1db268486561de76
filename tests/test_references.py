"""Reference images: pink noise by number, and folders of photographs with all that lies in them."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from featviz.atlas.references import folder_references, pink_references
from featviz.errors import NotAvailable
from featviz.image.parameterizations import Shape

SHAPE = Shape(3, 24, 20)


def saved(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def flat(rows: int, columns: int, color: tuple[int, int, int]) -> np.ndarray:
    return np.full((rows, columns, 3), color)


def test_pink_references_are_functions_of_their_number() -> None:
    references = pink_references()
    assert (references.name, references.count, references.files) == ("pink-512", 512, ())
    several = references.images([0, 7, 511], SHAPE)
    assert several.shape == (3, 3, 24, 20)
    for number, image in zip([0, 7, 511], several, strict=True):
        assert torch.equal(references.images([number], SHAPE)[0], image)
    assert not torch.equal(several[0], several[1])
    assert pink_references(64).name == "pink-64"


def test_pink_references_have_the_stated_mean_spread_and_spectrum() -> None:
    images = pink_references().images(range(32), Shape(3, 64, 64)).double()
    # Clipping at 2.5 standard deviations takes a little; each channel is standardised before it.
    assert (images.mean(dim=(2, 3)) - 0.5).abs().max() < 0.02
    assert (images.std(dim=(2, 3)) - 0.2).abs().max() < 0.02
    power = torch.fft.fft2(images - images.mean(dim=(2, 3), keepdim=True)).abs().square()
    mean = power.mean(dim=(0, 1))
    # Power falls as 1 / frequency**2: four times from 4 to 8 and from 8 to 16 cycles.
    for axis in (mean[:, 0], mean[0]):
        assert axis[4] / axis[8] == pytest.approx(4, rel=0.35)
        assert axis[8] / axis[16] == pytest.approx(4, rel=0.35)
    flat = images.transpose(0, 1).flatten(1)
    assert (torch.corrcoef(flat) - torch.eye(3)).abs().max() < 0.15


def test_a_folder_is_read_in_the_order_of_names_and_cropped_around_the_center(
    tmp_path: Path,
) -> None:
    wide = flat(40, 120, (255, 0, 0))
    wide[:, 40:80] = (0, 255, 0)
    saved(tmp_path / "b" / "wide.png", wide)
    tall = flat(120, 40, (0, 0, 255))
    tall[40:80] = (200, 100, 50)
    saved(tmp_path / "a.png", tall)
    references = folder_references(tmp_path)
    assert references.files == ("a.png", "b/wide.png")
    assert (references.count, references.skipped) == (2, ())
    images = references.images([1, 0], Shape(3, 20, 20))
    green, brown = (torch.tensor(each) / 255 for each in ((0.0, 255, 0), (200.0, 100, 50)))
    torch.testing.assert_close(images[0, :, 10, 10], green)
    torch.testing.assert_close(images[1, :, 10, 10], brown)
    # Of 20 px for 40, the outermost pixels are within the middle third too: nothing is squeezed.
    torch.testing.assert_close(images[0, :, 10, 1], green, rtol=0, atol=2 / 255)
    grey = references.images([0], Shape(1, 8, 16))
    assert grey.shape == (1, 1, 8, 16)
    assert grey[0, 0, 4, 8].item() == pytest.approx(
        (0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255, abs=1 / 255
    )


def test_rows_and_columns_are_not_confused(tmp_path: Path) -> None:
    halves = flat(8, 24, (0, 0, 0))
    halves[:, 12:] = 255
    saved(tmp_path / "a.png", halves)
    (image,) = folder_references(tmp_path).images([0], Shape(1, 8, 24))
    assert (image[0] == torch.tensor(halves[..., 0] / 255).float()).all()
    (tall,) = folder_references(tmp_path).images([0], Shape(1, 24, 8))
    assert tall[0, :, 0].max() < 0.2 < 0.8 < tall[0, :, -1].min()


def test_the_same_images_whatever_was_asked_before(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(3):
        saved(tmp_path / f"{number}.png", generator.integers(0, 256, (30, 30, 3)))
    references = folder_references(tmp_path)
    first = references.images([0, 1, 2], SHAPE)
    references.images([0], Shape(3, 8, 8))
    assert torch.equal(references.images([2, 0], SHAPE), first[[2, 0]])


def test_what_cannot_be_decoded_is_named_and_skipped(tmp_path: Path) -> None:
    saved(tmp_path / "good.png", flat(16, 16, (1, 2, 3)))
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        file, "JPEG"
    )
    (tmp_path / "cut.jpg").write_bytes(file.getvalue()[:900])
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / ".hidden").write_text("passed over")
    references = folder_references(tmp_path)
    assert references.files == ("good.png",)
    assert references.skipped == ("cut.jpg", "empty.png", "notes.txt")


def test_the_name_is_of_names_and_contents(tmp_path: Path) -> None:
    saved(tmp_path / "one" / "a.png", flat(16, 16, (1, 2, 3)))
    saved(tmp_path / "two" / "a.png", flat(16, 16, (1, 2, 3)))
    saved(tmp_path / "three" / "b.png", flat(16, 16, (1, 2, 3)))
    saved(tmp_path / "four" / "a.png", flat(16, 16, (3, 2, 1)))
    names = {n: folder_references(tmp_path / n).name for n in ("one", "two", "three", "four")}
    assert names["one"] == names["two"]
    assert len(set(names.values())) == 3
    assert names["one"].startswith("images:")
    assert len(names["one"]) == len("images:") + 12
    (tmp_path / "one" / "notes.txt").write_text("not an image")
    assert folder_references(tmp_path / "one").name == names["one"]


def test_of_many_files_evenly_spaced_ones_are_taken(tmp_path: Path) -> None:
    for number in range(7):
        saved(tmp_path / f"{number}.png", flat(8, 8, (number, 0, 0)))
    assert folder_references(tmp_path, most=3).files == ("0.png", "2.png", "4.png")
    assert folder_references(tmp_path, most=7).count == 7


def test_upright_is_what_the_camera_says(tmp_path: Path) -> None:
    pixels = flat(16, 16, (255, 0, 0))
    pixels[:8] = (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png", exif=exif)
    (image,) = folder_references(tmp_path).images([0], Shape(3, 16, 16))
    assert image[:, 2, 8].tolist() == [1, 0, 0]
    assert image[:, 13, 8].tolist() == [0, 0, 1]


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable, match=r"'nowhere'.*there is no such folder"):
        folder_references("nowhere")
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(NotAvailable, match=r"it is a file"):
        folder_references(tmp_path / "notes.txt")
    with pytest.raises(NotAvailable, match=r"none of its 1 files is one: notes.txt"):
        folder_references(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotAvailable, match="the folder is empty"):
        folder_references(tmp_path / "empty")


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", flat(8, 8, (1, 2, 3)))
    references = folder_references(tmp_path)
    path.unlink()
    with pytest.raises(NotAvailable, match=r"a\.png"):
        references.images([0], SHAPE)


def test_of_sixteen_bits_the_upper_ones_are_read(tmp_path: Path) -> None:
    values = np.array([[0, 3000], [30000, 65535]], dtype=np.uint16).repeat(8, 0).repeat(8, 1)
    Image.fromarray(values).save(tmp_path / "deep.png")
    (image,) = folder_references(tmp_path).images([0], Shape(3, 16, 16))
    found = image[0, ::15, ::15]
    expected = torch.tensor([[0.0, 3000], [30000, 65535]]) / 65535
    torch.testing.assert_close(found, expected, rtol=0, atol=1 / 255)


def test_numbers_without_a_known_range_are_skipped(tmp_path: Path) -> None:
    saved(tmp_path / "good.png", flat(16, 16, (1, 2, 3)))
    Image.fromarray(np.ones((8, 8), dtype=np.float32)).save(tmp_path / "float.tiff")
    assert folder_references(tmp_path).skipped == ("float.tiff",)
