"""Kernels against torch's own operations: Triton's on CUDA or in its interpreter, and C's."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("triton")

from featviz.engine import convolution, stem
from featviz.engine.convolution import Convolution
from featviz.engine.operations import MaxPool
from featviz.engine.recipe import Adam
from featviz.engine.redirect import redirected
from featviz.image import fourier
from featviz.image.color import RGB_FROM_DECORRELATED, rgb_from_decorrelated
from featviz.image.fourier import images_from_coefficients
from featviz.image.warp import Fill, Reflect, compose, resample, rotation, scaling, translation
from featviz.kernels import host
from featviz.kernels.cuda.depthwise import convolved, convolved_gradient
from featviz.kernels.cuda.pairs import paired
from featviz.kernels.cuda.rectifier import rectified_gradient, rectify_
from featviz.kernels.layout import Window, by_pixel
from featviz.network.preprocessing import Preprocessing

Room = Callable[[str], Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.gpu
LAST = torch.channels_last


@pytest.fixture(params=["cuda", "host"])
def room(request: pytest.FixtureRequest) -> Room:
    """The modules of kernels of one kind, by name."""
    if request.param == "host" and (DEVICE == "cuda" or host.loaded() is None):
        pytest.skip("C kernels are for a CPU with a C compiler")
    return partial(_module, request.param)


def _module(kind: str, name: str) -> Any:
    return import_module(f"featviz.kernels.{kind}.{name}")


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(DEVICE)


def gradient_of(work: Callable[[Tensor], Tensor], at: Tensor, coming: Tensor) -> Tensor:
    at = at.detach().double().requires_grad_()
    return torch.autograd.grad(work(at), at, coming.double())[0]


@pytest.mark.parametrize(
    ("size", "stride", "padding", "is_ceil"),
    [
        ((3, 3), (2, 2), (0, 0), True),
        ((3, 3), (1, 1), (1, 1), False),
        ((2, 3), (2, 1), (1, 0), False),
        ((2, 2), (3, 3), (0, 0), False),
    ],
)
@pytest.mark.parametrize("is_slice", [False, True])
def test_pooling_is_torchs(
    room: Room,
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    is_ceil: bool,  # noqa: FBT001
    is_slice: bool,  # noqa: FBT001
) -> None:
    whole = (random(3, 9, 11, 8) * 2).round().contiguous(memory_format=LAST)  # with equals
    maps = whole[:, 2:7] if is_slice else whole
    pool = MaxPool(size, stride, padding, is_ceil=is_ceil)
    work = lambda each: functional.max_pool2d(each, size, stride, padding, ceil_mode=is_ceil)  # noqa: E731
    expected = work(maps)
    window, shape = Window(size, stride, padding), pool.output_size(11, 8)
    result, places = room("pooling").pooled(maps, window, shape)
    assert torch.equal(result, expected)
    coming = random(*expected.shape, seed=1)
    found = room("pooling").unpooled(coming.contiguous(memory_format=LAST), places, window, (11, 8))
    assert torch.allclose(found.double(), gradient_of(work, maps, coming), atol=1e-5)


def test_a_pooled_nan_stays_and_the_gradient_goes_to_it(room: Room) -> None:
    maps = random(1, 1, 4, 4)
    maps[0, 0, 1, 2] = torch.nan
    window = Window((2, 2), (2, 2), (0, 0))
    result, places = room("pooling").pooled(maps, window, (2, 2))
    assert result.isnan().flatten().tolist() == [False, True, False, False]
    found = room("pooling").unpooled(torch.ones_like(result), places, window, (4, 4))
    assert found[0, 0, 1, 2] == 1


@pytest.mark.parametrize("bounds", [(0.0, torch.inf), (-1.0, 1.0)])
@pytest.mark.parametrize("layout", ["channels_last", "contiguous", "slice", "flat", "pixel"])
def test_the_rectified_gradient_is_the_redirected_one(
    bounds: tuple[float, float], layout: str
) -> None:
    values = random(4, 70, 6, 7)  # more than a program handles
    values[1] = -values[1].abs() - 2  # blocked
    values[2] = -values[2].abs() - 2  # blocked, not among the rows
    coming = random(4, 70, 6, 7, seed=1)
    rows = torch.tensor([True, True, False, False], device=DEVICE)
    result = values.clamp(*bounds)
    if layout == "channels_last":
        result, given = (each.contiguous(memory_format=LAST) for each in (result, coming))
    elif layout == "slice":
        given = torch.cat([coming, coming], dim=1).contiguous(memory_format=LAST)[:, 3:73]
        coming = given
    elif layout == "pixel":
        result, values, coming = (
            each.flatten(1)[..., None, None] for each in (result, values, coming)
        )
        given = coming
    elif layout == "flat":
        result, given, values = result.flatten(1), coming.flatten(1), values.flatten(1)
        coming = given
    else:
        given = coming

    def work(each: Tensor) -> Tensor:
        result = redirected(0, "hardtanh", (each, *bounds), {}, rows=rows)
        assert result is not None
        return result

    expected = gradient_of(work, values, coming)
    found = rectified_gradient(given, result, bounds, rows, overwrites=True)
    assert torch.equal(found.double(), expected)
    plain = gradient_of(lambda each: each.clamp(*bounds), values, coming)
    assert torch.equal(
        rectified_gradient(given, result, bounds, None, overwrites=False).double(), plain
    )


@pytest.mark.parametrize("channels", [1, 5, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_is_added_and_held_in_place(channels: int, dtype: torch.dtype) -> None:
    whole = random(2, channels + 2, 3, 4).to(dtype).contiguous(memory_format=LAST)
    bias = random(channels, seed=1).to(dtype)
    for values in (whole[:, 1 : channels + 1], whole[:, :channels].contiguous(memory_format=LAST)):
        expected = (values + bias.view(1, -1, 1, 1)).clamp(-0.5, 0.75)
        rectify_(values, bias, (-0.5, 0.75))
        if DEVICE == "cuda" or dtype == torch.float32:
            assert torch.equal(values, expected)
        else:  # the interpreter cuts bfloat16 off where devices round
            assert torch.allclose(values, expected, rtol=1e-2)


def test_a_nan_lets_its_gradient_through_as_torchs_rectifier_does() -> None:
    result = torch.tensor([[[[torch.nan, 1.0, 0.0]]]], device=DEVICE)
    found = rectified_gradient(
        torch.ones_like(result), result, (0.0, torch.inf), None, overwrites=False
    )
    assert found.flatten().tolist() == [1, 1, 0]


def test_what_is_mine_is_overwritten() -> None:
    result = random(2, 3, 4, 5).relu().contiguous(memory_format=LAST)
    gradient = random(2, 3, 4, 5, seed=1).contiguous(memory_format=LAST)
    expected = gradient * (result > 0)
    found = rectified_gradient(gradient, result, (0.0, torch.inf), None, overwrites=True)
    assert found.data_ptr() == gradient.data_ptr()
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize(("size", "channels"), [(5, 7), (4, 8), (3, 2)])
@pytest.mark.parametrize("is_slice", [False, True])
@pytest.mark.parametrize("beta", [0.75, 0.6])
def test_response_normalization_is_torchs(
    room: Room,
    size: int,
    channels: int,
    is_slice: bool,  # noqa: FBT001
    beta: float,
) -> None:
    whole = 3 * random(2, channels + 3, 4, 5).contiguous(memory_format=LAST)
    maps = whole[:, 2 : 2 + channels] if is_slice else whole[:, :channels].contiguous()
    alpha, k = 0.8, 1.5
    work = lambda each: functional.local_response_norm(each, size, alpha, beta, k)  # noqa: E731
    result, slopes = room("response").normalized(maps, size, alpha / size, beta, k)
    assert torch.allclose(result.double(), work(maps.double()), atol=1e-5)
    coming = random(*maps.shape, seed=1)
    found = room("response").normalized_gradient(coming, maps, slopes, size, alpha / size, beta)
    assert torch.allclose(found.double(), gradient_of(work, maps, coming), atol=1e-5)


def test_an_ascent_is_torchs_adam(room: Room) -> None:
    settings = Adam()
    parameters = nn.Parameter(random(3, 2, 5, 300))
    mine = parameters.detach().clone()
    memory = torch.zeros_like(mine), torch.zeros_like(mine)
    adam = torch.optim.Adam(
        [parameters],
        lr=0.3,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        maximize=True,
    )
    moves = torch.tensor([True, True, False], device=DEVICE)
    start = parameters.detach().clone()
    for number in range(5):
        gradient = random(3, 2, 5, 300, seed=number)
        parameters.grad = gradient.clone()
        adam.step()
        size = 0.3 / (1 - settings.beta1 ** (number + 1))
        root = (1 - settings.beta2 ** (number + 1)) ** 0.5
        rates = (torch.full((3,), size, device=DEVICE), torch.full((3,), root, device=DEVICE))
        betas = (settings.beta1, settings.beta2, settings.epsilon)
        gradient[2] = torch.nan
        room("ascent").ascend(mine, gradient, memory, rates, moves, betas)
    assert torch.allclose(mine[:2], parameters.detach()[:2], rtol=1e-5, atol=1e-5)
    assert torch.equal(mine[2], start[2])


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 4), (4, 1), (24, 50)])
@pytest.mark.parametrize("mixes", [False, True])
def test_spectra_are_decoded_as_torch_does(
    room: Room,
    size: tuple[int, int],
    mixes: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fourier, "kernels", lambda name, _: room(name))
    coefficients, coming = random(2, 3, *size), random(2, 3, *size, seed=1)
    gain = random(*size, seed=2).abs()

    def work(each: Tensor) -> Tensor:
        whole = torch.fft.fft2(each * gain, norm="ortho")
        planes = whole.real - whole.imag
        return (rgb_from_decorrelated(planes) if mixes else planes).sigmoid()

    coefficients.requires_grad_()
    matrix = RGB_FROM_DECORRELATED if mixes else None
    found = images_from_coefficients(coefficients, gain, matrix)
    assert torch.allclose(found.double(), work(coefficients.detach().double()), atol=1e-5)
    (back,) = torch.autograd.grad(found, coefficients, coming)
    assert torch.allclose(back.double(), gradient_of(work, coefficients, coming), atol=1e-5)


@pytest.mark.parametrize("mixes", [False, True])
def test_colors_and_their_gradient_are_the_sigmoids(room: Room, mixes: bool) -> None:  # noqa: FBT001
    planes, coming = random(2, 3, 5, 9), random(2, 3, 5, 9, seed=1)
    matrix = RGB_FROM_DECORRELATED if mixes else None
    work = lambda each: (rgb_from_decorrelated(each) if mixes else each).sigmoid()  # noqa: E731
    images = room("decoding").squashed(planes, matrix)
    assert torch.allclose(images.double(), work(planes.double()), atol=1e-6)
    found = room("decoding").unsquashed(coming, images, matrix)
    assert torch.allclose(found.double(), gradient_of(work, planes, coming), atol=1e-6)


@pytest.mark.parametrize("border", [Reflect(), Fill(0.0)])
@pytest.mark.parametrize(
    ("factors", "angle", "offset", "output"),
    [
        ((1.0, 1.0), 0.0, (0.0, 0.0), (17, 33)),
        ((1.1, 0.8), 25.0, (2.3, -3.7), (17, 33)),
        ((-1.0, 1.0), 0.0, (0.0, 0.5), (17, 33)),
        ((0.4, 2.5), 80.0, (9.0, 30.0), (9, 22)),
        ((0.06, 0.03), 10.0, (1.0, 2.0), (19, 30)),
        ((1.0, 1.0), 3.0, (-40.0, 55.0), (7, 6)),
    ],
)
def test_sampling_and_its_gathered_gradient_are_grid_samples(
    room: Room,
    border: Reflect | Fill,
    factors: tuple[float, float],
    angle: float,
    offset: tuple[float, float],
    output: tuple[int, int],
) -> None:
    images = random(2, 5, 17, 33)  # more than a program of each kernel handles
    center = (8.0, 16.0)
    turned = rotation(torch.tensor([angle, -angle / 2], device=DEVICE), center=center)
    scaled = scaling(torch.tensor([factors, factors[::-1]], device=DEVICE), center=center)
    moved = translation(torch.tensor([offset, (0.0, 0.0)], device=DEVICE))
    affine = compose(moved, compose(turned, scaled))
    coming = random(2, 5, *output, seed=1)
    rows, columns = output
    work = lambda each: resample(  # noqa: E731
        each, affine.double(), rows=rows, columns=columns, border=border
    )
    reflects = isinstance(border, Reflect)
    result = room("warp").sampled(images, affine, rows, columns, reflects=reflects)
    assert torch.allclose(result.double(), work(images.double()), atol=2e-4)
    expected = gradient_of(work, images, coming)
    found = room("warp").gathered(coming, affine, (17, 33), reflects=reflects)
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=5e-4)


@pytest.mark.parametrize(("side", "zoom"), [(1, 2.2), (2, 3.2), (4, 5.0), (8, 7.0), (16, 16.0)])
def test_a_pixel_may_be_read_by_all_of_the_output(room: Room, side: int, zoom: float) -> None:
    images, coming = random(1, 3, side, side), random(1, 3, side, side, seed=1)
    factors = torch.tensor([[1 / zoom, 1 / zoom]], device=DEVICE)
    middle = (side - 1) / 2
    affine = compose(
        translation(torch.tensor([[0.3, -0.2]], device=DEVICE)),
        scaling(factors, center=(middle, middle)),
    )
    work = lambda each: resample(  # noqa: E731
        each, affine.double(), rows=side, columns=side, border=Reflect()
    )
    found = room("warp").gathered(coming, affine, (side, side), reflects=True)
    assert torch.allclose(found.double(), gradient_of(work, images, coming), atol=1e-4)


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_input_is_the_preprocessings(
    room: Room,
    is_reversed: bool,  # noqa: FBT001
    dtype: torch.dtype,
) -> None:
    preprocessing = Preprocessing(
        rows=5, columns=7, mean=(0.1, 0.2, 0.3), sd=(0.4, 0.5, 2.0), is_bgr=is_reversed
    )
    images, coming = random(2, 3, 5, 7).sigmoid(), random(2, 3, 5, 7, seed=1).to(dtype)
    constants = preprocessing.constants(images)
    result = room("input").given(images, *constants, dtype, is_reversed=is_reversed)
    assert torch.allclose(result, preprocessing.apply(images, constants).to(dtype), rtol=1e-2)
    assert result.is_contiguous(memory_format=LAST)
    exact = preprocessing.constants(images.double())
    expected = gradient_of(lambda each: preprocessing.apply(each, exact), images, coming)
    found = room("input").taken(coming, constants[0], torch.float32, is_reversed=is_reversed)
    assert torch.allclose(found.double(), expected, rtol=1e-5)


def test_maps_of_another_order_are_copied_and_slices_are_not() -> None:
    maps = random(2, 6, 3, 4).contiguous(memory_format=LAST)
    assert by_pixel(maps[:, 1:4]).data_ptr() == maps[:, 1:4].data_ptr()
    assert by_pixel(maps.contiguous()).is_contiguous(memory_format=LAST)
    assert by_pixel(maps[..., 1:]).is_contiguous(memory_format=LAST)


def test_pairs_of_pixels_are_pixel_shuffles(room: Room) -> None:
    values = random(2, 3, 6, 10)
    inner = functional.pixel_unshuffle(values, 2)
    result = paired(values, 16, (1, 2), (0, 3))
    expected = functional.pad(inner, (2, 3, 1, 0, 0, 4))
    assert torch.equal(result, expected)
    assert result.is_contiguous(memory_format=LAST)
    back = room("pairs").unpaired(result, 3, 2, (1, 2), (6, 10))
    assert torch.equal(back, values)
    assert back.is_contiguous(memory_format=LAST)
    blocks = functional.pad(functional.pixel_unshuffle(values[:, :, :4, :8], 4), (1, 1, 1, 0))
    assert torch.equal(room("pairs").unpaired(blocks, 3, 4, (1, 1), (4, 8)), values[:, :, :4, :8])


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        ((3, 3), (1, 1), (1, 1)),
        ((5, 5), (2, 2), (2, 2)),
        ((4, 3), (2, 2), (1, 2)),
        ((2, 3), (1, 2), (0, 1)),
        ((1, 2), (3, 3), (0, 0)),
    ],
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_channels_are_convolved_with_their_own_kernels_as_torch_does(
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    has_bias: bool,  # noqa: FBT001
) -> None:
    maps = random(2, 70, 9, 12).contiguous(memory_format=LAST)
    weight, bias = random(70, 1, *size, seed=1), random(70, seed=2) if has_bias else None
    own, window = weight.flatten(1).T.contiguous(), Window(size, stride, padding)

    def work(each: Tensor) -> Tensor:
        shift = None if bias is None else bias.double()
        return functional.conv2d(each, weight.double(), shift, stride, padding, groups=70)

    expected = work(maps.double())
    shape = window.output_size(9, 12)
    assert shape == tuple(expected.shape[2:])
    assert torch.allclose(convolved(maps, own, bias, window, shape).double(), expected, atol=1e-5)
    coming = random(*expected.shape, seed=3)
    found = convolved_gradient(coming, own, window, (9, 12))
    assert torch.allclose(found.double(), gradient_of(work, maps, coming), atol=1e-5)


@pytest.fixture
def _as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen on CUDA in half precision, on any device, for float32 as well."""
    for module in (convolution, stem):
        monkeypatch.setattr(module, "usable", lambda values: values.dtype != torch.float64)
    monkeypatch.setattr(stem, "kernels", lambda name, _: _module("cuda", name))
    monkeypatch.setattr(Convolution, "_is_half", property(lambda _: True))


