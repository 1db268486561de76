"""Where the pictures of a recipe begin: noise of their seeds, or a given image."""

import torch
from torch import Tensor

from featviz.engine.recipe import Recipe
from featviz.shapes import Seeds


def starting_parameters(recipe: Recipe, seeds: Seeds, *, dtype: torch.dtype) -> Tensor:
    """Parameters of one recipe's pictures before the first step; decoding gives the start.

    Raises DoesNotFit, Malformed where the given image does not fit the picture.
    """
    if recipe.start is None:
        return recipe.parameterization.initial(seeds, recipe.shape, dtype=dtype)
    image = recipe.start.decoded(recipe.shape).to(device=seeds.device, dtype=dtype)
    return recipe.parameterization.encode(image.expand(len(seeds), -1, -1, -1))
