"""The folder of an atlas: a file for each picture, named by its recipe's digest."""

from dataclasses import dataclass
from pathlib import Path

from featviz.engine.picture import Picture, read_evidence
from featviz.engine.recipe import Recipe
from featviz.errors import FeatvizError


@dataclass(frozen=True)
class Record:
    """What the store knows of a picture, read from its file."""

    path: Path
    recipe: Recipe
    score: float | None
    verdict: str
    steps: int


@dataclass(frozen=True)
class Store:
    """Pictures in a folder; each appears whole or not at all."""

    folder: Path

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    def put(self, picture: Picture) -> Record:
        """Keeps a picture, or the one that is there: the first of a recipe stays.

        Raises NotAvailable when the folder cannot be written.
        """
        kept = self.get(picture.recipe, picture.index)
        if kept is not None:
            return kept
        path = picture.save(self._path(picture.recipe, picture.index))
        evidence = picture.evidence()
        return Record(path, picture.recipe, evidence["score"], picture.verdict, picture.steps)

    def get(self, recipe: Recipe, index: int = 0) -> Record | None:
        """What is kept of a recipe's picture; None where nothing is, or nothing readable."""
        path = self._path(recipe, index)
        if not path.is_file():
            return None
        try:
            data = read_evidence(path)
            kept = Recipe.from_data(data["recipe"])
            record = Record(path, recipe, data["score"], data["verdict"], data["steps"])
        except (FeatvizError, KeyError, TypeError):
            return None
        return record if kept.digest == recipe.digest else None

    def _path(self, recipe: Recipe, index: int) -> Path:
        return self.pictures / f"{recipe.digest}-{index}.png"
