"""Counter-based randomness: the definition, uniformity, and independence of everything around."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from reference import image as reference
from torch import Tensor

from featviz.image.seeds import normal, streams, uniform


def numbers(seeds: list[int], steps: list[int], purpose: str = "test", count: int = 8) -> Tensor:
    return uniform(torch.tensor(seeds), torch.tensor(steps), purpose=purpose, count=count)


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (1, 0), (0, 1), (-5, 7), (2**62, 511)])
def test_uniform_is_splitmix_of_seed_step_and_purpose(seed: int, step: int) -> None:
    expected = reference.uniform(seed, step, "jitter 0", 9)
    for dtype in (torch.float32, torch.float64):  # exactly: 24 bits fit in both
        actual = uniform(
            torch.tensor([seed]), torch.tensor([step]), purpose="jitter 0", count=9, dtype=dtype
        )
        assert actual.dtype == dtype
        np.testing.assert_array_equal(actual[0].double().numpy(), expected)


@pytest.mark.parametrize("count", [1, 8, 9])
def test_normal_is_box_muller_of_the_same_words(count: int) -> None:
    expected = reference.normal(3, 4, "parameters", count)
    actual = normal(
        torch.tensor([3]),
        torch.tensor([4]),
        purpose="parameters",
        count=count,
        dtype=torch.float64,
    )
    np.testing.assert_allclose(actual[0].numpy(), expected, rtol=0, atol=1e-13)  # rounding


def test_a_golden_number() -> None:
    # The words of this stream may never change: they name the pixels of every stored picture.
    assert (
        streams(torch.tensor([1]), torch.tensor([2]), purpose="golden").item()
        == 2954546514676776472
    )


def test_uniform_fills_the_unit_interval_evenly() -> None:
    drawn = numbers(list(range(64)), [3] * 64, count=4096).flatten()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, bins=256, min=0, max=1)
    expected = len(drawn) / 256
    chi_square = ((counts - expected).square() / expected).sum()
    # 255 degrees of freedom: mean 255, sd 22.6; the bound is 5 sd away.
    assert abs(chi_square - 255) < 5 * 22.6


def test_normal_has_the_moments_of_a_normal() -> None:
    seeds = torch.arange(64)
    drawn = normal(seeds, seeds * 0, purpose="test", count=4096, dtype=torch.float64)
    # 2**18 numbers: the sd of the k-th moment's mean is sqrt(var(z**k) / 2**18); bounds are 5 sd.
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        error = abs(drawn.pow(power).mean().item() - expected)
        assert error < 5 * (variance / 2**18) ** 0.5
    halves = drawn.unflatten(1, (2, -1))  # the two members of each pair
    assert abs((halves[:, 0] * halves[:, 1]).mean()) < 5 / 2**8.5


def test_neighbouring_seeds_and_steps_have_nothing_in_common() -> None:
    grid = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    drawn = uniform(grid[:, 0], grid[:, 1], purpose="test", count=512, dtype=torch.float64)
    centered = (drawn - 0.5) * 12**0.5
    correlation = centered @ centered.T / 512
    off_diagonal = correlation - torch.diag(correlation.diagonal())
    # 2016 pairs with sd 1 / sqrt(512): 5.5 sd is passed once in 13 000 such tests.
    assert off_diagonal.abs().max() < 5.5 / 512**0.5
    assert len(drawn.flatten().unique()) > 0.99 * drawn.numel()  # no number of a stream recurs
    assert not torch.equal(numbers([4], [6]), numbers([5], [5]))
    assert not torch.equal(numbers([4], [6]), numbers([6], [4]))


def test_another_purpose_is_another_stream() -> None:
    assert not torch.equal(numbers([1], [1], "jitter 0"), numbers([1], [1], "jitter 1"))


@pytest.mark.parametrize("draw", [uniform, normal])
def test_a_row_is_the_same_to_the_bit_in_any_batch_and_slot(draw: Callable[..., Tensor]) -> None:
    for dtype in (torch.float32, torch.float64):
        for count in (1, 3, 3465):

            def drawn(seeds: Tensor, count: int = count, dtype: torch.dtype = dtype) -> Tensor:
                return draw(seeds, seeds + 10, purpose="test", count=count, dtype=dtype)

            batch = drawn(torch.arange(5))
            for slot in range(5):
                assert torch.equal(drawn(torch.tensor([slot]))[0], batch[slot])
            order = torch.tensor([3, 0, 4, 1, 2])
            assert torch.equal(drawn(order), batch[order])


def test_arguments_are_left_alone() -> None:
    seeds, steps = torch.arange(3), torch.arange(3)
    normal(seeds, steps, purpose="test", count=4)
    assert torch.equal(seeds, torch.arange(3))
    assert torch.equal(steps, torch.arange(3))
