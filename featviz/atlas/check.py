"""Damage in a store, found and named; repaired, what is damaged is missing again.

What a killed build leaves is no damage: a file that was not finished, a picture before its record.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from featviz.atlas.entry import entries_of
from featviz.atlas.evidence import MEASURES, evidence_of
from featviz.atlas.exemplars import exemplar_name, exemplars_of
from featviz.atlas.ledger import layers_of
from featviz.atlas.record import sha256
from featviz.atlas.store import (
    CLAIMS,
    EXEMPLARS,
    FOLDERS,
    LAYERS,
    PLAN,
    Store,
    evidence_name,
    is_finished,
    record_name,
)
from featviz.errors import FeatvizError, Malformed
from featviz.image.decoding import decoded

FOLDERS_OF_OURS = {*FOLDERS.values(), "records", "evidence", EXEMPLARS, CLAIMS}
OWN_NAME = re.compile(
    r"(pictures|thumbnails|lossy|evidence)/[0-9a-f]{2}/[0-9a-f]{32}-\d+(\.[0-9a-f]{8})?\.\w+"
    r"|exemplars/[0-9a-f]{2}/[0-9a-f]{32}\.webp|claims/[0-9a-f]{32}"
)


@dataclass(frozen=True)
class Damage:
    """Something in a store that is not as it should be, and the files that a repair removes."""

    name: str
    what: str
    removes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


@dataclass(frozen=True)
class Checked:
    """What is damaged, by name; what stopped builds left; how many pictures are whole."""

    damages: tuple[Damage, ...]
    leftovers: tuple[str, ...]
    whole: int


def check(store: Store) -> Checked:
    """Looks at every file. Raises NotAvailable, and what `Store.head` raises."""
    head = store.head()
    names = {name for folder in sorted(FOLDERS_OF_OURS) for name in store.files.names(folder)}
    found = [*_of_tops(store)]
    known: set[str] = set()
    shown: dict[str, list[str]] = {}
    whole = 0
    for key in store.kept_keys():
        damage, files = _of_record(store, key, fingerprint=str(head.get("fingerprint")))
        for _, _, sha in exemplars_of(store.evidence(key)):
            shown.setdefault(sha, []).append(evidence_name(key))
        known |= {record_name(key), evidence_name(key), *files}
        whole += damage is None
        found += [] if damage is None else [damage]
    known |= {exemplar_name(sha) for sha in shown}
    found += _of_exemplars(store, shown)
    left = {name for name in names - known if not is_finished(name) or OWN_NAME.fullmatch(name)}
    found += [Damage(name, "no file of ours", (name,)) for name in names - known - left]
    unread = (name for name in names & known if name.startswith("evidence/"))
    found += [
        Damage(name, "evidence that cannot be read", (name,))
        for name in unread
        if not _is_evidence(store, PurePosixPath(name).stem)
    ]
    return Checked(tuple(sorted(found, key=lambda each: each.name)), tuple(sorted(left)), whole)


def _is_evidence(store: Store, key: str) -> bool:
    """Whether evidence can be read, or is of other measures and so measured again anyhow."""
    data = store.evidence(key)
    if data is None:
        return False
    return data.get("measures") != MEASURES or evidence_of(store, key) is not None


def _of_tops(store: Store) -> Iterator[Damage]:
    """The files that the next build writes anew."""
    for name, read in ((PLAN, entries_of), (LAYERS, layers_of)):
        try:
            read(store)
        except Malformed:
            yield Damage(name, "not readable", (name,))


def _of_exemplars(store: Store, shown: Mapping[str, list[str]]) -> Iterator[Damage]:
    """Copies that evidence names; it goes with them, and is measured again."""
    for sha, named_by in shown.items():
        name = exemplar_name(sha)
        what = _of_file(store, name, sha)
        if what:
            yield Damage(name, f"{what} (photograph)", (name, *named_by))


def repair(store: Store, checked: Checked) -> None:
    """Removes what is damaged, which the next build makes again, and what was left over.

    No build may be at work on the store. Raises NotAvailable.
    """
    for damage in checked.damages:
        for name in damage.removes:
            store.files.remove(name)
    for name in checked.leftovers:
        store.files.remove(name)


def _of_record(
    store: Store, key: str, *, fingerprint: str
) -> tuple[Damage | None, tuple[str, ...]]:
    """What is wrong with a record or the files that it names, and these files."""
    name, mine = record_name(key), (record_name(key), evidence_name(key))
    try:
        record = store.record(key)
    except (Malformed, FileNotFoundError) as error:
        return Damage(name, " ".join(str(error).split()), mine), ()
    try:
        recipe = record.asked()
    except FeatvizError as error:
        return Damage(name, " ".join(str(error).split()), mine), ()
    files = tuple(file for file, _ in record.files.values())
    if recipe.digest != record.digest:
        return Damage(name, "its recipe has another digest", mine), files
    if recipe.network != fingerprint:
        return Damage(name, f"a picture of another network, {recipe.network_name}", mine), files
    for kind, (file, sha) in sorted(record.files.items()):
        what = _of_file(store, file, sha)
        if what:
            return Damage(file, f"{what} ({kind})", (*mine, *files)), files
    return None, files


def _of_file(store: Store, name: str, sha: str) -> str:
    """What is wrong with a file of this SHA-256; nothing where it is whole."""
    try:
        content = store.files.read(name)
    except FileNotFoundError:
        return "missing, though it is named"
    if sha256(content) == sha:
        return ""
    try:
        decoded(content, name)
    except Malformed:
        return "truncated or no image"
    return "not the file that is named"
