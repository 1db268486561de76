"""Recipes to pictures: the one entrance to the engine."""

import contextlib
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.engine.algebra import Objective, Term
from featviz.engine.batch import batch_key, check, score_batch
from featviz.engine.execution import Execution, as_executed, check_device, execution
from featviz.engine.expressions import is_expression, parse_objective
from featviz.engine.memory import MOST_OF_FREE, free_bytes, slots_within
from featviz.engine.objectives import of_unit
from featviz.engine.picture import Picture, Pictures, Verdict
from featviz.engine.presets import adjusted, transforms_under
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.slots import Finished, at_least, stream
from featviz.errors import DoesNotFit, FeatvizError, Malformed, NotAvailable, UnknownName
from featviz.kernels.cuda import on_device
from featviz.network.network import Network

DEFAULT_SLOTS = {"cpu": 16, "mps": 16, "cuda": 512}
"""The most rows of a batch where nobody says how many."""
WORDS = ("preset", "transforms", "parameterization")
"""Settings that may be words of engine/presets."""

Wish = str | Objective | Recipe
"""A selection of units, an expression, an objective, or a whole recipe."""


def render(
    network: Network,
    what: Wish | Sequence[Wish],
    *,
    slots: int | None = None,
    memory: int | None = None,
    device: str | None = None,
    dtype: str = "float32",
    **settings: Any,
) -> Pictures:
    """Pictures that maximize what is asked for, in the order in which it is asked.

    `what`: one or several of a selection ("blocks.4:17", "blocks.2:0-15"), an expression
    ("channel(blocks.4, 7) - 0.5 * channel(blocks.4, 3)"), an objective or a recipe. `settings`
    are fields of Recipe and `size` (pixels, or "auto"); they do not touch whole recipes. As words:
    `transforms` "standard", "strong", "lucid" or "none", `parameterization` "fourier" or "pixel",
    and `preset` "fast" or "lucid", under which other settings still count.

    `slots`: rows of a batch; by default the number of pictures, at most DEFAULT_SLOTS of the
    device, where no recipe counts more, and as many as fit into `memory` bytes (most of what is
    free).

    Raises a FeatvizError before the first step where anything asked for is not there.
    """
    asked = [what] if isinstance(what, (str, Objective, Recipe)) else list(what)
    recipes = [each for wish in asked for each in recipes_of(network, wish, **settings)]
    place = network.device.type if device is None else device
    how = execution(
        slots=fitting_slots(
            network,
            recipes,
            default_slots(recipes, place),
            device=place,
            dtype=dtype,
            memory=memory,
        )
        if slots is None
        else slots,
        device=place,
        dtype=dtype,
        weights=network.weights,
    )
    made = {(p.recipe.digest, p.index): p for p in render_each(network, recipes, how)}
    return Pictures([made[r.digest, index] for r in recipes for index in range(r.count)])


def default_slots(recipes: Iterable[Recipe], device: str) -> int:
    """As many as there are pictures, up to the device's DEFAULT_SLOTS, but never fewer than one
    recipe's; with more pictures, so many that the last batch is as full as the others."""
    counts = [recipe.count for recipe in recipes]
    most = DEFAULT_SLOTS.get(device.partition(":")[0], DEFAULT_SLOTS["cpu"])
    largest, batches = max(counts, default=1), ceil(sum(counts) / most) or 1
    return max(largest, min(most, ceil(sum(counts) / batches / largest) * largest))


def fitting_slots(
    network: Network,
    recipes: Sequence[Recipe],
    wanted: int,
    *,
    device: str,
    dtype: str = "float32",
    memory: int | None = None,
) -> int:
    """The wanted slots, or as many as memory has room for; never fewer than one recipe needs.

    `memory`: bytes; most of what is free where it is None. Of recipes that need alike one is
    looked at. Raises what `render_each` raises.
    """
    least = max((recipe.count for recipe in recipes), default=1)
    if wanted <= least:
        return wanted
    alike: dict[Hashable, Recipe] = {}
    for recipe in recipes:
        is_for(network, recipe)
        recipe.objective.resolve(network)
        alike.setdefault((batch_key(recipe), recipe.objective.layers), recipe)
    placed = as_executed(network, device, dtype)
    largest = max(
        alike.values(), key=lambda each: (each.shape.rows * each.shape.columns, check(placed, each))
    )
    budget = MOST_OF_FREE * free_bytes(placed.device) if memory is None else memory
    try:
        with on_device(placed.device):
            return max(least, slots_within(placed, largest, budget, most=wanted))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return least


def recipes_of(network: Network, wish: Wish, **settings: Any) -> list[Recipe]:
    """The recipes that a wish stands for. Raises Malformed, UnknownName, OutOfRange, DoesNotFit."""
    if isinstance(wish, Recipe):
        return [wish]
    words = {name: settings[name] for name in WORDS if isinstance(settings.get(name), str)}
    values = {name: value for name, value in settings.items() if name not in words}
    moving = transforms_under(words.get("preset", "default"), words.get("transforms"))
    if moving is not None:  # known before the size is chosen
        values.setdefault("transforms", moving)
    recipes = [default_recipe(network, each, **values) for each in objectives_of(network, wish)]
    if not words:
        return recipes
    kept = [name for name in settings if name not in (*words, "size")]  # no preset undoes them
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
    keeps_slots: bool = False,
    skips: Callable[[Recipe], bool] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Iterator[Picture]:
    """Pictures as they finish, each recipe once; batches hold what can be rowed together.

    A picture depends on its recipe and on `how` alone: see `featviz.engine.slots`. Where the
    device runs out of memory the slots are halved and what was in work begins again; its pictures
    say so in their execution. With `keeps_slots` that is an error. `skips` is asked of a recipe
    when its turn comes: it may have been made elsewhere by then. `on_progress` is told after each
    step how many pictures' worth of work is done since it was told last.

    Raises a FeatvizError before the first step where a recipe does not fit the network,
    NotAvailable where memory does not suffice.
    """
    placed = as_executed(network, how.device, how.dtype)
    judge = network.at(check_device(how.device), torch.float32)
    work = _rendered(
        *(placed, judge, recipes, how),
        keeps_slots=keeps_slots,
        skips=skips,
        on_progress=on_progress,
    )
    with contextlib.closing(work):
        while True:
            with on_device(placed.device):
                picture = next(work, None)
            if picture is None:
                return
            yield picture


