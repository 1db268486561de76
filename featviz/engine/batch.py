"""The batched loop: many recipes at once, each row its own objective, seed, draws and state.

Rows share what fixes the shape of the computation (size, parameterization, transforms,
optimizer, steps); `batch_key` says so. Nothing leaves the device inside a step.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from featviz.engine.program import Program
from featviz.engine.recipe import Adam, Plateau, Recipe
from featviz.engine.redirect import redirected
from featviz.engine.seen import Grid, grid_of, see
from featviz.engine.start import starting_parameters
from featviz.engine.waking import loud_parameters, wakes
from featviz.errors import DoesNotFit
from featviz.image.parameterizations import Parameterization, Shape
from featviz.image.transforms import Stack
from featviz.network.network import Network
from featviz.network.recording import Prefix
from featviz.shapes import Images, PerImage, Seeds

CHECK_EVERY = 16
"""Steps between looks at whether every row has stopped: the only synchronisation of the loop."""


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


@dataclass(frozen=True)
class Finished:
    """What became of each row of a batch.

    `course` is (step, row), NaN after a row stopped; `is_finite` is False for a row that was
    given up because its value or gradient was not a number; `moved` says whether what the network
    says of it ever changed.
    """

    images: Images
    course: Tensor
    steps: Tensor
    is_finite: Tensor
    moved: Tensor


class Ascent:
    """Adam's state for a batch of rows; every row could be alone.

    Source: Kingma and Ba 2015, algorithm 1, as in torch.optim.Adam.
    """

    def __init__(self, settings: Adam, like: Tensor) -> None:
        self.settings = settings
        self.mean = torch.zeros_like(like)
        self.square = torch.zeros_like(like)

    def step(self, parameters: Tensor, gradient: Tensor, *, number: int, rates: Tensor) -> None:
        """Moves `parameters`, in place, up along `gradient`; `rates` holds each row's own rate."""
        settings = self.settings
        self.mean.lerp_(gradient, 1 - settings.beta1)
        self.square.mul_(settings.beta2).addcmul_(gradient, gradient, value=1 - settings.beta2)
        correction = 1 - settings.beta1 ** (number + 1)
        root = (1 - settings.beta2 ** (number + 1)) ** 0.5
        scale = (self.square.sqrt() / root).add_(settings.epsilon)
        shape = (-1, *[1] * (parameters.ndim - 1))
        parameters.addcdiv_(self.mean * (rates / correction).view(shape), scale)

    def restart(self, parameters: Tensor, start: Tensor, rows: Tensor) -> None:
        """Puts some rows at another start, in place, with nothing remembered."""
        chosen = rows.view(-1, *[1] * (parameters.ndim - 1))
        parameters.copy_(torch.where(chosen, start, parameters))
        self.mean.masked_fill_(chosen, 0)
        self.square.masked_fill_(chosen, 0)


class Stopping:
    """Which rows still run and which ever stirred, from each row's own course, on the device."""

    def __init__(self, stop: Plateau | None, count: int, device: torch.device) -> None:
        self.stop = stop
        self.runs = torch.ones(count, dtype=torch.bool, device=device)
        self.is_finite = self.runs.clone()
        self.steps = torch.zeros(count, dtype=torch.int64, device=device)
        self.moved = ~self.runs
        self._first = torch.zeros(count, device=device)
        self._window = torch.zeros(count, device=device)
        self._before = torch.full_like(self._window, -torch.inf)

    def hear(self, number: int, values: PerImage) -> None:
        """Takes in what the network says at a step."""
        if number == 0:
            self._first = values
        self.moved |= values != self._first

    def see(self, number: int, values: PerImage, gradient: Tensor) -> None:
        """Takes in a step's values and gradients."""
        finite = torch.isfinite(values) & torch.isfinite(gradient).flatten(1).all(dim=1)
        self.is_finite &= finite | ~self.runs
        self.runs &= finite
        self.steps += self.runs
        if self.stop is None:
            return
        self._window += values.float().nan_to_num()
        if (number + 1) % self.stop.window == 0:
            mean = self._window / self.stop.window
            rise = (mean - self._before) / mean.abs().clamp(min=1e-12)
            if number + 1 >= self.stop.minimum:
                self.runs &= rise >= self.stop.tolerance
            self._before = mean
            self._window = torch.zeros_like(mean)


