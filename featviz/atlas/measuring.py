"""Measuring the evidence that pictures of a store lack."""

from collections.abc import Mapping, Sequence

import numpy as np

from featviz.atlas.entry import Entry
from featviz.atlas.evidence import Evidence, evidence_of, set_name
from featviz.atlas.exemplars import Exemplars
from featviz.atlas.plan import Plan
from featviz.atlas.quality import Judge, Judged, grouped, is_current, set_key, with_sets
from featviz.atlas.store import Store
from featviz.atlas.tally import Progress
from featviz.engine.recipe import Recipe
from featviz.errors import Malformed
from featviz.image.decoding import decoded

JUDGED_AT_ONCE = 64
"""Pictures whose evidence is measured before it is written."""


def measure(judge: Judge, store: Store, asked: Plan, *, progress: Progress) -> int:
    """Measures what has no evidence yet, or evidence of another file, by other references or by
    older measures; returns how many pictures that were.

    A picture that cannot be read has none. The photographs that evidence names are kept first.
    Raises DoesNotFit, NotAvailable.
    """
    work = _Measuring(judge, store, {recipe.digest: recipe for recipe in asked.recipes})
    todo = [entry for entry in asked.entries if work.lacks(entry)]
    judge.prepare({each.digest: work.recipes[each.digest] for each in todo}.values())
    measured = 0
    with progress("measurements", len(todo)) as tally:
        for start in range(0, len(todo), JUDGED_AT_ONCE):
            some = todo[start : start + JUDGED_AT_ONCE]
            measured += work.measure(some)
            tally.advance(float(len(some)))
    for entries in grouped(asked.entries, key=lambda e: set_key(work.recipes[e.digest])).values():
        work.compare(entries)
    return measured


class _Measuring:
    """What is known of the pictures of a plan while they are measured."""

    def __init__(self, judge: Judge, store: Store, recipes: Mapping[str, Recipe]) -> None:
        self.judge = judge
        self.store = store
        self.recipes = recipes
        self._exemplars = Exemplars(store, judge.references)
        self._known: dict[str, Evidence] = {}
        """By the key of the picture: what the store has that is still true."""
        self._rendered: set[str] = set()
        """Keys of pictures that show something."""

    def lacks(self, entry: Entry) -> bool:
        """Whether a picture that is there has to be measured."""
        record = self.store.get(entry.key)
        if record is None:
            return False
        if record.verdict == "rendered":
            self._rendered.add(entry.key)
        evidence = evidence_of(self.store, entry.key)
        sha = record.files["picture"][1]
        if evidence is None or not is_current(evidence, self.judge.references, sha):
            return True
        if self._exemplars.keep(evidence) != evidence:
            return True
        self._known[entry.key] = evidence
        return False

    def measure(self, entries: Sequence[Entry]) -> int:
        """Measures pictures, each alone; returns how many could be read."""
        part = [each for entry in entries if (each := self._read(entry)) is not None]
        for judged, evidence in zip(part, self.judge.evidence(part), strict=True):
            self._write(judged.key, self._exemplars.keep(evidence))
        return len(part)

    def compare(self, entries: Sequence[Entry]) -> None:
        """Adds what pictures of one `set_key` say together, where the store has not this set."""
        measured = [entry for entry in entries if entry.key in self._known]
        members = [entry.key for entry in measured if entry.key in self._rendered]
        name = set_name(members) if len(members) > 1 else ""
        wanted = {entry.key: name if entry.key in members else "" for entry in measured}
        if all(self._known[key].of_set == of_set for key, of_set in wanted.items()):
            return
        read = [each for entry in measured if (each := self._read(entry)) is not None]
        known = [(judged, self._known[judged.key]) for judged in read]
        for (judged, _), evidence in zip(known, with_sets(self.judge, known), strict=True):
            self._write(judged.key, evidence)

    def _write(self, key: str, evidence: Evidence) -> None:
        self.store.write_evidence(key, evidence.to_data())
        self._known[key] = evidence

    def _read(self, entry: Entry) -> Judged | None:
        """A picture of the store; None where it cannot be read."""
        record = self.store.get(entry.key)
        if record is None:
            return None
        try:
            pixels = np.array(decoded(self.store.read(record), record.files["picture"][0]))
        except (FileNotFoundError, Malformed):
            return None
        planes = pixels if pixels.ndim == 3 else pixels[..., None]
        sha = record.files["picture"][1]
        return Judged(self.recipes[entry.digest], entry.index, planes, record.verdict, sha)