def _rendered(
    placed: Network,
    judge: Network,
    recipes: Iterable[Recipe],
    how: Execution,
    *,
    keeps_slots: bool,
    skips: Callable[[Recipe], bool] | None,
    on_progress: Callable[[float], None] | None,
) -> Generator[Picture, None, None]:
    """See `render_each`."""
    asked = how
    for group in _planned(placed, recipes, how):
        left, how = dict(enumerate(group)), asked
        while left:
            try:
                made = _made(
                    *(placed, judge, left, how),
                    skips=skips,
                    on_progress=on_progress,
                )
                for number, pictures in made:
                    del left[number]
                    yield from pictures
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                least = group[0].count
                if keeps_slots or how.slots == least:
                    raise NotAvailable(
                        f"memory for {how.slots} slots at {group[0].shape.rows} px",
                        there="with fewer slots or smaller pictures it may suffice",
                    ) from error
                how = replace(how, slots=max(least, how.slots // 2))
                if placed.device.type == "cuda":
                    torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that a device has no memory left."""
    words = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in words


def _made(
    network: Network,
    judge: Network,
    recipes: Mapping[int, Recipe],
    how: Execution,
    *,
    skips: Callable[[Recipe], bool] | None,
    on_progress: Callable[[float], None] | None,
) -> Iterator[tuple[int, list[Picture]]]:
    """The pictures of each recipe, by its number; recipes are of one `batch_key`.

    None of those that are skipped, which come last.
    """
    numbers, wanted = list(recipes), list(recipes.values())
    skipped: list[int] = []

    def in_turn() -> Iterator[tuple[int, Recipe]]:
        for place, recipe in enumerate(wanted):
            if skips is not None and skips(recipe):
                skipped.append(numbers[place])
            else:
                yield place, recipe

    places, share = _per_batch(wanted[0], how), 1 / wanted[0].steps
    rows_of_scores = at_least(wanted[0], places)
    report = None if on_progress is None else lambda rows: on_progress(rows * share)
    with reproducible():
        for batch in stream(network, in_turn(), places, on_step=report):
            ended = [(wanted[number], finished) for number, finished in batch]
            pixels = hwc_uint8_from_images(torch.cat([each.images for _, each in ended]))
            scores = _scores(judge, [recipe for recipe, _ in ended], pixels, rows_of_scores)
            at = 0
            for (number, finished), (recipe, _) in zip(batch, ended, strict=True):
                rows = slice(at, at + recipe.count)
                at += recipe.count
                made = _pictures(recipe, finished, pixels[rows], scores[rows], how)
                yield numbers[number], made
    yield from ((number, []) for number in skipped)


def _scores(
    judge: Network, recipes: Sequence[Recipe], pixels: NDArray[np.uint8], places: int
) -> list[float]:
    """Clean scores of bytes, in a batch of the usual size so that mates make no difference."""
    count = recipes[0].count
    filled = [*recipes, *[recipes[-1]] * (places - len(recipes))]
    rows = [*range(len(pixels)), *[len(pixels) - 1] * (places * count - len(pixels))]
    shown = images_from_hwc_uint8(pixels[rows]).to(judge.device)
    return score_batch(judge, filled, shown).tolist()[: len(pixels)]


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
    """Recipes of one key together, shallow prefixes first, so that neighbours need like depths."""
    by_key: dict[Hashable, list[tuple[int, Recipe]]] = {}
    for recipe in {recipe.digest: recipe for recipe in recipes}.values():
        is_for(network, recipe)
        _per_batch(recipe, how)
        by_key.setdefault(batch_key(recipe), []).append((check(network, recipe), recipe))
    return [
        [recipe for _, recipe in sorted(members, key=lambda member: member[0])]
        for members in by_key.values()
    ]


def is_for(network: Network, recipe: Recipe) -> None:
    """Raises DoesNotFit where a recipe is for another network."""
    if recipe.network != network.fingerprint:
        raise DoesNotFit(
            f"a recipe for {recipe.network_name}",
            got=f"network {network.name} with fingerprint {network.fingerprint}",
            expected=recipe.network,
        )


def _pictures(
    recipe: Recipe,
    finished: Finished,
    pixels: NDArray[np.uint8],
    scores: Sequence[float],
    how: Execution,
) -> list[Picture]:
    course = finished.course.double().cpu().numpy()
    steps = finished.steps.tolist()
    finite, moved = finished.is_finite.tolist(), finished.moved.tolist()
    return [
        Picture(
            pixels=pixels[index],
            recipe=recipe,
            index=index,
            score=scores[index],
            course=tuple(course[: steps[index], index].tolist()),
            steps=steps[index],
            verdict=_verdict(is_finite=finite[index], moved=moved[index]),
            execution=how,
        )
        for index in range(recipe.count)
    ]


def _verdict(*, is_finite: bool, moved: bool) -> Verdict:
    if not is_finite:
        return "not finite"
    return "rendered" if moved else "dead"
