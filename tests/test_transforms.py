"""The robustness stack: what each member does, what each picture draws, and who is a stranger."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kornia.filters import gaussian_blur2d
from torch import Tensor

from featviz.errors import DoesNotFit, OutOfRange, UnknownName
from featviz.image.transforms import (
    Blur,
    Crop,
    Flip,
    Geometric,
    Jitter,
    Noise,
    Pad,
    Rotate,
    Scale,
    Stack,
    lucid,
    standard,
    strong,
)
from featviz.image.transforms.geometric import border_of
from featviz.image.warp import Fill, Reflect

EVERYTHING = Stack(
    (
        *(Pad(3), Jitter(2), Jitter(2, subpixel=True), Scale(0.8, 1.3), Noise(0.1)),
        *(Rotate(25.0), Crop(2), Flip(), Blur(0.3, 0.9)),
    )
)
GREYED = Stack((Pad(3, Fill(0.5)), Jitter(3), Rotate(10.0)))
STACKS = [Stack(), lucid(), standard(), strong(), EVERYTHING, GREYED]


def pictures(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def drawn(stack: Stack, seeds: list[int], step: int = 3) -> tuple[Tensor, ...]:
    return stack.draw(torch.tensor(seeds), torch.full((len(seeds),), step))


def transformed(stack: Stack, images: Tensor, step: int = 3) -> Tensor:
    return stack.apply(images, drawn(stack, list(range(len(images))), step))


def moved_by(member: Geometric, draw: list[float], image: Tensor) -> Tensor:
    """The image after one member whose draw is given, on black."""
    stack = Stack((Pad(0, Fill(0.0)), member))
    draws = (torch.zeros(1, 0), torch.tensor([draw], dtype=torch.float32))
    return stack.apply(image[None, None].double(), draws)[0, 0]


def dot(row: int, column: int, rows: int = 5, columns: int = 7) -> Tensor:
    image = torch.zeros(rows, columns, dtype=torch.float64)
    image[row, column] = 1
    return image


def assert_close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)  # float64 rounding


def test_what_each_member_does_to_one_pixel() -> None:
    assert_close(moved_by(Jitter(4), [1, 2], dot(0, 0)), dot(1, 2))
    assert_close(moved_by(Rotate(90.0), [90], dot(2, 5)), dot(0, 3))  # right of center: goes up
    assert_close(moved_by(Flip(), [1], dot(1, 0)), dot(1, 6))
    assert_close(moved_by(Flip(), [0], dot(1, 0)), dot(1, 0))
    assert_close(moved_by(Pad(2, Fill(0.0)), [], dot(1, 0)), dot(3, 2, 9, 11))
    assert_close(moved_by(Crop(1), [], dot(1, 2)), dot(0, 1, 3, 5))
    larger = moved_by(Scale(0.5, 2.0), [2.0], dot(2, 4))
    assert larger[2, 5] == larger.max()  # one pixel right of the center goes to two
    assert larger.sum().item() == pytest.approx(4, abs=1e-12)  # four times the area


@pytest.mark.parametrize("stack", STACKS, ids=str)
def test_output_size_is_the_size_of_the_output(stack: Stack) -> None:
    images = pictures(2, 3, 33, 40)
    assert tuple(transformed(stack, images).shape) == (2, 3, *stack.output_size(33, 40))


def test_sizes_of_the_presets() -> None:
    assert lucid().output_size(128, 96) == (140, 108)
    assert standard().output_size(128, 96) == (128, 96)
    assert strong().output_size(128, 96) == (128, 96)


@pytest.mark.parametrize("border", [Reflect(), Fill(0.5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_zero_strength_is_identity(
    border: Reflect | Fill, dtype: torch.dtype, tolerance: float
) -> None:
    stack = Stack(
        (
            *(Pad(4, border), Jitter(0), Jitter(0, subpixel=True), Scale(1.0, 1.0)),
            *(Rotate(0.0), Flip(0.0), Crop(4), Noise(0.0), Blur(0.0, 0.0)),
        )
    )
    images = pictures(3, 3, 33, 47, dtype=dtype)
    torch.testing.assert_close(transformed(stack, images), images, rtol=0, atol=tolerance)
    assert Stack().apply(images, ()) is images


@pytest.mark.parametrize("stack", [standard(), strong(), Stack(EVERYTHING.members[:4])], ids=str)
def test_a_constant_picture_stays_constant_under_mirrors(stack: Stack) -> None:
    images = torch.full((4, 3, 33, 35), 0.7, dtype=torch.float64)
    result = transformed(stack, images)
    assert_close(result, torch.full_like(result, 0.7))


def test_a_grey_pad_is_grey_wherever_the_picture_is_not() -> None:
    result = transformed(lucid(), torch.full((4, 3, 33, 35), 0.7, dtype=torch.float64))
    assert result.min() == 0.5
    assert result.max().item() == pytest.approx(0.7, abs=1e-12)  # float64 rounding
    assert (result[:, :, 0, 0] == 0.5).all()
    colored = Stack((Pad(2, Fill((0.1, 0.2, 0.3))),))
    corner = transformed(colored, pictures(2, 3, 5, 6))[:, :, 0, 0]
    assert_close(corner, torch.tensor([[0.1, 0.2, 0.3]] * 2, dtype=torch.float64))


def test_a_run_is_resampled_once() -> None:
    # Half a pixel there and half back: composed exactly nothing; in two resamplings, a blur.
    there, back = torch.tensor([[0.5, 0.5]]), torch.tensor([[-0.5, -0.5]])
    images = pictures(1, 3, 8, 9)
    once = Stack((Jitter(1, subpixel=True), Jitter(1, subpixel=True)))
    assert_close(once.apply(images, (there, back)), images)
    twice = Stack((Jitter(1, subpixel=True), Noise(0.0), Jitter(1, subpixel=True)))
    key = torch.zeros((1, 1), dtype=torch.int64)
    assert (twice.apply(images, (there, key, back)) - images).abs().max() > 0.05


def test_members_happen_in_their_order() -> None:
    # Right of center, turned up, then moved right; or moved right, then turned up.
    black = Pad(0, Fill(0.0))
    nothing, quarter, right = torch.zeros(1, 0), torch.tensor([[90.0]]), torch.tensor([[0.0, 1.0]])
    image = dot(3, 4, 7, 7)[None, None]
    turned_first = Stack((black, Rotate(90.0), Jitter(1)))
    assert_close(turned_first.apply(image, (nothing, quarter, right)), dot(2, 4, 7, 7)[None, None])
    moved_first = Stack((black, Jitter(1), Rotate(90.0)))
    assert_close(moved_first.apply(image, (nothing, right, quarter)), dot(1, 3, 7, 7)[None, None])


def test_blur_is_kornias_with_each_pictures_own_sd() -> None:
    images, sds = pictures(2, 3, 12, 13), torch.tensor([[0.4], [0.9]])
    result = Blur(0.2, 1.0).apply(images, sds)
    for row in range(2):
        sd = sds[row].item()
        expected = gaussian_blur2d(images[row : row + 1], 7, (sd, sd))
        torch.testing.assert_close(result[row : row + 1], expected, rtol=0, atol=1e-6)  # sd's dtype


def test_noise_has_its_sd_and_no_pattern() -> None:
    grey = torch.full((8, 3, 64, 64), 0.5, dtype=torch.float64)
    noise = transformed(Stack((Noise(0.2),)), grey) - 0.5
    assert noise.std().item() == pytest.approx(0.2, rel=5 / (2 * noise.numel()) ** 0.5)  # 5 sd
    assert abs(noise.mean().item()) < 5 * 0.2 / noise.numel() ** 0.5  # 5 sd
    assert not torch.equal(noise[0, 0], noise[0, 1])


def test_draws_lie_in_their_range_and_fill_it() -> None:
    stack = Stack(
        (
            Jitter(2),
            Jitter(3, subpixel=True),
            Scale(0.8, 1.3),
            Rotate(20.0),
            Flip(0.3),
            Blur(1.0, 2.0),
        )
    )
    whole, part, factors, angles, flips, sds = drawn(stack, list(range(4000)))
    assert whole.unique().tolist() == [-2, -1, 0, 1, 2]
    assert abs((whole == -2).float().mean() - 0.2) < 5 * (0.16 / 8000) ** 0.5  # 5 sd
    assert abs(flips.mean() - 0.3) < 5 * (0.21 / 4000) ** 0.5  # 5 sd
    for draws, low, high in ((part, -3, 3), (factors, 0.8, 1.3), (angles, -20, 20), (sds, 1, 2)):
        assert low <= draws.min() < low + 0.005 * (high - low)  # 4000 draws: missed once in 5e8
        assert high - 0.005 * (high - low) < draws.max() <= high


def test_every_row_step_and_place_draws_for_itself() -> None:
    stack = Stack((Rotate(10.0), Rotate(10.0), Scale(0.9, 1.1)))
    first, second, factors = drawn(stack, [1, 2])
    later = drawn(stack, [1, 2], step=4)[0]
    everything = torch.cat([first, second, later, (factors - 1) * 100])
    assert len(everything.unique()) == len(everything)
    steps = torch.tensor([3, 4])
    own_steps = stack.draw(torch.tensor([1, 1]), steps)[0]
    assert torch.equal(own_steps, torch.stack([first[0], later[0]]))


@pytest.mark.parametrize("stack", [*STACKS, Stack((Noise(0.1),))], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(33, 35), (40, 24)])
def test_rows_are_strangers_to_the_bit(
    stack: Stack, dtype: torch.dtype, size: tuple[int, int]
) -> None:
    picture = pictures(1, 3, *size, dtype=dtype)
    weights = pictures(1, 3, *stack.output_size(*size), dtype=dtype).flip(3) - 0.5

    def outcome(images: Tensor, seeds: list[int]) -> tuple[Tensor, Tensor]:
        images = images.clone().requires_grad_()
        result = stack.apply(images, drawn(stack, seeds))
        (gradients,) = torch.autograd.grad((result * weights).sum(), images)
        return result.detach(), gradients

    everywhere = outcome(picture.expand(5, -1, -1, -1), [7] * 5)
    for slot in range(5):
        seeds = [20, 21, 22, 23, 24]
        seeds[slot] = 7
        images = pictures(5, 3, *size, dtype=dtype).flip(0)
        images[slot] = picture[0]
        for among_strangers, among_equals in zip(outcome(images, seeds), everywhere, strict=True):
            assert torch.equal(among_strangers[slot], among_equals[0])
            assert torch.equal(among_equals[slot], among_equals[0])


@pytest.mark.parametrize("stack", [standard(), lucid(), EVERYTHING], ids=str)
def test_permuting_pictures_permutes_results(stack: Stack) -> None:
    images, order = pictures(5, 3, 33, 35), torch.tensor([3, 0, 4, 1, 2])
    result = transformed(stack, images)
    permuted = stack.apply(images[order], drawn(stack, order.tolist()))
    assert torch.equal(permuted, result[order])
    assert torch.equal(result, transformed(stack, images))  # a pure function
    assert not torch.equal(result, transformed(stack, images, step=4))


def test_apply_has_its_gradient() -> None:
    images = pictures(2, 1, 8, 9).requires_grad_()
    for stack in (standard(), GREYED, Stack(EVERYTHING.members[3:])):
        draws = drawn(stack, [1, 2])
        assert torch.autograd.gradcheck(
            lambda images, stack=stack, draws=draws: stack.apply(images, draws), images
        )


@given(
    width=st.integers(0, 9),
    radius=st.integers(0, 9),
    margin=st.integers(0, 5),
    rows=st.integers(11, 20),
    columns=st.integers(11, 20),
)
def test_any_canvas_fits(width: int, radius: int, margin: int, rows: int, columns: int) -> None:
    stack = Stack((Crop(margin), Jitter(radius), Rotate(180.0), Pad(width)))
    result = transformed(stack, pictures(2, 1, rows, columns))
    change = 2 * (width - margin)
    assert tuple(result.shape) == (2, 1, rows + change, columns + change)
    assert torch.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Pad(-1), "width_px -1"),
        (lambda: Jitter(-1), "radius_px -1"),
        (lambda: Crop(-1), "margin_px -1"),
        (lambda: Scale(0.0, 1.0), "low 0.0"),
        (lambda: Scale(1.1, 0.9), "high 0.9"),
        (lambda: Scale(1.0, float("inf")), "high inf"),
        (lambda: Rotate(181.0), "degrees 181.0"),
        (lambda: Rotate(float("nan")), "degrees nan"),
        (lambda: Noise(-0.1), "sd -0.1"),
        (lambda: Blur(1.0, 0.5), "sd_px_high 0.5"),
        (lambda: Flip(1.5), "probability 1.5"),
        (lambda: Stack((Crop(3),)).output_size(6, 9), "margin_px 3 .* 0 to 2"),
    ],
)
def test_values_out_of_range_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(OutOfRange, match=message):
        build()


def test_two_borders_in_one_run_are_refused() -> None:
    with pytest.raises(DoesNotFit, match=r"borders.*Fill\(color=0.5\).*, Reflect\(\)"):
        Stack((Pad(2), Jitter(2), Pad(2, Fill(0.5))))
    Stack((Pad(2), Noise(0.1), Pad(2, Fill(0.5))))
    with pytest.raises(DoesNotFit, match="got 3, expected more than 3"):
        transformed(Stack((Blur(0.0, 1.0),)), pictures(1, 3, 3, 9))


def test_borders_may_be_words_and_colors() -> None:
    assert Pad(12, border="reflect") == Pad(12, border=Reflect())
    assert Pad(12, border=0.5) == Pad(12, border=Fill(0.5))
    assert Pad(12, border=(0.0, 0.5, 1.0)) == Pad(12, border=Fill((0.0, 0.5, 1.0)))
    with pytest.raises(UnknownName, match="no border 'mirror'"):
        border_of("mirror")
    with pytest.raises(OutOfRange, match="color nan"):
        Pad(12, border=float("nan"))
    with pytest.raises(DoesNotFit, match="a border: got None"):
        border_of(None)
