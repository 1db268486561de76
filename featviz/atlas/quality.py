"""The judge: measures the evidence of pictures on their saved bytes, in float32, as they are.

No acceleration, no transforms of the recipe, each picture at its own size. What a picture gets
does not depend on what it is judged with: passes are always of the same shape.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import mean
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.atlas.evidence import MEASURES, Evidence, finite, ratio, set_name
from featviz.atlas.held_out import DRAWS, held_out
from featviz.atlas.path import path_of
from featviz.atlas.references import References
from featviz.atlas.spectrum_gap import spectrum_gap
from featviz.atlas.standards import EXEMPLARS, Standards, best_first, seen_by
from featviz.atlas.subject import Subject, subject_of
from featviz.engine.algebra import Objective
from featviz.engine.execution import check_device
from featviz.engine.picture import Verdict
from featviz.engine.program import Program
from featviz.engine.recipe import Recipe
from featviz.engine.render import images_from_hwc_uint8, reproducible
from featviz.engine.seen import Grid, Seen, grid_of
from featviz.errors import DoesNotFit
from featviz.network.network import Network
from featviz.network.recording import Prefix

AT_ONCE = {"cpu": 1, "cuda": 8}
"""Pictures of a pass, each with its held-out draws; passes that are not full are filled up."""
SHOWN = 1 + DRAWS
"""Rows that a picture takes: as it is, and its draws."""
Member = TypeVar("Member")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Judged:
    """The index-th picture of a recipe; `pixels` are (row, column, channel).

    `sha`: the SHA-256 of the file that they were read from, "" for none.
    """

    recipe: Recipe
    index: int
    pixels: NDArray[np.uint8]
    verdict: Verdict
    sha: str = ""

    @property
    def key(self) -> str:
        """Names the picture in a store."""
        return f"{self.recipe.digest}-{self.index}"


class Judge:
    """Measures pictures of one network, on its device or on another one."""

    def __init__(
        self, network: Network, references: References, *, device: str | None = None
    ) -> None:
        """Raises NotAvailable where there is no such device."""
        place = network.device if device is None else check_device(device)
        self.network = network.at(place, torch.float32)
        self.standards = Standards(self.network, references)

    @property
    def references(self) -> References:
        return self.standards.references

    def prepare(self, recipes: Iterable[Recipe]) -> None:
        """Measures on the references what these recipes need, in one pass for each size.

        `evidence` does so for what it is given; all recipes of an atlas at once save passes.
        """
        for shape, members in grouped(recipes, key=lambda recipe: recipe.shape).items():
            subjects = [subject_of(self.network, recipe) for recipe in members]
            asked = [each.objective for each in subjects if each.objective is not None]
            with reproducible():
                self.standards.learn(
                    shape,
                    [spot for each in subjects for spot in each.spots],
                    asked if self.references.files else [],
                )

    def evidence(self, pictures: Sequence[Judged]) -> list[Evidence]:
        """What is measured of each picture alone, in order.

        A picture that is not finite has none, one that is dead its score alone. Raises DoesNotFit
        where pixels or network are not the recipe's.
        """
        for each in pictures:
            self._check(each)
        self.prepare(each.recipe for each in pictures if each.verdict == "rendered")
        found = [Evidence(self.references.name, picture=each.sha) for each in pictures]
        measurable = [
            number
            for number, each in enumerate(pictures)
            if each.verdict != "not finite"
            and subject_of(self.network, each.recipe).objective is not None
        ]
        groups = grouped(measurable, key=lambda number: self._pass_key(pictures[number].recipe))
        at_once = AT_ONCE.get(self.network.device.type, AT_ONCE["cpu"])
        for group in groups.values():
            for start in range(0, len(group), at_once):
                part = group[start : start + at_once]
                measured = self._measured([pictures[number] for number in part], at_once)
                for number, evidence in zip(part, measured, strict=True):
                    found[number] = evidence
        return found

    def direction(self, picture: Judged) -> Tensor:
        """The standardised responses of the unit's layer, as a vector of length 1 (or 0).

        Read as the unit is: channel means, or one site. Where the recipe has no one unit, those of
        all layers that its objective reads, one after the other.
        """
        recipe = picture.recipe
        subject = subject_of(self.network, recipe)
        images = images_from_hwc_uint8(picture.pixels[None])
        with reproducible():
            seen = seen_by(self._prefix(recipe, subject), images)
        parts = [
            self.standards.spread(recipe.shape, spot).standardised(spot.read(seen))[0]
            for spot in subject.spots
        ]
        whole = torch.cat(parts) if parts else torch.zeros(1, dtype=torch.float64)
        return whole / whole.norm().clamp(min=1e-12)

    def _measured(self, pictures: Sequence[Judged], places: int) -> list[Evidence]:
        """The evidence of pictures of one `_pass_key`, in one pass of `places` pictures."""
        recipes = [each.recipe for each in pictures]
        subjects = [subject_of(self.network, recipe) for recipe in recipes]
        filled = [*pictures, *[pictures[-1]] * (places - len(pictures))]
        clean = images_from_hwc_uint8(np.stack([each.pixels for each in filled]))
        shown = torch.cat([clean[:, None], held_out(clean)], dim=1).flatten(0, 1)
        with reproducible():
            prefix = self._prefix(recipes[0], subjects[0])
            seen = seen_by(prefix, shown)
            asked = [*subjects, *[subjects[-1]] * (places - len(subjects))]
            objectives = [each.objective for each in asked for _ in range(SHOWN)]
            grids: dict[str, Grid] = {key: grid_of(each) for key, each in prefix.layers.items()}
            program = Program([o for o in objectives if o is not None], grids, like=seen.images)
            values = program(seen).double().cpu().view(places, SHOWN).tolist()
        return [
            self._of_one(judged, values[number], seen, number)
            for number, judged in enumerate(pictures)
        ]

    def _of_one(self, judged: Judged, values: Sequence[float], seen: Seen, number: int) -> Evidence:
        """`values`: the objective as it is and under the draws; the picture is the number-th."""
        evidence = Evidence(self.references.name, finite(values[0]), picture=judged.sha)
        if judged.verdict != "rendered" or evidence.score is None:
            return evidence
        subject = subject_of(self.network, judged.recipe)
        evidence = replace(
            evidence,
            held_out=finite(mean(values[1:])),
            spectrum_gap=spectrum_gap(judged.pixels),
            **self._specificity(judged.recipe, subject, seen, number * SHOWN),
        )
        if not self.references.files or subject.objective is None:
            return evidence
        return replace(evidence, **self._natural(judged, subject.objective, values[0]))

    def _specificity(
        self, recipe: Recipe, subject: Subject, seen: Seen, row: int
    ) -> dict[str, Any]:
        if subject.channel is None:
            return {}
        (spot,) = subject.spots
        responses = spot.read(seen)[row : row + 1]
        standard = self.standards.spread(recipe.shape, spot).standardised(responses)[0]
        standard = subject.sign * standard
        own = float(standard[subject.channel])
        if finite(own) is None:
            return {}
        return {"rank": int((standard > own).sum()), "rank_of": len(standard), "z": own}

    def _natural(self, judged: Judged, objective: Objective, score: float) -> dict[str, Any]:
        shape = judged.recipe.shape
        values = self.standards.values(shape, objective).double()
        files = self.references.files
        best = [(files[number], float(values[number]), "") for number in best_first(values)]
        with reproducible():
            path = path_of(self.standards, objective, judged.pixels)
        return {
            "natural_ratio": ratio(score, best[0][1]) if best else None,
            "exemplars": tuple(best[:EXEMPLARS]),
            "path_similarity": None if path is None else finite(path.similarity),
            "path_flag": None if path is None else path.is_unlike,
        }

    def _prefix(self, recipe: Recipe, subject: Subject) -> Prefix:
        layers = () if subject.objective is None else subject.objective.layers
        return Prefix(self.network, layers, rows=recipe.shape.rows, columns=recipe.shape.columns)

    def _pass_key(self, recipe: Recipe) -> Hashable:
        """Recipes of one key can be judged in one pass."""
        objective = subject_of(self.network, recipe).objective
        return recipe.shape, None if objective is None else objective.layers

    def _check(self, picture: Judged) -> None:
        recipe, shape = picture.recipe, picture.recipe.shape
        if recipe.network != self.network.fingerprint:
            raise DoesNotFit(
                f"a picture of {recipe.network_name}",
                got=f"network {self.network.name} with fingerprint {self.network.fingerprint}",
                expected=recipe.network,
            )
        if picture.pixels.shape != (shape.rows, shape.columns, shape.channels):
            raise DoesNotFit(
                f"the pixels of {picture.key}",
                got=picture.pixels.shape,
                expected=(shape.rows, shape.columns, shape.channels),
            )


def with_sets(judge: Judge, pictures: Sequence[tuple[Judged, Evidence]]) -> list[Evidence]:
    """The evidence, in order, with what only several pictures together say.

    `diversity`: of the pictures of one recipe, the mean over pairs of 1 - cosine between their
    `Judge.direction`. `seed_stability`: of pictures whose recipes differ in nothing but the seed,
    the mean cosine over pairs of different recipes that did not begin from the same noise (the
    members of a set have seeds in a row). All members of a group get the same number;
    a picture without company, or one that is not "rendered", None.

    Channel means forget where things are, so that a feature that has only moved is neither
    diverse nor unstable, and are standardised so that each channel counts alike, however loud.
    """
    found = [replace(each, diversity=None, seed_stability=None, of_set="") for _, each in pictures]
    rendered = [number for number, (each, _) in enumerate(pictures) if each.verdict == "rendered"]
    digests = {number: pictures[number][0].recipe.digest for number in rendered}
    groups = grouped(rendered, key=lambda n: set_key(pictures[n][0].recipe))
    for group in groups.values():
        if len(group) == 1:
            continue
        directions = {number: judge.direction(pictures[number][0]) for number in group}
        same: dict[str, list[float]] = {}
        other: list[float] = []
        for one, two in combinations(group, 2):
            cosine = float(directions[one] @ directions[two])
            if digests[one] == digests[two]:
                same.setdefault(digests[one], []).append(cosine)
            elif _noise(pictures[one][0]) != _noise(pictures[two][0]):
                other.append(cosine)
        name = set_name(pictures[number][0].key for number in group)
        for number in group:
            cosines = same.get(digests[number])
            found[number] = replace(
                found[number],
                diversity=1 - mean(cosines) if cosines else None,
                seed_stability=mean(other) if other else None,
                of_set=name,
            )
    return found


def _noise(picture: Judged) -> int:
    """The seed of this one picture."""
    return picture.recipe.seed + picture.index


def set_key(recipe: Recipe) -> str:
    """Pictures whose recipes have the same one differ in nothing but the seed or the index."""
    return replace(recipe, seed=0).digest


def is_current(evidence: Evidence, references: References, sha: str) -> bool:
    """Whether evidence is what would be measured today of a picture's file, but for its set.

    By these references; evidence by photographs is not given up for evidence by noise.
    """
    known = evidence.references
    is_by_these = known == references.name or (not references.files and known.startswith("images:"))
    return is_by_these and evidence.measures == MEASURES and evidence.picture == sha


def grouped(members: Iterable[Member], *, key: Callable[[Member], Key]) -> dict[Key, list[Member]]:
    """Members with the same key, in their order."""
    groups: dict[Key, list[Member]] = {}
    for member in members:
        groups.setdefault(key(member), []).append(member)
    return groups
