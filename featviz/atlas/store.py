"""The folder or URL of an atlas: pictures by digest, a record beside each, whose network it is.

A picture is there when its record is, which is written last. What a config does not name any
more stays.
"""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from featviz.atlas.files import Files, Folder, files_at
from featviz.atlas.record import Record, record_of, sha256
from featviz.engine.picture import Picture
from featviz.errors import DoesNotFit, Malformed
from featviz.network.network import Network

FORMAT = 1
"""Of the store; older featviz refuses newer ones."""
HEAD, LAYERS, PLAN = "atlas.json", "layers.json", "plan.json"
CLAIMS = "claims"
"""A folder with a file for each recipe that a build has in work, or had when it was killed."""
EXEMPLARS = "exemplars"
"""A folder of small reference images that evidence names."""
FOLDERS = {"picture": "pictures", "thumbnail": "thumbnails", "lossy": "lossy"}
"""Of each kind of file that a picture has."""
THUMBNAIL_PX = 64
_KEY = re.compile(r"[0-9a-f]{32}-\d+")


@dataclass(frozen=True)
class Store:
    """Files of one network's pictures; several may write at once."""

    files: Files

    @classmethod
    def at(cls, place: str | Path) -> "Store":
        """The store in a folder or at a URL, which need not be there. Raises NotAvailable."""
        return cls(files_at(place))

    @property
    def place(self) -> str:
        """As people write it."""
        return self.files.place

    @property
    def folder(self) -> Path | None:
        """Where it lies on this machine; None for a URL."""
        return self.files.path if isinstance(self.files, Folder) else None

    def head(self) -> dict[str, Any]:
        """Whose store it is. Raises Malformed, DoesNotFit where it is none of ours."""
        data = self._json(HEAD, hint="; without it the next `featviz atlas` writes it anew")
        if data is None:
            raise DoesNotFit(
                f"the store {self.place!r}", got=f"no {HEAD}", expected="what `featviz atlas` makes"
            )
        if data.get("format") != FORMAT:
            is_newer = isinstance(data.get("format"), int) and data["format"] > FORMAT
            raise DoesNotFit(
                f"the store {self.place!r}",
                got=f"format {data.get('format')}",
                expected=f"{FORMAT}{'; a newer featviz made it' if is_newer else ''}",
            )
        return data

    def claim(self, network: Network) -> None:
        """Makes it the network's, or sees that it is.

        Raises DoesNotFit, Malformed, NotAvailable.
        """
        about = {"format": FORMAT, "network": network.name, "fingerprint": network.fingerprint}
        if not self.files.create(HEAD, _encoded(about)):
            self.check_owner(network)

    def check_owner(self, network: Network) -> None:
        """Raises DoesNotFit where the store is another network's, and what `head` raises."""
        head = self.head()
        if head.get("fingerprint") != network.fingerprint:
            raise DoesNotFit(
                f"the store {self.place!r}",
                got=f"pictures of {head.get('network')} with fingerprint {head.get('fingerprint')}",
                expected=f"{network.name} with {network.fingerprint}; choose another --out",
            )

    def put(
        self, picture: Picture, *, seconds: float = 0.0, formats: tuple[str, ...] = ()
    ) -> Record:
        """Keeps a picture, or the one that is there: the first of a recipe stays.

        `formats`: "webp" for a lossless WebP in place of PNG, "jpeg" for a copy at quality 90.
        Raises NotAvailable where nothing can be written.
        """
        key = f"{picture.recipe.digest}-{picture.index}"
        kept = self.get(key)
        if kept is not None:
            return kept
        named = {
            kind: self._kept(file_of(kind, key, suffix), content)
            for kind, suffix, content in _contents(picture, formats)
        }
        record = record_of(picture, seconds=seconds, files=named)
        if not self.files.create(record_name(key), record.to_json()):
            first = self.get(key)
            if first is not None:
                return first
            self.files.write(record_name(key), record.to_json())  # what is there is damaged
        return record

    def _kept(self, name: str, content: bytes) -> tuple[str, str]:
        """Writes a picture's file; returns its name and SHA-256.

        Where another writer, or one that died before its record, left other bytes, the name gets
        some of its SHA-256: theirs may be the first yet.
        """
        sha = sha256(content)
        if not self.files.create(name, content) and self.files.read(name) != content:
            stem, _, suffix = name.rpartition(".")
            name = f"{stem}.{sha[:8]}.{suffix}"
            self.files.write(name, content)
        return name, sha

    def forget(self, key: str) -> None:
        """Makes a picture missing again: its record, its evidence. Raises NotAvailable."""
        for name in (evidence_name(key), record_name(key)):
            self.files.remove(name)

    def get(self, key: str) -> Record | None:
        """The record of a picture; None where there is none, or none that can be read.

        Raises DoesNotFit where a newer featviz wrote it, NotAvailable.
        """
        try:
            return self.record(key)
        except (FileNotFoundError, Malformed):
            return None

    def holds(self, key: str) -> bool:
        """Whether a picture's record and all of its files are there; their bytes are not read."""
        record = self.get(key)
        return record is not None and all(
            self.files.exists(name) for name, _ in record.files.values()
        )

    def record(self, key: str) -> Record:
        """The record of a picture.

        Raises FileNotFoundError, Malformed, DoesNotFit where it is newer, NotAvailable.
        """
        name = record_name(key)
        record = Record.from_json(self.files.read(name), name)
        if record.key != key:
            raise Malformed("the record", name, expected=f"that of {key}, not of {record.key}")
        return record

    def kept_keys(self) -> Iterator[str]:
        """Of all pictures that have a record, readable or not."""
        for name in self.files.names("records"):
            key = PurePosixPath(name).stem
            if _KEY.fullmatch(key) and name == record_name(key):
                yield key

    def records(self) -> Iterator[Record]:
        """All that can be read, by key."""
        for key in self.kept_keys():
            record = self.get(key)
            if record is not None:
                yield record

    def read(self, record: Record, kind: str = "picture") -> bytes:
        """One of a record's files.

        Raises KeyError where it has none of this kind, FileNotFoundError, Malformed where it is
        damaged, NotAvailable.
        """
        name, sha = record.files[kind]
        content = self.files.read(name)
        if sha256(content) != sha:
            raise Malformed("the picture", name, expected="the bytes that its record names")
        return content

    def evidence(self, key: str) -> dict[str, Any] | None:
        """What was measured of a picture; None where nothing is, or nothing readable."""
        try:
            return self._json(evidence_name(key))
        except Malformed:
            return None

    def write_evidence(self, key: str, data: dict[str, Any]) -> None:
        """Replaces what was measured. Raises NotAvailable."""
        self.files.write(evidence_name(key), _encoded(data))

    def plan_data(self) -> dict[str, Any] | None:
        """What the last build asked for. Raises Malformed."""
        return self._formatted(PLAN, "entries")

    def layers_data(self) -> dict[str, Any] | None:
        """The network's layers. Raises Malformed."""
        return self._formatted(LAYERS, "layers")

    def _formatted(self, name: str, listed: str) -> dict[str, Any] | None:
        data = self._json(name)
        if data is None or (data.get("format") == FORMAT and isinstance(data.get(listed), list)):
            return data
        raise Malformed("the file", f"{self.place}/{name}", expected=f"format {FORMAT}, {listed}")

    def write_json(self, name: str, data: dict[str, Any]) -> None:
        """Replaces a file of the store's top. Raises NotAvailable."""
        self.files.write(name, _encoded(data))

    def _json(self, name: str, *, hint: str = "") -> dict[str, Any] | None:
        where = f"{self.place}/{name}"
        try:
            data = json.loads(self.files.read(name))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Malformed("the file", where, expected=f"whole JSON{hint}") from error
        if not isinstance(data, dict):
            raise Malformed("the file", where, expected=f"a JSON object{hint}")
        return data


