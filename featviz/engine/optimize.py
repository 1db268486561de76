"""The reference loop: what featviz does to make one recipe's pictures, readable in one sitting.

This is the definition. The batched loop in `slots` is tested equal to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from featviz.engine.optimizers import optimizer_of
from featviz.engine.recipe import Recipe
from featviz.engine.redirect import redirecting
from featviz.engine.seen import see
from featviz.engine.start import starting_parameters
from featviz.engine.waking import loud_parameters, network_part, wakes
from featviz.network.network import Network
from featviz.network.recording import Prefix
from featviz.shapes import Images, PerImage


@dataclass(frozen=True)
class Step:
    """The pictures that a step saw, before it changed them, and their values."""

    number: int
    images: Images
    values: PerImage


def optimize(
    network: Network, recipe: Recipe, *, dtype: torch.dtype = torch.float32
) -> Iterator[Step]:
    """The steps of one recipe; after the last, one more Step with the finished pictures.

    The last step's values are those of the clean pictures: no transforms. The recipe's `stop`
    is the batched loop's to apply.
    """
    device = network.device
    seeds = torch.arange(recipe.seed, recipe.seed + recipe.count, device=device)
    parameters = starting_parameters(recipe, seeds, dtype=dtype)
    optimizer = optimizer_of(recipe.optimizer, parameters.requires_grad_())
    rows, columns = recipe.transforms.output_size(recipe.shape.rows, recipe.shape.columns)
    prefix = Prefix(network, recipe.objective.layers, rows=rows, columns=columns)

    redirects = redirecting(network.trace(rows, columns).operations)
    heard: list[PerImage] = []

    for number in range(recipe.steps):
        if recipe.start is None and wakes(recipe, number):
            asleep = (torch.stack(heard) == heard[0]).all(dim=0)
            loud = loud_parameters(recipe, seeds, dtype=dtype)
            with torch.no_grad():
                parameters[asleep] = loud[asleep]
            for memory in optimizer.state[parameters].values():
                if memory.ndim > 0:  # all but the number of the step
                    memory[asleep] = 0
        steps = torch.full_like(seeds, number)
        images = recipe.parameterization.decode(parameters)
        shown = recipe.transforms.apply(images, recipe.transforms.draw(seeds, steps))
        substitute = redirects if number < recipe.redirected_steps else None
        recorded = prefix(network.to_input(shown), substitute=substitute)
        seen = see(recorded, prefix.layers, images, count=recipe.count)
        values = recipe.objective(seen)
        heard.append(network_part(recipe.objective)(seen).detach())
        yield Step(number, images.detach(), values.detach())
        for group in optimizer.param_groups:
            group["lr"] = recipe.optimizer.rate(number, recipe.steps)
        optimizer.zero_grad()
        values.sum().backward()  # a sum: each image keeps its own gradient
        optimizer.step()

    with torch.no_grad():
        images = recipe.parameterization.decode(parameters)
        yield Step(recipe.steps, images, clean_values(network, recipe, images))


def clean_values(network: Network, recipe: Recipe, images: Tensor) -> PerImage:
    """The objective's values for pictures in [0, 1] as they are, without transforms."""
    prefix = Prefix(network, recipe.objective.layers, rows=images.shape[2], columns=images.shape[3])
    recorded = prefix(network.to_input(images))
    return recipe.objective(see(recorded, prefix.layers, images, count=recipe.count))
