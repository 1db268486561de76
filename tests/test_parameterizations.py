"""Parameters -> images and back: the definition, the true sd, live parameters, strangers."""

import numpy as np
import pytest
import torch
from reference import image as reference
from torch import Tensor

from featviz.errors import DoesNotFit, OutOfRange
from featviz.image.parameterizations import Color, Fourier, Parameterization, Pixel, Shape
from featviz.image.spectrum import pink_gain

ALL = [Pixel(), Pixel(color="plain"), Fourier(), Fourier(color="plain", decay_power=1.5)]
SIZES = [(33, 35), (16, 24), (5, 1), (1, 2)]


def initial(
    parameterization: Parameterization,
    seeds: list[int],
    size: tuple[int, int],
    *,
    channels: int = 3,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    return parameterization.initial(torch.tensor(seeds), Shape(channels, *size), dtype=dtype)


def test_fourier_is_its_definition() -> None:
    fourier = Fourier(sd=0.2, decay_power=1.2)
    parameters = initial(fourier, [4, 7], (6, 9))
    expected = [reference.fourier_image(one.numpy(), 1.2) for one in parameters]
    actual = fourier.decode(parameters).numpy()
    np.testing.assert_allclose(actual, np.stack(expected), rtol=0, atol=1e-13)  # rounding


def test_initial_parameters_are_the_numbers_of_their_stream() -> None:
    parameters = initial(Pixel(sd=0.1, color="plain"), [7], (2, 5), channels=1)
    scale = parameters[0, 0, 0, 0].item() / reference.normal(7, 0, "parameters", 10)[0]
    expected = scale * reference.normal(7, 0, "parameters", 10).reshape(2, 5)
    np.testing.assert_allclose(parameters[0, 0].numpy(), expected, rtol=0, atol=1e-13)  # rounding


def test_one_pixel_parameter_is_one_pixel_and_one_hartley_parameter_a_wave_along_columns() -> None:
    parameters = torch.zeros(1, 1, 4, 8, dtype=torch.float64)
    parameters[0, 0, 1, 2] = 3
    image = Pixel(color="plain").decode(parameters)[0, 0]
    assert image[1, 2].item() == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-15)  # rounding
    assert ((image == 0.5).sum()) == 31
    parameters = torch.zeros(1, 1, 4, 8, dtype=torch.float64)
    parameters[0, 0, 0, 1] = 3
    image = Fourier(color="plain").decode(parameters)[0, 0]
    torch.testing.assert_close(image, image[:1].expand(4, 8), rtol=0, atol=1e-15)  # rounding
    assert image[0].argmax() == 1  # cos + sin of one turn over 8 columns


@pytest.mark.parametrize("parameterization", ALL, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_given_images_come_back(parameterization: Parameterization, size: tuple[int, int]) -> None:
    images = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0))
    images = images.double() * 0.99 + 0.005
    back = parameterization.decode(parameterization.encode(images))
    torch.testing.assert_close(back, images, rtol=0, atol=1e-12)  # float64 rounding
    single = parameterization.decode(parameterization.encode(images.float()))
    torch.testing.assert_close(single, images.float(), rtol=0, atol=2e-6)  # float32 rounding


@pytest.mark.parametrize("parameterization", ALL, ids=str)
def test_black_and_white_come_back_within_half_a_grey_level(
    parameterization: Parameterization,
) -> None:
    images = (torch.arange(3 * 8 * 9) % 2).float().reshape(1, 3, 8, 9)
    back = parameterization.decode(parameterization.encode(images))
    assert torch.equal((back * 255).round(), images * 255)


@pytest.mark.parametrize("parameterization", ALL, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_every_parameter_receives_a_gradient(
    parameterization: Parameterization, size: tuple[int, int]
) -> None:
    parameters = initial(parameterization, [1, 2], size).requires_grad_()
    weights = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(0)).double()
    (parameterization.decode(parameters) * weights).sum().backward()
    assert parameters.grad is not None
    assert (parameters.grad.abs() > 1e-7).all()


def test_decode_has_its_gradient() -> None:
    for parameterization in ALL:
        parameters = initial(parameterization, [1, 2], (3, 5)).requires_grad_()
        assert torch.autograd.gradcheck(parameterization.decode, parameters)


