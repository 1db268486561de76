"""Kernels of both rooms against torch's own operations; Triton's on CUDA or in its interpreter."""

import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from kerneling import DEVICE, LAST, gradient_of, random
from torch import Tensor, nn
from torch.nn import functional

from featviz.engine.ascent import FactoredAscent
from featviz.engine.operations import MaxPool, _pooled_size
from featviz.engine.recipe import Adam, FactoredAdam
from featviz.image import fourier
from featviz.image.color import RGB_FROM_DECORRELATED, rgb_from_decorrelated
from featviz.image.fourier import images_from_coefficients
from featviz.image.warp import Fill, Reflect, compose, resample, rotation, scaling, translation
from featviz.kernels import host
from featviz.kernels.factored import LIMIT
from featviz.kernels.layout import Window, by_pixel
from featviz.network.preprocessing import Preprocessing

Room = Callable[[str], Any]
pytestmark = pytest.mark.gpu


@pytest.fixture(params=["cuda", "host"])
def room(request: pytest.FixtureRequest) -> Room:
    """The modules of kernels of one kind, by name."""
    if request.param == "host" and (DEVICE == "cuda" or host.loaded() is None):
        pytest.skip("C kernels are for a CPU with a C compiler")
    if request.param == "cuda":
        pytest.importorskip("triton")
    return partial(_module, request.param)


def _module(kind: str, name: str) -> Any:
    return import_module(f"featviz.kernels.{kind}.{name}")


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
    window, shape = Window(size, stride, padding), _pooled_size(pool, 11, 8)
    result, places = room("pooling").pooled(maps, window, shape)
    assert torch.equal(result, expected)
    coming = random(*expected.shape, seed=1)
    found = room("pooling").unpooled(coming.contiguous(memory_format=LAST), places, window, (11, 8))
    assert torch.allclose(found.double(), gradient_of(work, maps, coming), atol=1e-5)


def test_nothing_but_minus_infinity_has_its_gradient_inside(room: Room) -> None:
    maps = torch.full((1, 2, 3, 3), -torch.inf, device=DEVICE).contiguous(memory_format=LAST)
    window = Window((2, 2), (2, 2), (1, 1))
    result, places = room("pooling").pooled(maps, window, (2, 2))
    found = room("pooling").unpooled(torch.ones_like(result), places, window, (3, 3))
    work = lambda each: functional.max_pool2d(each, 2, 2, 1)  # noqa: E731
    assert torch.equal(found.double(), gradient_of(work, maps, torch.ones_like(result)))


def test_a_pooled_nan_stays_and_the_gradient_goes_to_it(room: Room) -> None:
    maps = random(1, 1, 4, 4)
    maps[0, 0, 1, 2] = torch.nan
    window = Window((2, 2), (2, 2), (0, 0))
    result, places = room("pooling").pooled(maps, window, (2, 2))
    assert result.isnan().flatten().tolist() == [False, True, False, False]
    found = room("pooling").unpooled(torch.ones_like(result), places, window, (4, 4))
    assert found[0, 0, 1, 2] == 1


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
    settings, count = Adam(), 5
    parameters = nn.Parameter(random(6, 2, 5, 300))
    start = parameters.detach().clone()
    start[4:] = start[4]
    mine = start.clone()
    memory = torch.zeros_like(mine), torch.zeros_like(mine)
    adam = torch.optim.Adam(
        [parameters],
        lr=0.3,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        maximize=True,
    )
    sizes = [0.3 / (1 - settings.beta1 ** (number + 1)) for number in range(count)]
    roots = [(1 - settings.beta2 ** (number + 1)) ** 0.5 for number in range(count)]
    rates = torch.tensor(sizes, device=DEVICE), torch.tensor(roots, device=DEVICE)
    betas = (settings.beta1, settings.beta2, settings.epsilon)
    expected = list[Tensor]()
    for number in range(count):
        gradient, late = (random(6, 2, 5, 300, seed=seed) for seed in (number, number - 1))
        parameters.grad = gradient.clone()
        adam.step()
        expected.append(parameters.detach().clone())
        gradient[1], gradient[5] = late[1], gradient[4]
        gradient[2, 1, 4, 299], gradient[3, 0, 2, 7] = torch.nan, -torch.inf
        places = [number, number - 1, count, count + 7, count - 1, count + 7]
        moves = torch.tensor([True, number > 0, False, True, True, True], device=DEVICE)
        numbers = torch.tensor(places, device=DEVICE).clamp(min=0)
        told = room("ascent").ascend(mine, gradient, memory, rates, numbers, moves, betas)
        assert told.tolist() == [True, True, False, False, True, True]
    assert torch.allclose(mine[0], expected[-1][0], rtol=1e-5, atol=1e-5)
    assert torch.allclose(mine[1], expected[-2][1], rtol=1e-5, atol=1e-5)
    assert torch.equal(mine[2:4], start[2:4])
    assert torch.equal(mine[4], mine[5])
    assert not torch.equal(mine[4], start[4])
    assert all(bool(torch.isfinite(each).all()) for each in memory)


