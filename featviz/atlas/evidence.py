"""The numbers that say how far to trust a picture, as JSON; how they are measured is elsewhere."""

import hashlib
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

from featviz.atlas.held_out import FAMILY
from featviz.atlas.store import Store
from featviz.errors import Malformed

FORMAT = 1
"""Of the JSON."""
MEASURES = 3
"""Of the definitions behind the numbers: numbers of other ones are to be measured again."""


@dataclass(frozen=True)
class Evidence:
    """What was measured on a picture's saved bytes, in float32; None where it cannot be said.

    `references`: by which images responses were standardised. `picture`: the SHA-256 of the file
    that it was measured on, "" for none. `score`: the objective of exactly
    these pixels, without the terms that compare the pictures of a recipe. `held_out`: its mean
    under the draws of `held_out_family`. `rank`: how many of the `rank_of` channels of the unit's
    layer this picture excites more, each in standard deviations of its own responses to the
    references; `z`: the unit's own. `spectrum_gap`: see that module. `diversity`,
    `seed_stability`: see `featviz.atlas.quality.with_sets`. `exemplars`: the reference photographs
    with the highest values of the objective, best first: file, value, and the SHA-256 of the small
    copy that a store keeps ("" for none); see `featviz.atlas.standards.best_first`.
    `natural_ratio`: the score by the best value. `path_similarity`, `path_flag`: see
    `featviz.atlas.path`. `of_set`: the `set_name` of the pictures that diversity and stability are
    of, "" for none.
    """

    references: str
    score: float | None = None
    held_out: float | None = None
    held_out_family: str = FAMILY
    rank: int | None = None
    rank_of: int | None = None
    z: float | None = None
    spectrum_gap: float | None = None
    diversity: float | None = None
    seed_stability: float | None = None
    natural_ratio: float | None = None
    path_similarity: float | None = None
    path_flag: bool | None = None
    picture: str = ""
    exemplars: tuple[tuple[str, float, str], ...] = ()
    of_set: str = ""
    measures: int = MEASURES

    @property
    def held_out_ratio(self) -> float | None:
        """held_out / score; None where the score is not above 0."""
        if self.score is None or self.held_out is None:
            return None
        return ratio(self.held_out, self.score)

    @property
    def natural_best(self) -> str | None:
        """The file of the best exemplar; None without photographs."""
        return self.exemplars[0][0] if self.exemplars else None

    def to_data(self) -> dict[str, Any]:
        """As JSON can hold it."""
        derived = {key: getattr(self, key) for key in DERIVED}
        return {"format": FORMAT, **asdict(self), **derived}

    @classmethod
    def from_data(cls, data: Any) -> "Evidence":
        """The evidence that `to_data` wrote. Raises Malformed."""
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise Malformed("evidence", str(data)[:60], expected=f"evidence of format {FORMAT}")
        kept = {key: value for key, value in data.items() if key not in ("format", *DERIVED)}
        kinds = {each.name: each.type for each in fields(cls)}
        wrong = [
            *(f"the key {key!r}" for key in kept.keys() - kinds.keys()),
            *(f"no {key!r}" for key in kinds.keys() - kept.keys()),
            *(f"{key} {kept[key]!r}" for key in kept.keys() & kinds if not _fits(key, kept[key])),
        ]
        if wrong:
            raise Malformed("evidence", sorted(wrong)[0], expected="what featviz wrote")
        exemplars = tuple((file, value, sha) for file, value, sha in kept.pop("exemplars"))
        return cls(**kept, exemplars=exemplars)


def evidence_of(store: Store, key: str) -> Evidence | None:
    """What was measured of a store's picture; None where nothing is, or nothing of these measures.

    Raises NotAvailable.
    """
    data = store.evidence(key)
    try:
        return None if data is None else Evidence.from_data(data)
    except Malformed:
        return None


def set_name(keys: Iterable[str]) -> str:
    """Of pictures that say something together: a digest of their names in the store."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:32]


DERIVED = ("held_out_ratio", "natural_best")
"""Keys of the JSON that follow from others."""
WORDS = ("references", "picture", "held_out_family", "of_set")
COUNTS = ("rank", "rank_of", "measures")
ALWAYS = (*WORDS, "measures", "exemplars")


@dataclass(frozen=True)
class Specificity:
    """How well the pictures of a layer find their own unit among all of its channels.

    `count` pictures have a rank; in a share of `top_1` and `top_5` of them it is 0, below 5.
    """

    count: int
    top_1: float
    top_5: float
    median: float


def specificity(ranks: Iterable[int | float | None]) -> Specificity | None:
    """Of the ranks of some pictures, such as those of a layer; None where none has one."""
    known = [rank for rank in ranks if rank is not None]
    if not known:
        return None
    top_1, top_5 = (sum(rank < most for rank in known) / len(known) for most in (1, 5))
    return Specificity(len(known), top_1, top_5, float(statistics.median(known)))


def ratio(value: float, scale: float) -> float | None:
    """value / scale; None where the scale is not above 0 or the result is not finite."""
    return finite(value / scale) if scale > 0 else None


def finite(value: float) -> float | None:
    """The number; None for NaN and infinities, which JSON does not have."""
    return value if isfinite(value) else None


def _fits(key: str, value: object) -> bool:
    if value is None:
        return key not in ALWAYS
    if key in WORDS:
        return isinstance(value, str)
    if key == "path_flag":
        return isinstance(value, bool)
    if key == "exemplars":
        return isinstance(value, list | tuple) and all(_is_exemplar(each) for each in value)
    return _is_number(value) and (key not in COUNTS or isinstance(value, int))


def _is_exemplar(value: object) -> bool:
    match value:
        case [str(), number, str()]:
            return _is_number(number)
    return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