@pytest.mark.parametrize(
    ("color", "channels"), [("decorrelated", 3), ("plain", 1), ("plain", 3), ("plain", 5)]
)
@pytest.mark.parametrize("size", [(33, 47), (64, 64), (128, 96)])
@pytest.mark.parametrize("sd", [0.01, 0.25])
def test_sd_is_the_standard_deviation_of_the_initial_images(
    color: Color, channels: int, size: tuple[int, int], sd: float
) -> None:
    for parameterization in (Pixel(sd, color), Fourier(sd, color)):
        seeds = list(range(96))
        parameters = initial(parameterization, seeds, size, channels=channels, dtype=torch.float32)
        images = parameterization.decode(parameters).double() - 0.5
        # Effective number of independent values: 96 pictures x color planes x independent
        # frequencies (the power-weighted count; all of them for white pixels). Color mixes the
        # planes, and the first holds nearly everything. sd of a standard deviation: 1/sqrt(2 n).
        planes = 1 if color == "decorrelated" else channels
        power = pink_gain(*size, decay_power=1.0).square()
        pink = (power.sum().square() / power.square().sum()).item()
        independent = pink if isinstance(parameterization, Fourier) else size[0] * size[1]
        relative_error = images.square().mean().sqrt().item() / sd - 1
        assert abs(relative_error) < 5 / (2 * 96 * planes * independent) ** 0.5


def test_unit_fourier_parameters_are_unit_pixels_before_the_sigmoid() -> None:
    # 33 x 47 white parameters of sd 1: the image's logit has sd 1 in the mean over pictures.
    parameters = torch.randn((400, 1, 33, 47), generator=torch.Generator().manual_seed(0))
    logits = Fourier(color="plain").decode(parameters.double()).logit()
    assert logits.square().mean().sqrt().item() == pytest.approx(1, abs=0.03)  # 5 sd, as above


def test_sd_close_to_the_limit_is_reached_or_refused() -> None:
    nearly_binary = Pixel(sd=0.49, color="plain")
    images = nearly_binary.decode(initial(nearly_binary, [1], (200, 200)))
    assert (images - 0.5).square().mean().sqrt().item() == pytest.approx(0.49, abs=1e-3)  # 5 sd
    with pytest.raises(OutOfRange, match=r"sd 0.49999"):
        initial(Pixel(sd=0.49999), [1], (4, 4))


@pytest.mark.parametrize("parameterization", ALL, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_strangers_to_the_bit(
    parameterization: Parameterization, size: tuple[int, int], dtype: torch.dtype
) -> None:
    weights = torch.randn((1, 3, *size), generator=torch.Generator().manual_seed(0), dtype=dtype)

    def outcome(seeds: list[int]) -> list[Tensor]:
        parameters = initial(parameterization, seeds, size, dtype=dtype).requires_grad_()
        images = parameterization.decode(parameters)
        (gradients,) = torch.autograd.grad((images * weights).sum(), parameters)
        encoded = parameterization.encode(images.detach())
        return [parameters.detach(), images.detach(), gradients, encoded]

    everywhere = outcome([7] * 5)
    for slot in range(5):
        seeds = [20, 21, 22, 23, 24]
        seeds[slot] = 7
        for among_strangers, among_equals in zip(outcome(seeds), everywhere, strict=True):
            assert torch.equal(among_strangers[slot], among_equals[0])
            assert torch.equal(among_equals[slot], among_equals[0])


@pytest.mark.parametrize("parameterization", ALL, ids=str)
def test_a_picture_is_its_seed(parameterization: Parameterization) -> None:
    first = initial(parameterization, [1, 2], (6, 7))
    assert torch.equal(first, initial(parameterization, [1, 2], (6, 7)))
    assert not torch.equal(first[0], first[1])
    single = initial(parameterization, [1, 2], (6, 7), dtype=torch.float32)
    torch.testing.assert_close(single.double(), first, rtol=1e-5, atol=1e-6)  # float32 rounding


@pytest.mark.parametrize("kind", [Pixel, Fourier])
def test_what_does_not_fit_is_refused(kind: type[Pixel] | type[Fourier]) -> None:
    for sd in (0.0, -0.1, 0.5, float("nan"), float("inf")):
        with pytest.raises(OutOfRange, match="sd"):
            kind(sd=sd)
    five = torch.rand(1, 5, 4, 4)
    for call in (kind().decode, kind().encode):
        with pytest.raises(DoesNotFit, match=r'got 5, expected 3; use color="plain"'):
            call(five)
    with pytest.raises(DoesNotFit, match="plain"):
        initial(kind(), [1], (4, 4), channels=1)
    for decay_power in (-0.1, 4.1, float("nan")):
        with pytest.raises(OutOfRange, match="decay_power"):
            Fourier(decay_power=decay_power)
    with pytest.raises(OutOfRange, match="rows 0"):
        Shape(3, 0, 4)


def test_a_preview_in_inference_mode_does_not_stop_training() -> None:
    fourier, size = Fourier(), (10, 11)  # a size that no other test has cached
    with torch.inference_mode():
        fourier.decode(initial(fourier, [1], size))
    parameters = initial(fourier, [1], size).requires_grad_()
    fourier.decode(parameters).sum().backward()
    assert parameters.grad is not None
