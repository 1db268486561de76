"""The reference images that say most to a unit, kept small in a store, each once."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image

from featviz.atlas.references import References
from featviz.atlas.store import EXEMPLARS, Store
from featviz.image.parameterizations import Shape

EXEMPLAR_PX = 128
"""Side of the square that is kept of an image, around its center as networks see it."""


class Exemplars:
    """Keeps in a store what evidence names of some references."""

    def __init__(self, store: Store, references: References) -> None:
        self.store = store
        self.references = references
        self._waiting = {file: number for number, file in enumerate(references.files)}

    def keep(self, evidence: Mapping[str, Any] | None) -> None:
        """Keeps the exemplars of evidence (its JSON) by these references, where they are not yet.

        Raises NotAvailable where an image is gone or nothing can be written.
        """
        for name, file, _ in exemplars_of(evidence):
            is_ours = evidence is not None and evidence.get("references") == self.references.name
            number = self._waiting.pop(file, None) if is_ours else None
            if number is not None and not self.store.files.exists(name):
                self.store.files.create(name, self._small(number))

    def _small(self, number: int) -> bytes:
        (image,) = self.references.images([number], Shape(3, EXEMPLAR_PX, EXEMPLAR_PX))
        pixels = (255 * image).round().byte().movedim(0, -1).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="WEBP", quality=80)
        return file.getvalue()


def exemplars_of(evidence: Mapping[str, Any] | None) -> Iterator[tuple[str, str, float]]:
    """Of evidence as JSON: the name in the store, the image's file, the objective's value."""
    data = evidence or {}
    listed = data.get("exemplars")
    for each in listed if isinstance(listed, list | tuple) else ():
        match each:
            case [str(file), int() | float() as value]:
                yield exemplar_name(str(data.get("references")), file), file, value


def exemplar_name(references: str, file: str) -> str:
    """Where an image of some references is kept."""
    digest = hashlib.sha256(f"{references}/{file}".encode()).hexdigest()[:32]
    return f"{EXEMPLARS}/{digest[:2]}/{digest}.webp"
