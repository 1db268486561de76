"""Damage in a store, found and named; repaired, what is damaged is missing again.

What a killed build leaves is no damage: a file that was not finished, a picture before its record.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image, UnidentifiedImageError

from featviz.atlas.exemplars import exemplars_of
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

FOLDERS_OF_OURS = {*FOLDERS.values(), "records", "evidence", EXEMPLARS, CLAIMS}
OWN_NAME = re.compile(
    r"(pictures|thumbnails|lossy|evidence)/[0-9a-f]{2}/[0-9a-f]{32}-\d+(\.[0-9a-f]{8})?\.\w+"
    r"|exemplars/[0-9a-f]{2}/[0-9a-f]{32}\.webp|claims/[0-9a-f]{32}"
)

_NO_IMAGE = (UnidentifiedImageError, OSError, SyntaxError)


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
    shown: set[str] = set()
    whole = 0
    for key in store.kept_keys():
        damage, files = _of_record(store, key, fingerprint=str(head.get("fingerprint")))
        shown |= {name for name, _, _ in exemplars_of(store.evidence(key))}
        known |= {record_name(key), evidence_name(key), *files}
        whole += damage is None
        found += [] if damage is None else [damage]
    known |= shown
    found += _of_exemplars(store, shown)
    left = {name for name in names - known if not is_finished(name) or OWN_NAME.fullmatch(name)}
    found += [Damage(name, "no file of ours", (name,)) for name in names - known - left]
    unread = (name for name in names & known if name.startswith("evidence/"))
    found += [
        Damage(name, "evidence that cannot be read", (name,))
        for name in unread
        if store.evidence(PurePosixPath(name).stem) is None
    ]
    return Checked(tuple(sorted(found, key=lambda each: each.name)), tuple(sorted(left)), whole)


def _of_tops(store: Store) -> Iterator[Damage]:
    """The files that the next build writes anew."""
    for name, read in ((PLAN, store.plan_data), (LAYERS, store.layers_data)):
        try:
            read()
        except Malformed:
            yield Damage(name, "not readable", (name,))


def _of_exemplars(store: Store, names: set[str]) -> Iterator[Damage]:
    """Images that evidence names; a build with the same --images keeps them again."""
    for name in sorted(names):
        try:
            with Image.open(io.BytesIO(store.files.read(name))) as image:
                image.load()
        except FileNotFoundError:
            yield Damage(name, "missing, but evidence names it", ())
        except _NO_IMAGE:
            yield Damage(name, "truncated or no image", (name,))


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
    """What is wrong with a picture's file; nothing where it is whole."""
    try:
        content = store.files.read(name)
    except FileNotFoundError:
        return "missing, but a record names it"
    if sha256(content) == sha:
        return ""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except _NO_IMAGE:
        return "truncated or no image"
    return "not the file that its record names"
