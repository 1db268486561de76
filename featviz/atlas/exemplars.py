"""The reference images that say most to a unit, kept small in a store, each once."""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from PIL import Image

from featviz.atlas.evidence import Evidence
from featviz.atlas.record import sha256
from featviz.atlas.references import References
from featviz.atlas.store import EXEMPLARS, Store
from featviz.image.parameterizations import Shape

EXEMPLAR_PX = 128
"""Side of the square that is kept of an image, around its center."""
_SHA = re.compile("[0-9a-f]{64}")


class Exemplars:
    """Keeps in a store what evidence names of some references."""

    def __init__(self, store: Store, references: References) -> None:
        self.store = store
        self.references = references
        self._numbers = {file: number for number, file in enumerate(references.files)}
        self._kept: dict[str, str] = {}
        """By file: the SHA-256 of the copy that is in the store."""

    def keep(self, evidence: Evidence) -> Evidence:
        """Keeps copies of the exemplars of evidence, where they are not yet; says their SHA-256.

        Those of other references stay as they are. Raises NotAvailable where an image is gone or
        nothing can be written.
        """
        if evidence.references != self.references.name:
            return evidence
        named = ((file, value, self._copy(file)) for file, value, _ in evidence.exemplars)
        return replace(evidence, exemplars=tuple(named))

    def _copy(self, file: str) -> str:
        if file not in self._kept:
            content = self._small(self._numbers[file])
            self._kept[file] = sha256(content)
            self.store.files.create(exemplar_name(self._kept[file]), content)
        return self._kept[file]

    def _small(self, number: int) -> bytes:
        (image,) = self.references.images([number], Shape(3, EXEMPLAR_PX, EXEMPLAR_PX))
        pixels = (255 * image).round().byte().movedim(0, -1).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="WEBP", quality=80)
        return file.getvalue()


def exemplars_of(evidence: Mapping[str, Any] | None) -> Iterator[tuple[str, float, str]]:
    """Of evidence as JSON: the image's file, the objective's value, the SHA-256 of the copy."""
    listed = (evidence or {}).get("exemplars")
    for each in listed if isinstance(listed, list | tuple) else ():
        match each:
            case [str(file), int() | float() as value, str(sha)] if _SHA.fullmatch(sha):
                yield file, value, sha


def exemplar_name(sha: str) -> str:
    """Where a copy with this SHA-256 is kept."""
    return f"{EXEMPLARS}/{sha[:2]}/{sha[:32]}.webp"
