"""Triton's kernels that C has no counterpart of, and what is chosen for CUDA, against torch's own
operations; on CUDA or in Triton's interpreter."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

pytest.importorskip("triton")

from kerneling import DEVICE, LAST, gradient_of, random

from featviz.engine import convolution, stem
from featviz.engine.convolution import Convolution
from featviz.engine.redirect import redirected
from featviz.kernels.cuda.pairs import paired, unpaired
from featviz.kernels.cuda.rectifier import rectified_gradient, rectify_

pytestmark = pytest.mark.gpu


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


def test_pairs_of_pixels_are_pixel_shuffles() -> None:
    values = random(2, 3, 6, 10)
    result = paired(values, 16, (1, 2), (0, 3))
    expected = functional.pad(functional.pixel_unshuffle(values, 2), (2, 3, 1, 0, 0, 4))
    assert torch.equal(result, expected)
    assert result.is_contiguous(memory_format=LAST)


def test_blocks_are_pixel_shuffles() -> None:
    values = random(2, 3, 6, 10)
    whole = functional.pad(functional.pixel_unshuffle(values, 2), (2, 3, 1, 0, 0, 4))
    back = unpaired(whole, 3, 2, (1, 2), (6, 10))
    assert torch.equal(back, values)
    assert back.is_contiguous(memory_format=LAST)
    blocks = functional.pad(functional.pixel_unshuffle(values[:, :, :4, :8], 4), (1, 1, 1, 0))
    assert torch.equal(unpaired(blocks, 3, 4, (1, 1), (4, 8)), values[:, :, :4, :8])


@pytest.fixture
def _as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen on CUDA in half precision, on any device, for float32 as well."""
    for module in (convolution, stem):
        monkeypatch.setattr(module, "usable", lambda values: values.dtype != torch.float64)
    monkeypatch.setattr(convolution, "runs_on", lambda _: False)
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
    assert own.can_hold(maps)
    expected, found = own(maps), own(maps, holds=True)
    rectify_(found, bias, (-torch.inf, torch.inf))
    assert torch.equal(found, expected)


@pytest.mark.usefixtures("_as_on_cuda")
def test_a_picture_without_a_batch_is_convolved_as_torch_does() -> None:
    weight = random(6, 1, 4, 4, seed=1)
    own = Convolution(weight, None, (2, 2), (1, 1), (1, 1), 6)
    picture = random(6, 8, 10)
    assert torch.equal(own(picture), functional.conv2d(picture, weight, None, 2, 1, 1, 6))
