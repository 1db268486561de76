"""A second chance for pictures whose unit never stirred: a louder start.

A redirected gradient asks every position of a map to rise alike. Where a unit answers only to
contrast, that finds nothing, and the picture would stay at the silent start. Pictures whose value
did not change once in the redirected steps begin again from stronger noise of the same seed.
"""

from dataclasses import replace

import torch
from torch import Tensor

from featviz.engine.algebra import Objective, WeightedSum
from featviz.engine.recipe import Recipe
from featviz.engine.seen import IMAGE
from featviz.image.parameterizations import Fourier, Pixel
from featviz.shapes import Seeds


def network_part(objective: Objective) -> Objective:
    """The terms that the network decides: a penalty on the picture moves whatever a unit does."""
    kept = tuple((w, term) for w, term in objective.terms if term.reads != (IMAGE,))
    return WeightedSum(kept)


def wakes(recipe: Recipe, number: int) -> bool:
    """Whether pictures from noise that have not stirred are started anew before this step."""
    return number == recipe.redirected_steps > 0 and recipe.wake_sd > 0


def loud_parameters(recipe: Recipe, seeds: Seeds, *, dtype: torch.dtype) -> Tensor:
    """Parameters of noise of the recipe's `wake_sd`."""
    made = recipe.parameterization
    if isinstance(made, (Fourier, Pixel)):
        made = replace(made, sd=recipe.wake_sd)
    return made.initial(seeds, recipe.shape, dtype=dtype)
