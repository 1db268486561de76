"""Color mixing, the 1/f gain and the Hartley transform against their definitions."""

import numpy as np
import pytest
import torch
from reference import image as reference

from featviz.image.color import (
    decorrelated_from_rgb,
    images_from_planes,
    rgb_from_decorrelated,
)
from featviz.image.spectrum import frequencies, hartley, lucid_gain_sd, pink_gain

SIZES = [(8, 8), (5, 7), (6, 5), (1, 4), (4, 1), (2, 3)]


def planes(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_color_is_the_published_matrix() -> None:
    x = planes(2, 3, 4, 5)
    np.testing.assert_allclose(
        rgb_from_decorrelated(x).numpy(),
        reference.rgb_from_decorrelated(x.numpy()),
        rtol=0,
        atol=1e-14,  # float64 rounding
    )


def test_the_first_decorrelated_channel_is_nearly_grey_the_second_red_against_blue() -> None:
    rgb = rgb_from_decorrelated(torch.eye(3, dtype=torch.float64)[:, :, None, None])[..., 0, 0]
    np.testing.assert_allclose(rgb[0], [0.56283, 0.58448, 0.58448], rtol=0, atol=1e-5)  # printed
    np.testing.assert_allclose(rgb[1], [0.19483, 0, -0.19483], rtol=0, atol=1e-5)  # printed


def test_color_goes_there_and_back() -> None:
    x = planes(2, 3, 4, 5)
    for back in (
        decorrelated_from_rgb(rgb_from_decorrelated(x)),
        rgb_from_decorrelated(decorrelated_from_rgb(x)),
    ):
        torch.testing.assert_close(back, x, rtol=0, atol=1e-13)  # float64 rounding


def test_color_has_its_gradient() -> None:
    x = planes(2, 3, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(rgb_from_decorrelated, x)
    assert torch.autograd.gradcheck(decorrelated_from_rgb, x)


@pytest.mark.parametrize("color", ["decorrelated", "plain"])
def test_pictures_are_the_sigmoid_of_their_colors(color: str) -> None:
    given, mixes = planes(2, 3, 5, 7).requires_grad_(), color == "decorrelated"
    colors = rgb_from_decorrelated(given) if mixes else given
    images = images_from_planes(given, is_decorrelated=mixes)
    torch.testing.assert_close(images, 1 / (1 + torch.exp(-colors)), rtol=0, atol=1e-15)
    assert torch.autograd.gradcheck(
        lambda each: images_from_planes(each, is_decorrelated=mixes), given
    )


@pytest.mark.parametrize("size", [(5, 7), (33, 47), (97, 97)])
def test_a_picture_of_odd_size_rounds_alike_in_every_place(size: tuple[int, int]) -> None:
    one = planes(1, 3, *size).float()
    alone = images_from_planes(one, is_decorrelated=True)
    for count in (2, 3, 7, 16):
        together = images_from_planes(one.expand(count, -1, -1, -1), is_decorrelated=True)
        assert torch.equal(together, alone.expand_as(together))


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_hartley_is_its_definition_and_its_own_inverse(rows: int, columns: int) -> None:
    x = planes(2, rows, columns)
    transformed = hartley(x)
    np.testing.assert_allclose(
        transformed.numpy(),
        reference.hartley(x.numpy()),
        rtol=0,
        atol=1e-13,  # float64 rounding
    )
    torch.testing.assert_close(hartley(transformed), x, rtol=0, atol=1e-13)  # float64 rounding


def test_hartley_of_a_wave_down_the_rows_is_one_coefficient_in_column_0() -> None:
    row = torch.arange(6, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * row / 6)[:, None].expand(6, 9)
    coefficients = hartley(wave)
    expected = torch.zeros(6, 9, dtype=torch.float64)
    expected[1, 0] = expected[5, 0] = 54**0.5 / 2
    torch.testing.assert_close(coefficients, expected, rtol=0, atol=1e-14)  # float64 rounding


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_hartley_has_its_gradient(rows: int, columns: int) -> None:
    assert torch.autograd.gradcheck(hartley, planes(2, rows, columns).requires_grad_())


@pytest.mark.parametrize(("rows", "columns"), SIZES)
@pytest.mark.parametrize("decay_power", [0.0, 1.0, 1.5])
def test_gain_is_its_definition(rows: int, columns: int, decay_power: float) -> None:
    np.testing.assert_allclose(
        frequencies(rows, columns), reference.frequencies(rows, columns), rtol=1e-14, atol=0
    )
    np.testing.assert_allclose(
        pink_gain(rows, columns, decay_power=decay_power),
        reference.pink_gain(rows, columns, decay_power),
        rtol=1e-14,  # float64 rounding
        atol=0,
    )


@pytest.mark.parametrize(("rows", "columns"), [(6, 6), (5, 7), (4, 9)])
def test_every_pixel_of_filtered_unit_noise_has_variance_1(rows: int, columns: int) -> None:
    # One unit impulse for each parameter: the squares add to each pixel's variance, exactly.
    impulses = torch.eye(rows * columns, dtype=torch.float64).reshape(-1, rows, columns)
    pixels = hartley(impulses * pink_gain(rows, columns, decay_power=1.0))
    variances = pixels.square().sum(dim=0)
    torch.testing.assert_close(variances, torch.ones_like(variances), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns"), [(6, 8), (8, 6), (6, 5), (5, 7), (5, 4)])
def test_lucid_gain_sd_is_what_its_transform_does_to_impulses(rows: int, columns: int) -> None:
    half = columns // 2 + 1 + columns % 2
    impulses = np.eye(rows * half * 2).reshape(-1, rows, half, 2)
    variances = (reference.lucid_pixels(impulses, rows, columns, 1.0) ** 2).sum(axis=0)
    expected = variances.mean() ** 0.5
    np.testing.assert_allclose(lucid_gain_sd(rows, columns), expected, rtol=1e-12)  # rounding


def test_lucid_gain_sd_at_the_sizes_where_it_was_measured() -> None:
    assert lucid_gain_sd(128, 128) == pytest.approx(1.88, abs=0.005)  # two printed digits
    assert lucid_gain_sd(224, 224) == pytest.approx(1.99, abs=0.005)
