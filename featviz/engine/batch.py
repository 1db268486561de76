"""What the rows of a batch share and what each brings: keys, checks, inputs, scores.

Rows share what fixes the shape of the computation (size, parameterization, transforms,
optimizer, steps); `batch_key` says so.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from featviz.engine.program import Program
from featviz.engine.recipe import Recipe
from featviz.engine.seen import Grid, grid_of, see
from featviz.errors import DoesNotFit
from featviz.image.parameterizations import Parameterization, Shape
from featviz.image.transforms import Stack
from featviz.image.warp import Colors
from featviz.network.network import Network
from featviz.network.recording import Prefix
from featviz.shapes import Images, PerImage


def batch_key(recipe: Recipe) -> Hashable:
    """Recipes with the same key may be rows of one batch."""
    return (
        recipe.network,
        recipe.shape,
        recipe.parameterization,
        recipe.transforms,
        recipe.optimizer,
        recipe.steps,
        recipe.stop,
        recipe.count,
        recipe.redirected_steps,
        recipe.wake_sd,
    )


def score_batch(network: Network, recipes: Sequence[Recipe], images: Images) -> PerImage:
    """Each row's objective for its picture as it is: no transforms, the same slots."""
    prefix = prefix_of(network, recipes, images.shape[2], images.shape[3])
    objective = program(recipes, prefix, like=images)
    with torch.no_grad():
        recorded = prefix(_laid_out(network.to_input(images)))
        return objective(see(recorded, prefix.layers, images, count=recipes[0].count))


def working_dtype(network: Network) -> torch.dtype:
    """The dtype of pictures, transforms and optimizer beside a network of its own dtype."""
    return torch.promote_types(network.dtype, torch.float32)


def check(network: Network, recipe: Recipe) -> int:
    """The depth (last operation needed) of a recipe, all of its names and sizes checked.

    Raises UnknownName, OutOfRange, DoesNotFit before anything is computed.
    """
    recipe.objective.resolve(network)
    if recipe.start is not None:
        recipe.start.decoded(recipe.shape)
    _rehearse(recipe.parameterization, recipe.transforms, recipe.shape)
    rows, columns = recipe.shape.rows, recipe.shape.columns
    _check_size(network, recipe)
    height, width = recipe.transforms.output_size(rows, columns)
    depth = -1
    for size in {(height, width), (rows, columns)}:
        prefix = prefix_of(network, [recipe], *size)
        program(
            [recipe], prefix, like=torch.empty(recipe.count, recipe.shape.channels, rows, columns)
        )
        depth = max(depth, prefix.depth)
    return depth


@lru_cache(maxsize=64)
def _rehearse(parameterization: Parameterization, transforms: Stack, shape: Shape) -> None:
    """Makes and transforms one picture, so that what does not fit is said before the first step."""
    seeds = torch.zeros(1, dtype=torch.int64)
    with torch.no_grad():
        images = parameterization.decode(
            parameterization.initial(seeds, shape, dtype=torch.float32)
        )
        transforms.apply(images, transforms.draw(seeds, seeds))


def _check_size(network: Network, recipe: Recipe) -> None:
    """Raises DoesNotFit where a picture is smaller than the step between a layer's neurons."""
    for key in recipe.objective.layers:
        sites = network.layer(key).sites
        if len(sites) != 2:
            continue
        # One site tells no stride: a globally pooled map takes pictures of any size.
        least = tuple(
            -(-side // site) if site > 1 else 1
            for side, site in zip(network.size, sites, strict=True)
        )
        if recipe.shape.rows < least[0] or recipe.shape.columns < least[1]:
            raise DoesNotFit(
                f"a picture for layer {key!r}",
                got=f"{recipe.shape.rows}x{recipe.shape.columns} px",
                expected=f"at least {least[0]}x{least[1]} px, one neuron's stride",
            )


def prefix_of(network: Network, recipes: Sequence[Recipe], rows: int, columns: int) -> Prefix:
    """The network as deep as the recipes need it, for inputs of this size."""
    layers = dict.fromkeys(layer for recipe in recipes for layer in recipe.objective.layers)
    return Prefix(network, layers, rows=rows, columns=columns)


def shown_to(
    network: Network, transforms: Stack, images: Images, moved: tuple[Tensor, ...]
) -> Tensor:
    """What the network sees of the pictures: transformed (see `Motion.at`), preprocessed, laid
    out."""
    if transforms.is_colored(images) and images.shape[1] == network.preprocessing.channels:
        colors = Colors(*network.colors(images))
        seen = transforms.run(images, moved, colors=colors).to(network.dtype)
    else:
        seen = network.to_input(transforms.run(images, moved))
    return _laid_out(seen)


def program(recipes: Sequence[Recipe], prefix: Prefix, *, like: Tensor) -> Program:
    """The objectives of the rows, made ready for one prefix and pictures shaped like `like`."""
    grids: dict[str, Grid] = {key: grid_of(layer) for key, layer in prefix.layers.items()}
    objectives = [recipe.objective for recipe in recipes for _ in range(recipe.count)]
    return Program(objectives, grids, like=like)


def _laid_out(shown: Tensor) -> Tensor:
    return shown.contiguous(memory_format=torch.channels_last)