@pytest.mark.usefixtures("_as_on_cuda")
@pytest.mark.parametrize(
    ("shape", "stride", "padding", "groups", "size"),
    [
        ((6, 1, 4, 4), 2, 1, 6, (8, 10)),
        ((6, 1, 3, 3), 1, 1, 6, (8, 10)),
        ((70, 1, 5, 6), 2, 2, 70, (9, 7)),
        ((8, 3, 7, 7), 2, 3, 1, (16, 12)),
        ((8, 3, 7, 7), 2, 3, 1, (14, 12)),
        ((8, 3, 3, 3), 2, 1, 1, (15, 12)),
        ((192, 4, 3, 3), 1, 1, 1, (5, 6)),
    ],
)
def test_convolutions_by_other_ways_are_torchs(
    shape: tuple[int, ...], stride: int, padding: int, groups: int, size: tuple[int, int]
) -> None:
    weight, bias = random(*shape, seed=1), random(shape[0], seed=2)
    settings = (stride, stride), (padding, padding), (1, 1), groups
    mine = Convolution(weight, bias, *settings).laid_out()
    images = random(2, shape[1] * groups, *size).contiguous(memory_format=LAST).requires_grad_()
    work = lambda each: functional.conv2d(each, weight.double(), bias.double(), *settings)  # noqa: E731
    found = mine(images)
    assert type(found.grad_fn).__name__ != "ConvolutionBackward0" or size[0] % 2
    assert torch.allclose(found.double(), work(images.double()), atol=1e-4)
    coming = random(*found.shape, seed=3)
    (back,) = torch.autograd.grad(found, images, coming)
    assert torch.allclose(back.double(), gradient_of(work, images, coming), atol=1e-4)


@pytest.mark.usefixtures("_as_on_cuda")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_that_a_rectifier_adds_is_the_same_to_the_bit(dtype: torch.dtype) -> None:
    weight, bias = random(40, 1, 4, 4, seed=1).to(dtype), random(40, seed=2).to(dtype)
    own = Convolution(weight, bias, (2, 2), (1, 1), (1, 1), 40).laid_out()
    maps = random(2, 40, 8, 10).to(dtype).contiguous(memory_format=LAST)
    expected, found = own(maps), own.without_bias(maps)
    rectify_(found, bias, (-torch.inf, torch.inf))
    assert torch.equal(found, expected)


@pytest.mark.usefixtures("_as_on_cuda")
def test_a_picture_without_a_batch_is_convolved_as_torch_does() -> None:
    weight = random(6, 1, 4, 4, seed=1)
    own = Convolution(weight, None, (2, 2), (1, 1), (1, 1), 6)
    picture = random(6, 8, 10)
    assert torch.equal(own(picture), functional.conv2d(picture, weight, None, 2, 1, 1, 6))
