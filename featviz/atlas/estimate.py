"""What some pictures will cost, in seconds and bytes, from a few steps of the real engine."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from statistics import median
from types import MappingProxyType

import torch

from featviz.atlas.quality import AT_ONCE, Judge, Judged
from featviz.atlas.references import pink_references
from featviz.engine.batch import batch_key
from featviz.engine.execution import Execution
from featviz.engine.picture import Picture
from featviz.engine.recipe import Recipe
from featviz.engine.render import render_each
from featviz.image.parameterizations import Shape
from featviz.network.network import Network

STEPS, REDIRECTED = 5, 2
"""That are timed, the first one apart; the first so many with redirected gradients."""
DEPTHS = 4
"""Recipes whose depths are within this part of the network are taken to cost alike."""
LIMIT_S = 15.0
"""No further measurement begins after this."""
REFERENCES = 512
TIMED_REFERENCES = 16
PIXEL_BYTES: Mapping[str, float] = MappingProxyType({"png": 2.6, "webp": 2.3, "jpeg": 0.9})
"""Of a finished picture with three channels; measured on nine units at 64 to 192 px."""
OTHER_BYTES = 4000
"""Thumbnail, evidence, and the words of a record and of the picture's file but their recipe."""
NUMBER_BYTES = 20
"""Of a value of the course."""


@dataclass(frozen=True)
class Timing:
    """Seconds: of a batch's step with and without redirected gradients, of its end (scores, files),
    of what comes once before its first step; of one picture's evidence, and of the references."""

    redirected: float
    plain: float
    ending: float = 0.0
    beginning: float = 0.0
    evidence: float = 0.0
    references: float = 0.0

    def batch_s(self, recipe: Recipe) -> float:
        """A whole batch of recipes like this one."""
        redirected = min(recipe.redirected_steps, recipe.steps)
        plain = recipe.steps - redirected
        return redirected * self.redirected + plain * self.plain + self.ending

    def scaled(self, factor: float) -> "Timing":
        """As of pictures with so many times the pixels."""
        return Timing(*(factor * seconds for seconds in astuple(self)))


@dataclass(frozen=True)
class Estimate:
    """Of `pictures` that are to be made: seconds of rendering them, and of their evidence.

    `timed` is of how many pictures the likes were timed.
    """

    pictures: int
    seconds: float
    evidence_s: float
    timed: int
    basis: str


