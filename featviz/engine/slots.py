"""Continuous batching: a stream of recipes through a fixed number of rows.

A picture that is done leaves and the next takes its place; no picture can tell when it came, who
is beside it or which slot it has. Nothing leaves the device inside a step; how far each row is
the host knows by counting, and looks at rows that may stop early every CHECK_EVERY steps.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from featviz.engine.accelerated import Accelerated, accelerated
from featviz.engine.ascent import ascent
from featviz.engine.batch import batch_key, prefix_of, program, shown_to, working_dtype
from featviz.engine.capture import Captures
from featviz.engine.heap import kept_heap
from featviz.engine.motion import Motion
from featviz.engine.presumed import Presumed
from featviz.engine.program import Program
from featviz.engine.recipe import Recipe
from featviz.engine.seen import see
from featviz.engine.start import starting_parameters
from featviz.engine.stopping import Stopping
from featviz.engine.waking import loud_parameters, wakes
from featviz.image.parameterizations import Parameters
from featviz.interrupts import uninterrupted
from featviz.network.network import Network
from featviz.network.recording import Prefix
from featviz.shapes import Flags, Images, PerImage, Rows

CHECK_EVERY = 16
"""Steps between looks at whether a row has stopped early; a look waits for the device."""

DOUBTED = 4
"""Redirected steps without presumption, from one that was refuted on."""

LEAST_ROWS = 2
"""A batch of one takes other kernels, which round otherwise, than every larger one."""

OnStep = Callable[[int], None]
"""Told after each step how many pictures were in work."""


@dataclass(frozen=True)
class Finished:
    """What became of some pictures.

    `course` is (step, row), NaN after a row stopped; `is_finite` is False for a row that was
    given up because its value or gradient was not a number; `moved` says whether what the network
    says of it ever changed. All but the images are on the host.
    """

    images: Images
    course: Tensor
    steps: Tensor
    is_finite: Tensor
    moved: Tensor

    def part(self, start: int, count: int) -> "Finished":
        """Some rows of these."""
        rows = slice(start, start + count)
        return Finished(
            self.images[rows],
            self.course[:, rows],
            self.steps[rows],
            self.is_finite[rows],
            self.moved[rows],
        )


def stream(
    network: Network,
    recipes: Iterable[tuple[int, Recipe]],
    places: int,
    *,
    captures: bool = True,
    on_step: OnStep | None = None,
) -> Iterator[list[tuple[int, Finished]]]:
    """Runs numbered recipes of one `batch_key`, `places` at a time; yields, by number, those that
    end. A recipe is taken from the iterable when a place is free for it.

    `captures`: on CUDA a step is recorded and replayed (`featviz.engine.capture`), for the same
    bits. Neighbours in the stream should need like depths of the network: a batch runs as deep as
    its deepest row asks. Raises what Prefix raises.
    """
    queue = iter(recipes)
    first = next(queue, None)
    if first is None:
        return
    queue = chain([first], queue)
    with kept_heap():
        slots = Slots(network, first[1], places, captures=captures)
        while slots.fill(queue):
            slots.step()
            if on_step is not None:
                on_step(slots.occupied)
            ended = slots.ended()
            if ended:
                yield ended


def optimize_batch(
    network: Network, recipes: Sequence[Recipe], *, on_step: OnStep | None = None
) -> Finished:
    """All the recipes at once, a place for each; rows come in their order."""
    ended = stream(network, enumerate(recipes), len(recipes), on_step=on_step)
    done = {number: finished for batch in ended for number, finished in batch}
    rows = [done[number] for number in range(len(recipes))]
    return Finished(
        images=torch.cat([each.images for each in rows]),
        course=torch.cat([each.course for each in rows], dim=1),
        steps=torch.cat([each.steps for each in rows]),
        is_finite=torch.cat([each.is_finite for each in rows]),
        moved=torch.cat([each.moved for each in rows]),
    )


def at_least(recipe: Recipe, places: int) -> int:
    """The places, or as many as make LEAST_ROWS rows."""
    return max(places, -(-LEAST_ROWS // recipe.count))


class Slots:
    """The rows of a batch: their parameters, optimizer states, courses, and who is in them.

    Pictures, transforms and optimizer are float64 where the network is, float32 elsewhere.
    """

    def __init__(
        self,
        network: Network,
        first: Recipe,
        places: int,
        *,
        captures: bool = True,
        presumes: bool = True,
    ) -> None:
        """`presumes`: see `Presumed`; without, redirected steps take all the memory that they may
        ever take."""
        self.network = network
        self._presumes = presumes
        self._doubted = 0
        """For so many steps nothing is presumed."""
        self.first = first
        self._open = places
        """The first so many places are given to recipes; a further one only fills the batch."""
        places = at_least(first, places)
        self._places: list[Recipe] = [first] * places
        self._numbers = [0] * places
        """Which recipe of the stream each place has."""
        self._ages: list[int | None] = [None] * places
        """Steps behind each place; None where nobody is."""
        count, device = places * first.count, network.device
        self._dtype = working_dtype(network)
        self._seeds = torch.zeros(count, dtype=torch.int64, device=device)
        start = starting_parameters(first, self._seeds[:1], dtype=self._dtype)
        whole = start.expand(count, *start.shape[1:])
        self._parameters = whole.clone(memory_format=torch.contiguous_format)
        self._ascent = ascent(first.optimizer, self._parameters, steps=first.steps)
        self._stopping = Stopping(first.stop, count, device=device, dtype=self._dtype)
        self._course = torch.full(
            (first.steps + 1, count), torch.nan, dtype=self._dtype, device=device
        )
        self._rows = torch.arange(count, device=device)
        self._motion = Motion(first, count, device=device, dtype=self._dtype)
        self._motion.begin(self._rows, self._seeds)
        self._steps_done = 0
        self._ready: _Ready | None = None
        self._is_stale = True
        is_here = device.type == "cuda" and device.index == torch.cuda.current_device()
        self._captures = Captures() if captures and is_here else None

    @property
    def occupied(self) -> int:
        """How many pictures are in work."""
        return sum(age is not None for age in self._ages) * self.first.count

    @property
    def state_bytes(self) -> int:
        """What its rows hold between steps."""
        held = (self._parameters, *self._ascent.memory, self._course)
        return sum(each.untyped_storage().nbytes() for each in held) + self._motion.nbytes

    def fill(self, queue: Iterator[tuple[int, Recipe]]) -> bool:
        """Gives free places to the next recipes; False when there is no work left."""
        free = [place for place, age in enumerate(self._ages[: self._open]) if age is None]
        taken = dict(zip(free, queue, strict=False))
        for place, (number, recipe) in taken.items():
            assert batch_key(recipe) == batch_key(self.first)
            if recipe.objective != self._places[place].objective:
                self._is_stale = True
            self._places[place], self._numbers[place], self._ages[place] = recipe, number, 0
        for places in self._at_once(taken):
            self._begin(places)
        return any(age is not None for age in self._ages)

    @uninterrupted()
    def step(self) -> None:
        """One step of every row."""
        self._wake()
        first = self.first.redirected_steps
        ready = self._made_ready()
        if self._captures is None:
            redirects = any(age is not None and age < first for age in self._ages)
            self._advance(ready, redirects=redirects)
        else:  # one recording for all steps
            self._captures.run(lambda: self._advance(ready, redirects=first > 0))
        self._ages = [None if age is None else age + 1 for age in self._ages]
        self._steps_done += 1

    def _advance(self, ready: "_Ready", *, redirects: bool) -> None:
        """A step as the device sees it: nothing but tensors that stay where they are."""
        stopping = self._stopping
        if redirects:
            rows = stopping.numbers < self.first.redirected_steps
            heard, values, gradient = self._told_redirected(ready, rows)
        else:
            heard, values, gradient = self._told(ready, ready.accelerated)
        is_finite, numbers = torch.isfinite(values), stopping.numbers  # of this step until `see`
        moves = stopping.runs & is_finite
        is_finite &= self._ascent.step(self._parameters, gradient, numbers=numbers, moves=moves)
        self._course[numbers, self._rows] = torch.where(stopping.runs, values, torch.nan)
        stopping.hear(heard)
        stopping.see(values, is_finite)

    def _told(self, ready: "_Ready", plan: Accelerated) -> tuple[PerImage, PerImage, Parameters]:
        """What the network says of each row, the whole of its objective, and the gradient there."""
        first = self.first
        parameters = self._parameters.detach().requires_grad_()
        images = first.parameterization.decode(parameters)
        moved = self._motion.at(self._stopping.numbers)
        shown = shown_to(self.network, first.transforms, images, moved)
        recorded = ready.prefix(shown, substitute=plan, deeper=ready.deeper)
        seen = see(recorded, ready.prefix.layers, images, count=first.count)
        heard, looked = ready.program.parts(seen)
        values = heard + looked
        (gradient,) = torch.autograd.grad(values.sum(), parameters)
        return heard.detach(), values.detach(), gradient

    def _told_redirected(
        self, ready: "_Ready", rows: Flags
    ) -> tuple[PerImage, PerImage, Parameters]:
        """The same with redirected gradients in some rows."""
        if self._presumes and self._doubted == 0:
            presumed = Presumed(rows & self._stopping.runs)
            told = self._told(ready, ready.accelerated.redirecting(rows, presumed))
            if not presumed.is_refuted:
                return told
            self._doubted = DOUBTED
        self._doubted = max(0, self._doubted - 1)
        return self._told(ready, ready.accelerated.redirecting(rows))

    def ended(self) -> list[tuple[int, Finished]]:
        """The pictures that are done, by the number of their recipe; they leave their places."""
        done = [place for place, age in enumerate(self._ages) if age == self.first.steps]
        if self.first.stop is not None and self._steps_done % CHECK_EVERY == 0:
            runs = self._stopping.runs.view(len(self._places), -1).any(dim=1).tolist()
            stopped = (p for p, age in enumerate(self._ages) if age is not None and not runs[p])
            done = sorted({*done, *stopped})
        if not done:
            return []
        rows, count = self._rows_of(done), self.first.count
        finished = self._finished(rows)
        self._stopping.end(rows)
        for place in done:
            self._ages[place] = None
        return [
            (self._numbers[place], finished.part(at * count, count))
            for at, place in enumerate(done)
        ]

    def _finished(self, rows: Rows) -> Finished:
        """What became of these rows, brought to the host together; each look would wait."""
        steps, stopping = self.first.steps, self._stopping
        with torch.no_grad():
            images = self.first.parameterization.decode(self._parameters)
        moved = stopping.moved[rows] | (steps == 1)  # of one step nothing is known
        return Finished(
            images[rows],
            self._course[:steps, rows].cpu(),
            stopping.numbers[rows].cpu(),
            stopping.is_finite[rows].cpu(),
            moved.cpu(),
        )

    def _at_once(self, places: Iterable[int]) -> list[list[int]]:
        """Places whose pictures may begin together: on a CPU the rounding of a number depends on
        where in a tensor it lies, so there each recipe is on its own, as are given images."""
        groups: dict[int, list[int]] = {}
        is_free = self.network.device.type == "cuda"
        for place in places:
            is_noise = self._places[place].start is None
            groups.setdefault(-1 if is_free and is_noise else place, []).append(place)
        return list(groups.values())

    def _begin(self, places: Sequence[int]) -> None:
        """The pictures that have just come to these places begin."""
        recipes = [self._places[place] for place in places]
        rows = self._rows_of(places)
        numbers = [recipe.seed + index for recipe in recipes for index in range(recipe.count)]
        seeds = torch.tensor(numbers, dtype=torch.int64, device=rows.device)
        self._seeds[rows] = seeds
        start = starting_parameters(recipes[0], seeds, dtype=self._dtype)
        self._ascent.restart(self._parameters, start, rows, torch.ones_like(rows) > 0)
        self._stopping.begin(rows)
        self._motion.begin(rows, seeds)
        self._course[:, rows] = torch.nan

    def _wake(self) -> None:
        """Rows that have not stirred when their redirected steps are over begin again, louder."""
        waking = [
            place
            for place, (recipe, age) in enumerate(zip(self._places, self._ages, strict=True))
            if age is not None and recipe.start is None and wakes(recipe, age)
        ]
        for places in self._at_once(waking):
            rows = self._rows_of(places)
            asleep = ~self._stopping.moved[rows] & self._stopping.runs[rows]
            loud = loud_parameters(self.first, self._seeds[rows], dtype=self._dtype)
            self._ascent.restart(self._parameters, loud, rows, asleep)

    def _rows_of(self, places: Sequence[int]) -> Rows:
        count = self.first.count
        rows = [place * count + index for place in places for index in range(count)]
        return torch.tensor(rows, dtype=torch.int64, device=self._rows.device)

    def _made_ready(self) -> "_Ready":
        """What the present rows need; the tensors stay the same where only their values differ."""
        if self._ready is None or self._is_stale:
            new = _Ready.of(self.network, self._places)
            old, self._is_stale = self._ready, False
            is_alike = old is not None and old.prefix.wanted == new.prefix.wanted
            if old is None or not is_alike or not old.takes_over(new):
                self._ready = new
                if self._captures is not None:
                    self._captures.forget()
        assert self._ready is not None
        return self._ready


@dataclass(frozen=True)
class _Ready:
    """What a batch needs that depends on who is in it."""

    prefix: Prefix
    program: Program
    accelerated: Accelerated
    deeper: dict[int, Flags]
    """For operations that are read on the way: which rows need what lies beyond them."""

    def takes_over(self, other: "_Ready") -> bool:
        """See `Program.takes_over`."""
        if self.deeper.keys() != other.deeper.keys() or not self.program.takes_over(other.program):
            return False
        for index, rows in self.deeper.items():
            rows.copy_(other.deeper[index])
        return True

    @classmethod
    def of(cls, network: Network, recipes: Sequence[Recipe]) -> "_Ready":
        first = recipes[0]
        shape = first.shape
        rows, columns = first.transforms.output_size(shape.rows, shape.columns)
        prefix = prefix_of(network, recipes, rows, columns)
        canvas = torch.empty(
            (len(recipes) * first.count, shape.channels, shape.rows, shape.columns),
            dtype=working_dtype(network),
            device=network.device,
        )
        return cls(
            prefix,
            program(recipes, prefix, like=canvas),
            accelerated(network, rows, columns).reading(prefix.wanted.operations),
            _deeper(prefix, recipes, network.device),
        )


def _deeper(prefix: Prefix, recipes: Sequence[Recipe], device: torch.device) -> dict[int, Flags]:
    """Which rows of a batch need more of the network than each operation that it reads."""
    wanted = prefix.wanted.operations
    place = {key: index for index, reading in wanted.items() for key in reading.keys}
    depths = [
        max((place[key] for key in recipe.objective.layers), default=-1)
        for recipe in recipes
        for _ in range(recipe.count)
    ]
    return {
        index: torch.tensor([depth > index for depth in depths], device=device)
        for index in wanted
        if any(depth <= index for depth in depths) and index != prefix.wanted.last
    }
