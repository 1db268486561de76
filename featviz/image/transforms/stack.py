"""Members in a row, drawn and applied together; each geometric run is one resampling."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import torch
from torch import Tensor

from featviz.errors import DoesNotFit
from featviz.image.transforms.geometric import Crop, Jitter, Pad, Rotate, Scale, border_of
from featviz.image.transforms.kinds import Geometric, Photometric
from featviz.image.warp import (
    Affine,
    Border,
    Colors,
    Fill,
    Reflect,
    Resampled,
    compose,
    is_colored,
    resample,
)
from featviz.shapes import Images, Seeds, Steps

Member = Geometric | Photometric


@dataclass(frozen=True)
class Stack:
    """Transforms in the order in which they happen."""

    members: tuple[Member, ...] = ()

    def __post_init__(self) -> None:
        """Takes a list as well.

        Raises DoesNotFit when it holds something else than transforms, or when two Pads of one
        geometric run disagree about the border.
        """
        object.__setattr__(self, "members", _checked(self.members))
        for run in _runs(self.members):
            _border(run)

    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of the result."""
        for member in self.members:
            if isinstance(member, Geometric):
                rows, columns = member.output_size(rows, columns)
        return rows, columns

    def reach_px(self, distance_px: float) -> float:
        """How far at most its members together move what lies at this distance from the center."""
        moved = 0.0
        for member in self.members:
            if isinstance(member, Geometric):
                moved += member.reach_px(distance_px + moved)
        return moved

    def draw(self, seeds: Seeds, steps: Steps) -> tuple[Tensor, ...]:
        """What every member draws for every row, a pure function of its seed and step."""
        return tuple(
            member.draw(seeds, steps, place=place) for place, member in enumerate(self.members)
        )

    def apply(self, images: Images, draws: tuple[Tensor, ...]) -> Resampled:
        """The transformed pictures, a pure function of images and draws."""
        rows, columns = images.shape[-2:]
        return self.run(images, self.prepare(draws, rows, columns, dtype=images.dtype))

    def prepare(
        self, draws: tuple[Tensor, ...], rows: int, columns: int, *, dtype: torch.dtype
    ) -> tuple[Tensor, ...]:
        """What draws mean for pictures of this size: one affine map for each geometric run, the
        draws of each photometric member."""
        prepared, start = list[Tensor](), 0
        for run in _runs(self.members):
            drawn = [_in_dtype(each, dtype) for each in draws[start : start + len(run)]]
            start += len(run)
            if isinstance(run[0], Photometric):
                prepared.append(drawn[0])
                continue
            affine, rows, columns = _composed(run, drawn, rows, columns)
            prepared.append(affine)
        return tuple(prepared)

    def is_colored(self, images: Images) -> bool:
        """Whether `run` can change colors at the end: where it ends in a resampling that can."""
        *_, last = [(), *_runs(self.members)]
        is_geometric = bool(last) and isinstance(last[0], Geometric)
        return is_geometric and is_colored(images, _border(last))

    def run(
        self, images: Images, prepared: tuple[Tensor, ...], *, colors: Colors | None = None
    ) -> Resampled:
        """The transformed pictures, as `prepare` says; with other colors at the end where
        `is_colored`."""
        for place, (run, values) in enumerate(
            zip(_runs(self.members), prepared, strict=True), start=1
        ):
            if isinstance(run[0], Photometric):
                images = run[0].apply(images, values)
                continue
            rows, columns = Stack(run).output_size(*images.shape[-2:])
            own = colors if place == len(prepared) else None
            border = _border(run)
            images = resample(images, values, rows=rows, columns=columns, border=border, colors=own)
        return images


def lucid() -> Stack:
    """The standard transforms of Lucid; the canvas grows by 12 px.

    Source: tensorflow/lucid v0.3.10, lucid/optvis/transform.py, "standard_transforms".
    Deviation: each picture draws for itself; factors and angles are continuous in place of 11
    factors and of 21 angles with five more zeros (Lucid leaves 6 of 26 pictures unturned, here
    none); scaling keeps the canvas; outside lies grey throughout, also after the rotation, where
    Lucid has black; one resampling in place of two.
    """
    return Stack(
        (
            *(Pad(12, border=Fill(0.5)), Jitter(4), Crop(4)),
            *(Scale(0.9, 1.1), Rotate(10.0)),
            *(Jitter(2), Crop(2)),
        )
    )


@cache
def standard() -> Stack:
    """About half as strong as Lucid's, on a canvas of the picture's own size, without a frame.

    Source: our own trial of 16 units (LOG.md).
    """
    return Stack((Jitter(4), Scale(0.95, 1.05), Rotate(5.0)))


def strong() -> Stack:
    """For late layers, whose units accept larger changes and whose pictures need the help."""
    return Stack((Jitter(16), Scale(0.75, 1.25), Rotate(20.0)))


def _checked(members: Iterable[object]) -> tuple[object, ...]:
    kept = tuple(members)
    for member in kept:
        if not isinstance(member, Member):
            kind = type(member).__name__
            raise DoesNotFit("a member of a Stack", got=kind, expected="a transform")
    return kept


def _runs(members: tuple[Member, ...]) -> Iterator[tuple[Member, ...]]:
    """Neighbouring geometric members together, the others one by one."""
    for geometric, run in groupby(members, key=lambda member: isinstance(member, Geometric)):
        if geometric:
            yield tuple(run)
        else:
            yield from ((member,) for member in run)


def _composed(
    run: tuple[Member, ...], draws: Iterable[Tensor], rows: int, columns: int
) -> tuple[Affine, int, int]:
    """One map for a geometric run, and the size of its output."""
    total: Affine | None = None
    for member, drawn in zip(run, draws, strict=True):
        assert isinstance(member, Geometric)
        affine = member.affine(drawn, rows, columns)
        # The last member knows the output's pixels, so it is asked first.
        total = affine if total is None else compose(total, affine)
        rows, columns = member.output_size(rows, columns)
    assert total is not None
    return total, rows, columns


def _border(run: tuple[Member, ...]) -> Border:
    borders = {border_of(member.border) for member in run if isinstance(member, Pad)}
    if len(borders) > 1:
        raise DoesNotFit(
            "borders of the pads in one geometric run",
            got=", ".join(sorted(map(str, borders))),
            expected="the same border for all",
            hint="they share one resampling; put a photometric member between them",
        )
    return borders.pop() if borders else Reflect()


def _in_dtype(draws: Tensor, dtype: torch.dtype) -> Tensor:
    return draws.to(dtype) if draws.is_floating_point() else draws
