"""Recipes to pictures: the one entrance to the engine."""

import contextlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.engine.algebra import Objective, Term
from featviz.engine.batch import Finished, batch_key, check, optimize_batch, score_batch
from featviz.engine.execution import DTYPES, Execution, check_device, execution
from featviz.engine.expressions import is_expression, parse_objective
from featviz.engine.objectives import of_unit
from featviz.engine.picture import Picture, Pictures, Verdict
from featviz.engine.presets import adjusted
from featviz.engine.recipe import Recipe, default_recipe
from featviz.errors import DoesNotFit, FeatvizError, Malformed, UnknownName
from featviz.network.network import Network

DEFAULT_SLOTS = 16
WORDS = ("preset", "transforms", "parameterization")
"""Settings that may be words of engine/presets."""

Wish = str | Objective | Recipe
"""A selection of units, an expression, an objective, or a whole recipe."""


def render(
    network: Network,
    what: Wish | Sequence[Wish],
    *,
    slots: int | None = None,
    device: str | None = None,
    dtype: str = "float32",
    **settings: Any,
) -> Pictures:
    """Pictures that maximize what is asked for, in the order in which it is asked.

    `what`: one or several of a selection ("blocks.4:17", "blocks.2:0-15"), an expression
    ("channel(blocks.4, 7) - 0.5 * channel(blocks.4, 3)"), an objective or a recipe. `settings`
    are fields of Recipe and `size` (pixels); they do not touch whole recipes. As words:
    `transforms` "standard", "strong", "lucid" or "none", `parameterization` "fourier" or "pixel",
    and `preset` "lucid", under which other settings still count.

    `slots`: rows of a batch; by default the number of pictures, at most 16 where no recipe counts
    more.

    Raises a FeatvizError before the first step where anything asked for is not there.
    """
    asked = [what] if isinstance(what, (str, Objective, Recipe)) else list(what)
    recipes = [each for wish in asked for each in recipes_of(network, wish, **settings)]
    how = execution(
        slots=default_slots(recipes) if slots is None else slots,
        device=network.device.type if device is None else device,
        dtype=dtype,
        weights=network.weights,
    )
    made = {(p.recipe.digest, p.index): p for p in render_each(network, recipes, how)}
    return Pictures([made[r.digest, index] for r in recipes for index in range(r.count)])


def default_slots(recipes: Iterable[Recipe]) -> int:
    """As many as there are pictures, up to DEFAULT_SLOTS, but never fewer than one recipe's."""
    counts = [recipe.count for recipe in recipes]
    return max(1, *counts, min(sum(counts), DEFAULT_SLOTS))


def recipes_of(network: Network, wish: Wish, **settings: Any) -> list[Recipe]:
    """The recipes that a wish stands for. Raises Malformed, UnknownName, OutOfRange, DoesNotFit."""
    if isinstance(wish, Recipe):
        return [wish]
    words = {name: settings[name] for name in WORDS if isinstance(settings.get(name), str)}
    values = {name: value for name, value in settings.items() if name not in words}
    recipes = [default_recipe(network, each, **values) for each in objectives_of(network, wish)]
    if not words:
        return recipes
    kept = [name for name in values if name != "size"]  # a preset does not undo what is given
    return [
        replace(adjusted(each, **words), **{name: getattr(each, name) for name in kept})
        for each in recipes
    ]


def objectives_of(network: Network, wish: str | Objective) -> list[Objective]:
    """What a selection, an expression or an objective asks for, one objective a picture.

    Raises Malformed, UnknownName, OutOfRange.
    """
    if isinstance(wish, Objective):
        return [wish]
    if "(" in wish:  # in no selection
        return [parse_objective(wish)]
    try:
        return [of_unit(unit) for unit in network.units(wish)]
    except (Malformed, UnknownName) as refused:
        return [_calculated(wish, refused)]


def _calculated(wish: str, refused: Malformed | UnknownName) -> Objective:
    """What no selection is, as an expression. Raises `refused` where it is not meant as one."""
    try:
        objective = parse_objective(wish)
    except FeatvizError:
        if is_expression(wish):
            raise
        raise refused from None
    if isinstance(objective, Term):  # one address: as a selection it was refused in better words
        raise refused
    return objective