def optimize_batch(
    network: Network, recipes: Sequence[Recipe], *, on_step: Callable[[], None] | None = None
) -> Finished:
    """Runs the recipes, all of one `batch_key`, to their end. Raises what Prefix raises.

    Pictures, transforms and optimizer are float64 where the network is, float32 elsewhere.
    """
    first = recipes[0]
    dtype = working_dtype(network)
    assert all(batch_key(recipe) == batch_key(first) for recipe in recipes)
    seeds = _seeds(recipes, network.device)
    starts = list(zip(recipes, seeds.split(first.count), strict=True))
    parameters = torch.cat([starting_parameters(*start, dtype=dtype) for start in starts])
    from_noise = _from_noise(recipes, seeds.device)
    ascent = Ascent(first.optimizer, parameters)
    stopping = Stopping(first.stop, len(seeds), seeds.device)
    height, width = first.transforms.output_size(first.shape.rows, first.shape.columns)
    prefix = _prefix(network, recipes, height, width)
    objective = program(recipes, prefix, like=_canvas(first, len(seeds), parameters))
    course = torch.full((first.steps, len(seeds)), torch.nan, dtype=dtype, device=seeds.device)

    for number in range(first.steps):
        if wakes(first, number):
            loud = torch.cat([loud_parameters(*start, dtype=dtype) for start in starts])
            ascent.restart(parameters, loud, from_noise & ~stopping.moved)
        parameters.requires_grad_()
        images = first.parameterization.decode(parameters)
        shown = shown_to(network, first, images, seeds, number=number)
        substitute = redirected if number < first.redirected_steps else None
        recorded = prefix(shown, substitute=substitute)
        heard, looked = objective.parts(see(recorded, prefix.layers, images, count=first.count))
        values = heard + looked
        stopping.hear(number, heard.detach())
        (gradient,) = torch.autograd.grad(values.sum(), parameters)
        parameters = parameters.detach()
        ran = stopping.runs.clone()
        stopping.see(number, values.detach(), gradient)
        course[number] = torch.where(ran, values.detach(), torch.nan)
        moves = ran & stopping.is_finite
        ascent.step(
            parameters,
            _of_running(gradient, moves),
            number=number,
            rates=moves.to(dtype) * first.optimizer.rate(number, first.steps),
        )
        if on_step is not None:
            on_step()
        if first.stop and (number + 1) % CHECK_EVERY == 0 and not bool(stopping.runs.any()):
            break

    with torch.no_grad():
        images = first.parameterization.decode(parameters)
    moved = stopping.moved | (first.steps == 1)  # of one step nothing is known
    return Finished(images, course, stopping.steps, stopping.is_finite, moved)


def score_batch(network: Network, recipes: Sequence[Recipe], images: Images) -> PerImage:
    """Each row's objective for its picture as it is: no transforms, the same slots."""
    prefix = _prefix(network, recipes, images.shape[2], images.shape[3])
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
        prefix = _prefix(network, [recipe], *size)
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


def _prefix(network: Network, recipes: Sequence[Recipe], rows: int, columns: int) -> Prefix:
    layers = dict.fromkeys(layer for recipe in recipes for layer in recipe.objective.layers)
    return Prefix(network, layers, rows=rows, columns=columns)


def shown_to(
    network: Network, recipe: Recipe, images: Images, seeds: Seeds, *, number: int
) -> Tensor:
    """What the network sees of the pictures at a step: transformed, preprocessed, laid out."""
    draws = recipe.transforms.draw(seeds, torch.full_like(seeds, number))
    return _laid_out(network.to_input(recipe.transforms.apply(images, draws)))


def program(recipes: Sequence[Recipe], prefix: Prefix, *, like: Tensor) -> Program:
    """The objectives of the rows, made ready for one prefix and pictures shaped like `like`."""
    grids: dict[str, Grid] = {key: grid_of(layer) for key, layer in prefix.layers.items()}
    objectives = [recipe.objective for recipe in recipes for _ in range(recipe.count)]
    return Program(objectives, grids, like=like)


def _canvas(recipe: Recipe, count: int, like: Tensor) -> Tensor:
    """A tensor of the pictures' shape; its values are not read."""
    shape = recipe.shape
    return like.new_empty(count, shape.channels, shape.rows, shape.columns)


def _from_noise(recipes: Sequence[Recipe], device: torch.device) -> Tensor:
    """Which rows did not start from a given image."""
    rows = [recipe.start is None for recipe in recipes for _ in range(recipe.count)]
    return torch.tensor(rows, device=device)


def _seeds(recipes: Sequence[Recipe], device: torch.device) -> Tensor:
    seeds = [recipe.seed + index for recipe in recipes for index in range(recipe.count)]
    return torch.tensor(seeds, dtype=torch.int64, device=device)


def _laid_out(shown: Tensor) -> Tensor:
    return shown.contiguous(memory_format=torch.channels_last)


def _of_running(gradient: Tensor, runs: Tensor) -> Tensor:
    return torch.where(runs.view(-1, *[1] * (gradient.ndim - 1)), gradient, 0)