def record_name(key: str) -> str:
    """Where the record of a picture is."""
    return f"records/{key[:2]}/{key}.json"


def evidence_name(key: str) -> str:
    """Where the evidence of a picture is."""
    return f"evidence/{key[:2]}/{key}.json"


def file_of(kind: str, key: str, suffix: str) -> str:
    """The name of a picture's file in the store."""
    return f"{FOLDERS[kind]}/{key[:2]}/{key}{suffix}"


def is_finished(name: str) -> bool:
    """Whether a file is more than what a dead writer left."""
    return not name.rpartition("/")[2].startswith(".")


def _contents(picture: Picture, formats: tuple[str, ...]) -> Iterator[tuple[str, str, bytes]]:
    suffix = ".webp" if "webp" in formats else ".png"
    yield "picture", suffix, picture.encoded(suffix)
    image = Image.fromarray(
        picture.pixels.squeeze(2) if picture.pixels.shape[2] == 1 else picture.pixels
    )
    if "jpeg" in formats:
        yield "lossy", ".jpg", _saved(image, format="JPEG", quality=90, subsampling=0)
    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    yield "thumbnail", ".webp", _saved(small, format="WEBP", quality=80)


def _saved(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def _encoded(data: dict[str, Any]) -> bytes:
    return (json.dumps(data) + "\n").encode()
