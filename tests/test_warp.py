"""Affine maps and the resampling: the definition, exact identities, kornia, the borders."""

import math

import kornia.geometry.transform as kornia_transform
import numpy as np
import pytest
import torch
from reference import image as reference
from torch import Tensor

from featviz.errors import DoesNotFit
from featviz.image import warp
from featviz.image.warp import (
    Affine,
    Border,
    Fill,
    Reflect,
    compose,
    identity,
    resample,
    rotation,
    scaling,
    translation,
)

EXACT = {torch.float32: 1e-4, torch.float64: 1e-12}  # of contrast 1, coordinates up to 128 px


def pictures(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def numbers(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def mixed_maps(rows: int, columns: int) -> Affine:
    """Three maps with everything in them, reaching far outside the picture."""
    center = (rows - 1) / 2, (columns - 1) / 2
    return compose(
        translation(torch.tensor([[1.3, -2.6], [-9.1, 14.2], [0.4, 0.2]], dtype=torch.float64)),
        compose(
            rotation(numbers(17, -130, 3), center=center),
            scaling(
                torch.tensor([[1.2, 0.7], [2.5, 2.2], [-1.1, 1.0]], dtype=torch.float64),
                center=center,
            ),
        ),
    )


@pytest.mark.parametrize("border", [Reflect(), Fill(0.3)])
def test_resampling_is_its_definition(border: Border) -> None:
    images, maps = pictures(3, 2, 6, 9), mixed_maps(6, 9)
    actual = resample(images, maps, rows=7, columns=5, border=border)
    fill = border.color if isinstance(border, Fill) else None
    assert not isinstance(fill, tuple)
    for row in range(3):
        for channel in range(2):
            expected = reference.resampled(
                images[row, channel].numpy(), maps[row].numpy(), 7, 5, fill
            )
            np.testing.assert_allclose(
                actual[row, channel].numpy(),
                expected,
                rtol=0,
                atol=1e-13,  # float64 rounding
            )


@pytest.mark.parametrize("border", [Reflect(), Fill(0.5), Fill((0.1, 0.2, 0.3))])
@pytest.mark.parametrize("size", [(33, 47), (128, 128), (1, 5), (100, 127)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identity_and_whole_pixels_are_exact(
    border: Border, size: tuple[int, int], dtype: torch.dtype
) -> None:
    rows, columns = size
    images = pictures(2, 3, *size, dtype=dtype)
    same = resample(
        images, identity(numbers(1, 1, dtype=dtype)), rows=rows, columns=columns, border=border
    )
    torch.testing.assert_close(same, images, rtol=0, atol=EXACT[dtype])
    shift = translation(torch.tensor([[-1, 3], [-1, 3]], dtype=dtype))
    moved = resample(images, shift, rows=rows + 1, columns=columns - 3, border=border)
    torch.testing.assert_close(moved[..., 1:, :], images[..., 3:], rtol=0, atol=EXACT[dtype])


def test_one_pixel_goes_to_row_1_column_2() -> None:
    image = torch.zeros(1, 1, 4, 5, dtype=torch.float64)
    image[0, 0, 0, 0] = 1
    moved = resample(image, translation(-numbers(1, 2)[None]), rows=4, columns=5, border=Fill(0.0))
    assert moved[0, 0, 1, 2].item() == pytest.approx(1, abs=1e-12)  # float64 rounding
    assert moved.sum().item() == pytest.approx(1, abs=1e-12)


def test_a_picture_read_at_positions_turned_clockwise_turns_counter_clockwise() -> None:
    image = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    image[0, 0, 2, 4] = 1  # right of the center
    turned = resample(
        image, rotation(numbers(-90), center=(2.0, 2.0)), rows=5, columns=5, border=Fill(0.0)
    )
    assert turned[0, 0, 0, 2].item() == pytest.approx(1, abs=1e-12)  # above the center
    assert turned.sum().item() == pytest.approx(1, abs=1e-12)  # float64 rounding


def test_rotation_takes_right_to_up_and_up_to_left() -> None:
    (turn,) = rotation(numbers(90), center=(10.0, 20.0))
    position = torch.tensor([10, 21, 1], dtype=torch.float64)
    torch.testing.assert_close(turn @ position, numbers(9, 20), rtol=0, atol=1e-12)  # rounding
    position = torch.tensor([9, 20, 1], dtype=torch.float64)
    torch.testing.assert_close(turn @ position, numbers(10, 19), rtol=0, atol=1e-12)  # rounding


def test_scaling_keeps_the_center_and_its_axes() -> None:
    (zoom,) = scaling(numbers(2, 3)[None], center=(10.0, 20.0))
    torch.testing.assert_close(zoom @ numbers(10, 20, 1), numbers(10, 20), rtol=0, atol=0)
    torch.testing.assert_close(zoom @ numbers(11, 21, 1), numbers(12, 23), rtol=0, atol=0)


def test_compose_applies_the_inner_map_first() -> None:
    outer, inner = mixed_maps(6, 9), mixed_maps(9, 6).flip(0)
    position = numbers(2.5, -7, 1)
    for total, second, first in zip(compose(outer, inner), outer, inner, strict=True):
        expected = second @ torch.cat([first @ position, numbers(1)])
        torch.testing.assert_close(total @ position, expected, rtol=0, atol=1e-12)  # rounding


@pytest.mark.parametrize("size", [(33, 48), (32, 32)])
def test_kornia_agrees(size: tuple[int, int]) -> None:
    rows, columns = size
    images, center = pictures(2, 3, *size), ((rows - 1) / 2, (columns - 1) / 2)
    angles, shifts = numbers(10, -35), torch.tensor([[2.5, -3], [0.25, 7]], dtype=torch.float64)
    factors = torch.tensor([[1.1, 0.8], [0.9, 1.3]], dtype=torch.float64)
    pairs = (
        (rotation(-angles, center=center), kornia_transform.rotate(images, angles)),
        (translation(-shifts), kornia_transform.translate(images, shifts.flip(1))),
        (scaling(1 / factors, center=center), kornia_transform.scale(images, factors.flip(1))),
    )
    for maps, expected in pairs:
        actual = resample(images, maps, rows=rows, columns=columns, border=Fill(0.0))
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)  # its matrix inverse


def test_kornia_agrees_about_a_composed_warp() -> None:
    images, maps = pictures(3, 2, 16, 21), mixed_maps(16, 21)
    # kornia wants the inverse map, in (column, row), as its matrix.
    swapped = maps.flip(1)[:, :, [1, 0, 2]]
    last = torch.tensor([0, 0, 1], dtype=torch.float64).expand(3, 1, 3)
    matrices = torch.linalg.inv(torch.cat([swapped, last], dim=1))[:, :2]
    expected = kornia_transform.warp_affine(images, matrices, (13, 18))
    actual = resample(images, maps, rows=13, columns=18, border=Fill(0.0))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)  # its matrix inverse


def test_outside_lies_the_fill_and_between_a_blend() -> None:
    image = torch.ones(1, 3, 3, 3, dtype=torch.float64)
    shift = translation(numbers(0, -2.25)[None])
    row = resample(image, shift, rows=3, columns=6, border=Fill((0.0, 0.5, 0.2)))[0, :, 1]
    expected = torch.tensor(
        [
            [0, 0, 0.75, 1, 1, 0.25],
            [0.5, 0.5, 0.875, 1, 1, 0.625],
            [0.2, 0.2, 0.8, 1, 1, 0.4],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(row, expected, rtol=0, atol=1e-14)  # float64 rounding


def test_the_mirror_stands_at_the_pixels_edge() -> None:
    image = torch.arange(3, dtype=torch.float64)[None, None, None]
    seen = resample(image, translation(numbers(0, -4)[None]), rows=1, columns=11, border=Reflect())
    assert seen.flatten().tolist() == pytest.approx([2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0], abs=1e-12)


def test_a_fill_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="got 2, expected 3"):
        resample(
            pictures(1, 3, 4, 4), identity(numbers(1)), rows=4, columns=4, border=Fill((0.1, 0.2))
        )


@pytest.mark.parametrize("outside", ["reflection", "zeros"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_reproducible_gradient_is_that_of_grid_sample(
    outside: warp.Outside, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warp, "kernels", lambda *_: None)
    maps = mixed_maps(6, 9).to(dtype)
    images = pictures(3, 2, 6, 9, dtype=dtype).requires_grad_()
    weights = (pictures(3, 2, 7, 5, dtype=dtype) - 0.5) * 1e-9  # small, as far gradients are
    expected_value = warp._grid_sampled(images, maps, 7, 5, outside=outside)
    value = warp._Reproducible.apply(images, maps, 7, 5, outside, None)
    assert isinstance(value, Tensor)
    assert torch.equal(value, expected_value)
    (expected,) = torch.autograd.grad((expected_value * weights).sum(), images)
    (actual,) = torch.autograd.grad((value * weights).sum(), images)
    tolerance = 1e-9 * {torch.float32: 3e-5, torch.float64: 1e-12}[dtype]  # positions' rounding
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def test_the_reproducible_gradient_keeps_rows_apart() -> None:
    maps, gradients = mixed_maps(6, 9), pictures(3, 2, 7, 5)
    clean = warp._scattered(gradients, maps, size=(6, 9), outside="zeros")
    for broken_value in (math.nan, math.inf, 1e300):
        broken = gradients.clone()
        broken[1, 0, 3, 3] = broken_value
        actual = warp._scattered(broken, maps, size=(6, 9), outside="zeros")
        assert torch.equal(actual[[0, 2]], clean[[0, 2]])
        assert torch.isfinite(actual[1]).all() == math.isfinite(broken_value)
    silent = warp._scattered(torch.zeros_like(gradients), maps, size=(6, 9), outside="zeros")
    assert torch.equal(silent, torch.zeros_like(silent))