def render_each(
    network: Network,
    recipes: Iterable[Recipe],
    how: Execution,
    *,
    on_progress: Callable[[float], None] | None = None,
) -> Iterator[Picture]:
    """Pictures as they finish, each recipe once; batches hold what can be rowed together.

    A picture depends on its recipe and on `how` alone: batches are filled up to the slots with
    copies of their last row, whose results are dropped. `on_progress` is told after each step
    how many pictures' worth of work is done since it was told last.

    Raises a FeatvizError before the first step where a recipe does not fit the network.
    """
    placed = network.at(check_device(how.device), DTYPES[how.dtype])
    judge = network.at(check_device(how.device), torch.float32)
    for group in _planned(placed, recipes, how):
        with reproducible():
            filled = group + [group[-1]] * (_per_batch(group[0], how) - len(group))
            rows, share = sum(recipe.count for recipe in group), 1 / group[0].steps
            report = None if on_progress is None else lambda s=rows * share: on_progress(s)
            finished = optimize_batch(placed, filled, on_step=report)
            pixels = hwc_uint8_from_images(finished.images)
            shown = images_from_hwc_uint8(pixels).to(finished.images.device)
            scores = score_batch(judge, filled, shown)
        yield from _pictures(group, finished, pixels, scores, how)


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """CUDA's convolutions chosen for the same bits at every run, as far as cuDNN has them."""
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with flags:
        yield


def hwc_uint8_from_images(images: Tensor) -> NDArray[np.uint8]:
    """Pictures in [0, 1] as (batch, row, column, channel) bytes, rounded to the nearest."""
    bounded = images.detach().nan_to_num(nan=0.5).clamp(0, 1)
    return (bounded * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def images_from_hwc_uint8(pixels: NDArray[np.uint8]) -> Tensor:
    """Float32 pictures in [0, 1] from bytes."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def _per_batch(recipe: Recipe, how: Execution) -> int:
    """How many recipes of this count the slots take."""
    if recipe.count > how.slots:
        raise DoesNotFit(
            "the slots", got=how.slots, expected=f"at least {recipe.count}, the count of a recipe"
        )
    return how.slots // recipe.count


def _planned(network: Network, recipes: Iterable[Recipe], how: Execution) -> list[list[Recipe]]:
    """Batches: recipes of one key, shallow prefixes first, so that like depths go together."""
    by_key: dict[Hashable, list[tuple[int, Recipe]]] = {}
    for recipe in {recipe.digest: recipe for recipe in recipes}.values():
        if recipe.network != network.fingerprint:
            raise DoesNotFit(
                f"a recipe for {recipe.network_name}",
                got=f"network {network.name} with fingerprint {network.fingerprint}",
                expected=recipe.network,
            )
        by_key.setdefault(batch_key(recipe), []).append((check(network, recipe), recipe))
    batches = []
    for members in by_key.values():
        ordered = [recipe for _, recipe in sorted(members, key=lambda member: member[0])]
        size = _per_batch(ordered[0], how)
        batches += [ordered[at : at + size] for at in range(0, len(ordered), size)]
    return batches


def _pictures(
    recipes: Sequence[Recipe],
    finished: Finished,
    pixels: NDArray[np.uint8],
    scores: Tensor,
    how: Execution,
) -> Iterator[Picture]:
    course = finished.course.double().cpu().numpy()
    steps = finished.steps.tolist()
    finite, moved = finished.is_finite.tolist(), finished.moved.tolist()
    row = 0
    for recipe in recipes:
        for index in range(recipe.count):
            yield Picture(
                pixels=pixels[row],
                recipe=recipe,
                index=index,
                score=float(scores[row]),
                course=tuple(course[: steps[row], row].tolist()),
                steps=steps[row],
                verdict=_verdict(is_finite=finite[row], moved=moved[row]),
                execution=how,
            )
            row += 1


def _verdict(*, is_finite: bool, moved: bool) -> Verdict:
    if not is_finite:
        return "not finite"
    return "rendered" if moved else "dead"