@dataclass(frozen=True, eq=False)
class Band:
    """Recipes of one batch key and of like depths, shallow ones first."""

    key: Hashable
    depth: int
    recipes: tuple[Recipe, ...]

    @property
    def shape(self) -> Shape:
        return self.recipes[0].shape

    @property
    def pixels(self) -> int:
        """Of one picture."""
        return self.shape.rows * self.shape.columns

    @property
    def pictures(self) -> int:
        return sum(recipe.count for recipe in self.recipes)

    @property
    def work(self) -> int:
        """Roughly in proportion to its cost."""
        return self.pictures * self.recipes[0].steps * self.pixels * (self.depth + 1)

    def disk_bytes(self, formats: Sequence[str]) -> int:
        """Of all files; recipes are taken to be as long as the first one."""
        lossless = "webp" if "webp" in formats else "png"
        of_pixel = PIXEL_BYTES[lossless] + ("jpeg" in formats) * PIXEL_BYTES["jpeg"]
        first = self.recipes[0]
        written = 2 * len(first.to_json()) + NUMBER_BYTES * first.steps + OTHER_BYTES
        return self.pictures * round(of_pixel * self.pixels * self.shape.channels / 3 + written)

    def sample(self, places: int) -> tuple[Recipe, ...]:
        """A batch from its middle."""
        start = max(0, (len(self.recipes) - places) // 2)
        return self.recipes[start : start + places]


Timed = Callable[[Network, Sequence[Recipe], Execution], Timing]


def estimate(
    network: Network,
    recipes: Sequence[Recipe],
    how: Execution,
    *,
    limit_s: float = LIMIT_S,
    timed: Timed | None = None,
) -> Estimate:
    """What it costs to make these pictures, measured with the largest parts first.

    Where `limit_s` ends that, the rest is taken from the nearest depth, in proportion to the
    pixels. `timed`: what times a batch; `time_batch` where it is None.

    Raises what `render_each` raises.
    """
    measure = time_batch if timed is None else timed
    groups = bands(network, recipes)
    timings: dict[Band, Timing] = {}
    start = time.perf_counter()
    for band in sorted(groups, key=lambda each: each.work, reverse=True):
        if timings and time.perf_counter() - start > limit_s:
            break
        timings[band] = measure(network, band.sample(_places(band, how)), how)
    pictures, like_timed = (sum(each.pictures for each in found) for found in (groups, timings))
    share = f"{like_timed / max(pictures, 1):.0%} of them"
    return Estimate(
        pictures=pictures,
        seconds=_rendering_s(groups, timings, how),
        evidence_s=_evidence_s(groups, timings),
        timed=like_timed,
        basis=f"{STEPS} steps of {len(timings)} of {len(groups)} kinds of pictures, {share}; "
        f"{how.slots} slots, {how.device}, {how.threads} threads",
    )


def disk_bytes(network: Network, recipes: Sequence[Recipe], formats: Sequence[str]) -> int:
    """Of all the files of their pictures, nothing measured."""
    return sum(band.disk_bytes(formats) for band in bands(network, recipes))


def bands(network: Network, recipes: Sequence[Recipe]) -> list[Band]:
    """Recipes that cost about the same, together."""
    deepest = max(layer.post for layer in network.layers().values()) + 1
    depths: dict[tuple[str, ...], int] = {}
    found: dict[tuple[Hashable, int], list[tuple[int, Recipe]]] = {}
    for recipe in recipes:
        layers = recipe.objective.layers
        if layers not in depths:
            depths[layers] = max(map(network.operation, layers), default=0)
        part = DEPTHS * depths[layers] // deepest
        found.setdefault((batch_key(recipe), part), []).append((depths[layers], recipe))
    made = []
    for (key, part), members in found.items():
        ordered = sorted(members, key=lambda member: member[0])
        made.append(Band(key, part, tuple(recipe for _, recipe in ordered)))
    return made


def time_batch(network: Network, recipes: Sequence[Recipe], how: Execution) -> Timing:
    """A few steps of a batch, its end, and the evidence of a picture, on this machine now."""
    first = min(REDIRECTED, recipes[0].redirected_steps)
    short = [replace(each, steps=STEPS, redirected_steps=first) for each in recipes]
    stamps = [time.perf_counter()]

    def note(_pictures: float) -> None:
        if how.device.startswith("cuda"):
            torch.cuda.synchronize(how.device)
        stamps.append(time.perf_counter())

    pictures = list(render_each(network, short, how, on_progress=note))
    for picture in pictures:
        picture.encoded()
    ended = time.perf_counter()
    steps = [later - sooner for sooner, later in pairwise(stamps[1:])]
    split = max(first - 1, 0)  # the first step is not among them
    plain = median(steps[split:])
    redirected = median(steps[:split] or [plain])
    evidence, references = _time_evidence(network, pictures[0], how)
    return Timing(
        redirected=redirected,
        plain=plain,
        ending=ended - stamps[STEPS],
        beginning=max(0.0, stamps[1] - stamps[0] - redirected),
        evidence=evidence,
        references=references,
    )


def _time_evidence(network: Network, picture: Picture, how: Execution) -> tuple[float, float]:
    """Seconds that one picture takes, and the references at its size; once to warm up before."""
    count = AT_ONCE.get(how.device.partition(":")[0], AT_ONCE["cpu"])
    judged = Judged(picture.recipe, picture.index, picture.pixels, "rendered")
    evidence = references = 0.0
    for _ in range(2):
        judge = Judge(network, pink_references(TIMED_REFERENCES), device=how.device)
        start = time.perf_counter()
        judge.prepare([picture.recipe])
        prepared = time.perf_counter()
        judge.evidence([judged] * count)
        evidence = (time.perf_counter() - prepared) / count
        references = (prepared - start) * REFERENCES / TIMED_REFERENCES
    return evidence, references


def _rendering_s(groups: Sequence[Band], timings: Mapping[Band, Timing], how: Execution) -> float:
    """A batch is as large as its slots, however few pictures are in it."""
    by_key: dict[Hashable, list[Band]] = {}
    for band in groups:
        by_key.setdefault(band.key, []).append(band)
    seconds = 0.0
    for parts in by_key.values():
        count = sum(len(band.recipes) for band in parts)
        batches = -(-count // _places(parts[0], how))
        for band in parts:
            timing = _nearest(band, timings)
            share = len(band.recipes) / count
            seconds += timing.beginning + batches * share * timing.batch_s(band.recipes[0])
    return seconds


def _evidence_s(groups: Sequence[Band], timings: Mapping[Band, Timing]) -> float:
    """The references are seen once at each size, as deep as its deepest picture needs."""
    seconds = sum(band.pictures * _nearest(band, timings).evidence for band in groups)
    passes: dict[Shape, float] = {}
    for band in groups:
        needed = _nearest(band, timings).references
        passes[band.shape] = max(needed, passes.get(band.shape, 0.0))
    return seconds + sum(passes.values())


def _nearest(band: Band, timings: Mapping[Band, Timing]) -> Timing:
    """Its own timing, or that of the nearest depth and then size, scaled by the pixels."""
    if band in timings:
        return timings[band]
    nearest = min(
        timings,
        key=lambda each: (abs(each.depth - band.depth), abs(each.pixels - band.pixels)),
    )
    return timings[nearest].scaled(band.pixels / nearest.pixels)


def _places(band: Band, how: Execution) -> int:
    """How many recipes are in work at once."""
    return max(1, how.slots // band.recipes[0].count)
