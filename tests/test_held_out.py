"""The held-out family: its fixed draws, and each of its three changes against an own reference."""

import kornia
import numpy as np
import torch

from featviz.atlas.held_out import CORNER_SHARE, DRAWS, FAMILY, draws, held_out, seen_askew

CORNERS = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)

FIRST_CORNERS = (
    (0.0236946881, 0.0346379721),
    (0.0083743393, 0.9521524346),
    (0.9847067988, 0.0413509655),
    (0.9723867583, 0.9424770701),
)
GAMMAS_0_15 = (0.9431763658, 0.8547602325)


def pictures(count: int, channels: int = 3, rows: int = 40, columns: int = 33) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, rows, columns, generator=generator)


def test_the_draws_of_this_version_never_change() -> None:
    corners, gammas = draws()
    assert (FAMILY, DRAWS) == ("perspective-gamma-jpeg-1", 16)
    assert corners.shape == (16, 4, 2)
    # Other numbers are another family: give it another name.
    pinned = torch.tensor(FIRST_CORNERS, dtype=torch.float64)
    torch.testing.assert_close(corners[0], pinned, rtol=0, atol=1e-9)  # written with 10 digits
    torch.testing.assert_close(
        gammas[[0, 15]], torch.tensor(GAMMAS_0_15, dtype=torch.float64), rtol=0, atol=1e-9
    )


def test_the_draws_are_in_their_range_and_all_different() -> None:
    corners, gammas = draws()
    inwards = (corners - CORNERS) * (1 - 2 * CORNERS)
    assert 0 <= inwards.min() < 0.2 * CORNER_SHARE < 0.8 * CORNER_SHARE < inwards.max()
    assert inwards.max() < CORNER_SHARE
    assert 0.8 <= gammas.min() < 0.85
    assert 1.2 < gammas.max() <= 1.25
    assert len(corners.flatten(1).unique(dim=0)) == len(gammas.unique()) == 16


def test_a_perspective_reads_the_corners_where_they_were_drawn() -> None:
    # On ramps a bilinear value is the position itself: what a corner shows is where it was read.
    rows, columns = 41, 33
    down = torch.linspace(0, 1, rows)[:, None].expand(rows, columns)
    across = torch.linspace(0, 1, columns).expand(rows, columns)
    shown = seen_askew(torch.stack([down, across]))
    at_corners = shown[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].transpose(1, 2)
    torch.testing.assert_close(
        at_corners.double(), draws()[0], rtol=0, atol=1e-6
    )  # float32 rounding of positions in [0, 1]


def test_perspectives_are_those_of_kornia() -> None:
    picture = pictures(1)
    last = torch.tensor([40 - 1, 33 - 1], dtype=torch.float64)
    read = (draws()[0] * last).flip(2)  # (column, row) in pixels
    shown = (CORNERS * last).flip(1).expand(16, 4, 2)
    matrices = kornia.geometry.get_perspective_transform(read, shown)
    expected = kornia.geometry.warp_perspective(
        picture.double().expand(16, -1, -1, -1), matrices, (40, 33), align_corners=True
    )
    found = seen_askew(picture[0])
    # 1e-4: positions in float32 have an error of 1e-5 px, and neighbours differ by up to 1; the
    # outermost pixels are kornia's blend with nothing where rounding leaves them outside.
    torch.testing.assert_close(
        found[:, :, 1:-1, 1:-1].double(), expected[:, :, 1:-1, 1:-1], rtol=0, atol=1e-4
    )


def test_a_flat_picture_is_changed_by_its_gamma_alone() -> None:
    shown = held_out(torch.full((1, 1, 16, 16), 0.6))
    assert shown.shape == (1, 16, 1, 16, 16)
    expected = (0.6 ** draws()[1]).float()
    # Quality 75 keeps a block's mean to one grey level (its step is 8 / 8), rounded before it.
    assert (shown[0].amax(dim=(1, 2, 3)) - expected).abs().max() < 1.1 / 255
    assert (shown[0].amax(dim=(1, 2, 3)) == shown[0].amin(dim=(1, 2, 3))).all()


def test_colors_keep_their_channels() -> None:
    red = torch.tensor([0.9, 0.2, 0.1])[:, None, None].expand(1, 3, 16, 16)
    middle = held_out(red)[0, :, :, 8, 8]
    expected = torch.tensor([0.9, 0.2, 0.1]) ** draws()[1].float()[:, None]
    assert (middle - expected).abs().max() < 6 / 255  # rounding of YCbCr and its quantization


def test_jpeg_is_in_it() -> None:
    values = held_out(pictures(1))
    assert torch.equal((values * 255).round() / 255, values)
    blurred = seen_askew(pictures(1)[0]) ** draws()[1].float().view(-1, 1, 1, 1)
    off = (values[0] - blurred).abs().mean()
    assert 3 / 255 < off < 60 / 255  # on noise, colors are halved in size and grey is quantized


def test_a_picture_is_changed_on_its_own() -> None:
    several = pictures(3)
    together = held_out(several)
    for picture, found in zip(several, together, strict=True):
        assert torch.equal(held_out(picture[None])[0], found)
    assert not np.array_equal(together[0], together[1])
