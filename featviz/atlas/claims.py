"""Which recipes a store lacks, and which of them a build has in work, so that two share them."""

from collections.abc import Sequence
from types import TracebackType
from uuid import uuid4

from featviz.atlas.store import CLAIMS, Store
from featviz.engine.recipe import Recipe


def missing_recipes(store: Store, recipes: Sequence[Recipe]) -> list[Recipe]:
    """Those of which a picture, or one of its files, is not there; such records are dropped."""
    missing = []
    for recipe in recipes:
        lost = [key for key in _keys(recipe) if not store.holds(key)]
        for key in lost:
            if store.get(key) is not None:
                store.forget(key)
        if lost:
            missing.append(recipe)
    return missing


def _keys(recipe: Recipe) -> list[str]:
    return [f"{recipe.digest}-{index}" for index in range(recipe.count)]


class Claims:
    """A context of a build; what it has claimed is free again when it is left.

    The claims of a build that was killed stay until another has made their pictures.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._me = uuid4().hex.encode()
        self._mine: set[str] = set()

    def __enter__(self) -> "Claims":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for name in list(self._mine):
            self._store.files.remove(name)

    def is_elsewhere(self, recipe: Recipe) -> bool:
        """Whether its pictures are there, or another build has it in work; else it is ours now."""
        if self.is_done(recipe):
            return True
        name = f"{CLAIMS}/{recipe.digest}"
        if name in self._mine:  # begun before, when memory ran out
            return False
        if not self._store.files.create(name, self._me):
            return True
        self._mine.add(name)
        return False

    def is_done(self, recipe: Recipe) -> bool:
        """Whether its pictures are there."""
        return not missing_recipes(self._store, [recipe])

    def drop(self, recipe: Recipe) -> None:
        """Its pictures are there: nobody's claim holds any more."""
        name = f"{CLAIMS}/{recipe.digest}"
        self._mine.discard(name)
        self._store.files.remove(name)