@pytest.mark.parametrize("size", [(5, 300), (40, 7), (1, 1), (33, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_factored_ascent_is_torchs(room: Room, size: tuple[int, int], channels: int) -> None:
    """Beside float64; rows are late, blocked, over or stay, or their gradient is no numbers."""
    settings, count = FactoredAdam(0.3), 4
    mine = random(6, channels, *size)
    mine[4:] = mine[4]
    start, exact = mine.clone(), mine.double().cpu()
    kernels, reference = (FactoredAscent(settings, each, steps=count) for each in (mine, exact))
    rates, memory = (kernels._sizes, kernels._roots), kernels.memory
    told = settings.beta1, settings.beta2, settings.epsilon
    for number in range(count):
        gradient, late = (random(6, channels, *size, seed=seed) for seed in (number, number - 1))
        gradient[1], gradient[5] = late[1], gradient[4]
        gradient[2, 0, -1, -1] = torch.nan
        gradient[3, -1, 0, 0] = -torch.inf if number == 0 else LIMIT
        places = [number, number - 1, count, count + 7, count - 1, count + 7]
        moves = torch.tensor([True, number > 0, False, True, True, True], device=DEVICE)
        numbers = torch.tensor(places, device=DEVICE).clamp(min=0)
        found = room("ascent").ascend_factored(mine, gradient, memory, rates, numbers, moves, told)
        reference.step(
            exact, gradient.double().cpu(), numbers=numbers.cpu(), moves=moves.cpu() & found.cpu()
        )
        assert found.tolist() == [True, True, False, False, True, True]
    near = partial(torch.allclose, rtol=1e-5, atol=1e-5)  # a hundred roundings of float32
    assert near(mine.cpu().double(), exact)
    assert torch.equal(mine[2:4], start[2:4])
    assert torch.equal(mine[4], mine[5])
    assert not torch.equal(mine[4], start[4])
    for mean, other in zip(memory, reference.memory, strict=True):
        assert near(mean.cpu().double(), other)


@pytest.mark.parametrize(
    "size",
    [(6, 8), (5, 7), (1, 4), (4, 1), (24, 50), (2, 2), (33, 26), (21, 130), (16, 64), (128, 3)],
)
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
    far = room("decoding").squashed(20 * planes, matrix)  # close to black, too, the ratio is right
    assert torch.allclose(far.double(), work(20 * planes.double()), rtol=1e-4, atol=0)
    found = room("decoding").unsquashed(coming, images, matrix)
    assert torch.allclose(found.double(), gradient_of(work, planes, coming), atol=1e-6)


def test_the_color_of_nothing_is_nothing(room: Room) -> None:
    planes = torch.tensor([[0.0, torch.nan, torch.inf, -torch.inf, 1.0]], device=DEVICE)
    images = room("decoding").squashed(planes.expand(2, -1), None)[0].tolist()
    assert math.isnan(images[1])
    assert [images[0], images[2], images[4]] == pytest.approx([0.5, 1, 1 / (1 + math.exp(-1))])
    assert images[3] == pytest.approx(0, abs=1e-37)


@pytest.mark.parametrize("channels", [3, 5])
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
    channels: int,
    border: Reflect | Fill,
    factors: tuple[float, float],
    angle: float,
    offset: tuple[float, float],
    output: tuple[int, int],
) -> None:
    images = random(2, channels, 17, 33)  # more than a program of each kernel handles
    center = (8.0, 16.0)
    turned = rotation(torch.tensor([angle, -angle / 2], device=DEVICE), center=center)
    scaled = scaling(torch.tensor([factors, factors[::-1]], device=DEVICE), center=center)
    moved = translation(torch.tensor([offset, (0.0, 0.0)], device=DEVICE))
    affine = compose(moved, compose(turned, scaled))
    coming = random(2, channels, *output, seed=1)
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
    by_pixel_too = images.contiguous(memory_format=LAST)
    same = room("input").given(by_pixel_too, *constants, dtype, is_reversed=is_reversed)
    assert torch.equal(same, result)
    wide = torch.cat([coming, coming, coming], dim=1).contiguous(memory_format=LAST)[:, 3:6]
    found = room("input").taken(wide, constants[0], torch.float32, is_reversed=is_reversed)
    assert torch.allclose(found.double(), expected, rtol=1e-5)


def test_maps_of_another_order_are_copied_and_slices_are_not() -> None:
    maps = random(2, 6, 3, 4).contiguous(memory_format=LAST)
    assert by_pixel(maps[:, 1:4]).data_ptr() == maps[:, 1:4].data_ptr()
    assert by_pixel(maps.contiguous()).is_contiguous(memory_format=LAST)
    assert by_pixel(maps[..., 1:]).is_contiguous(memory_format=LAST)


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        ((3, 3), (1, 1), (1, 1)),
        ((5, 5), (2, 2), (2, 2)),
        ((4, 3), (2, 2), (1, 2)),
        ((2, 3), (1, 2), (0, 1)),
        ((1, 2), (3, 3), (0, 0)),
        ((4, 7), (1, 1), (1, 3)),
        ((6, 6), (2, 2), (2, 2)),
    ],
)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("is_slice", [False, True])
def test_channels_are_convolved_with_their_own_kernels_as_torch_does(
    room: Room,
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    has_bias: bool,  # noqa: FBT001
    is_slice: bool,  # noqa: FBT001
) -> None:
    whole = random(2, 78, 9, 12).contiguous(memory_format=LAST)
    maps = whole[:, 5:75] if is_slice else whole[:, :70].contiguous(memory_format=LAST)
    weight, bias = random(70, 1, *size, seed=1), random(70, seed=2) if has_bias else None
    own, window = weight.flatten(1).T.contiguous(), Window(size, stride, padding)

    def work(each: Tensor) -> Tensor:
        shift = None if bias is None else bias.double()
        return functional.conv2d(each, weight.double(), shift, stride, padding, groups=70)

    expected = work(maps.double())
    shape = window.output_size(9, 12)
    assert shape == tuple(expected.shape[2:])
    result = room("depthwise").convolved(maps, own, bias, window, shape)
    assert torch.allclose(result.double(), expected, atol=1e-5)
    coming = random(*expected.shape, seed=3)
    found = room("depthwise").convolved_gradient(coming, own, window, (9, 12))
    assert torch.allclose(found.double(), gradient_of(work, maps, coming), atol=1e-5)
