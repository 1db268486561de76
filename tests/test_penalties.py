"""What is measured on the picture: examples by hand, gradients, and independence of its size.

That each penalty is its definition, alone and in a batch, is in test_objectives.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from reference import objectives as reference
from torch import Tensor

from featviz.engine.algebra import Objective
from featviz.engine.penalties import L1, L2, ImageDistance, Roughness, TotalVariation
from featviz.engine.recipe import Recipe
from featviz.engine.seen import Grid, Seen
from featviz.errors import DoesNotFit, OutOfRange
from featviz.image.parameterizations import Shape

EXACT = {"rtol": 0, "atol": 1e-12}  # float64 rounding


def value(objective: Objective, images: Tensor) -> Tensor:
    return objective(Seen({}, {}, images))


def stripes(rows: int, columns: int) -> Tensor:
    """Black and white by turns, from column to column."""
    image = torch.zeros(1, 3, rows, columns, dtype=torch.float64)
    image[..., 1::2] = 1
    return image


def test_examples_by_hand() -> None:
    image = torch.zeros(1, 1, 2, 3, dtype=torch.float64)
    image[0, 0, 0, 1] = 0.6
    assert value(TotalVariation(), image).item() == pytest.approx(0.6 / 3 + 1.2 / 4, abs=1e-12)
    assert value(L1(0.1), image).item() == pytest.approx((0.5 + 5 * 0.1) / 6, abs=1e-12)
    assert value(L2(0.0, epsilon=0.01), image).item() == pytest.approx(0.07**0.5, abs=1e-12)


def test_a_constant_picture_is_smooth_to_its_border() -> None:
    flat = torch.full((1, 3, 6, 7), 0.7, dtype=torch.float64)
    for penalty in (TotalVariation(), Roughness()):
        torch.testing.assert_close(value(penalty, flat), torch.zeros(1).double(), **EXACT)


@pytest.mark.parametrize("penalty", [TotalVariation(), L1(0.2), L2(0.2)])
def test_a_weight_means_the_same_at_every_size(penalty: Objective) -> None:
    """Lucid sums, so that its penalties grow with the picture."""
    small, large = value(penalty, stripes(8, 8)), value(penalty, stripes(64, 64))
    torch.testing.assert_close(small, large, **EXACT)


def test_roughness_pulls_every_pixel_to_its_blur() -> None:
    images = torch.rand(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    value(Roughness(), images).sum().backward()
    assert images.grad is not None
    expected = reference.roughness_gradient(images.detach().numpy())
    np.testing.assert_allclose(images.grad.numpy(), expected, **EXACT)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_distance_to_a_picture_is_zero_at_it(channels: int) -> None:
    image = torch.rand(channels, 5, 7).double().mul(255).round().div(255)
    distance = ImageDistance.to(image)
    assert value(distance, image[None]).item() == pytest.approx(1e-6, abs=1e-9)  # its epsilon
    shifted = (image - 0.25)[None]
    assert value(distance, shifted).item() == pytest.approx(0.25, abs=1e-9)


def test_a_distance_refuses_pictures_of_another_shape() -> None:
    distance = ImageDistance.to(torch.rand(3, 5, 7))
    with pytest.raises(DoesNotFit, match=r"\(3, 5, 7\), expected the picture's \(3, 7, 5\)"):
        distance.own({"image": Grid(3, 7, 5)})
    with pytest.raises(DoesNotFit, match=r"shape \(2, 4, 4\)"):
        ImageDistance.to(torch.rand(2, 4, 4))


def test_a_distance_survives_its_recipe() -> None:
    distance = ImageDistance.to(torch.rand(3, 4, 4))
    recipe = Recipe("0" * 32, "x", -distance, Shape(3, 4, 4))
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_the_variation_of_a_line_of_pixels_is_finite() -> None:
    line = torch.rand(1, 3, 1, 7)
    across = (line[..., 1:] - line[..., :-1]).abs().mean()
    value = TotalVariation()(Seen({}, {}, line))
    torch.testing.assert_close(value, across[None], rtol=1e-6, atol=0)  # float32 rounding


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: L1(math.nan), "constant nan .* finite numbers only"),
        (lambda: L2(math.inf), "constant inf"),
        (lambda: L2(0.0, epsilon=-1e-9), "epsilon -1e-09 .* 0 to any"),
        (lambda: L2(0.0, epsilon=math.nan), "epsilon nan"),
        (lambda: ImageDistance("", epsilon=-1.0), r"epsilon -1\.0"),
    ],
)
def test_numbers_have_ranges(build: Callable[[], object], message: str) -> None:
    with pytest.raises(OutOfRange, match=message):
        build()
