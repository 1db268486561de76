"""What the transforms do to each row at each of its steps, drawn once when a picture begins."""

import torch
from torch import Tensor

from featviz.engine.recipe import Recipe
from featviz.shapes import Rows, Seeds, Steps


class Motion:
    """For each run of a stack (see `Stack.prepare`) a table (step, row, ...) for a batch.

    A step then only picks from it.
    """

    def __init__(self, recipe: Recipe, rows: int, *, device: torch.device, dtype: torch.dtype):
        self._recipe = recipe
        self._dtype = dtype
        self._rows = torch.arange(rows, device=device)
        self._tables: tuple[Tensor, ...] | None = None

    def begin(self, rows: Rows, seeds: Seeds) -> None:
        """Draws for all steps of new pictures, and for the one after their last."""
        recipe, count = self._recipe, len(seeds)
        steps = torch.arange(recipe.steps + 1, device=seeds.device)
        shape = recipe.shape
        draws = recipe.transforms.draw(seeds.repeat(len(steps)), steps.repeat_interleave(count))
        made = recipe.transforms.prepare(draws, shape.rows, shape.columns, dtype=self._dtype)
        if self._tables is None:
            self._tables = tuple(
                each.new_zeros(len(steps), len(self._rows), *each.shape[1:]) for each in made
            )
        for table, each in zip(self._tables, made, strict=True):
            table[:, rows] = each.view(len(steps), count, *each.shape[1:])

    def at(self, numbers: Steps) -> tuple[Tensor, ...]:
        """What happens to each row at its step."""
        assert self._tables is not None
        return tuple(table[numbers, self._rows] for table in self._tables)

    @property
    def nbytes(self) -> int:
        """Of the tables."""
        return sum(table.nbytes for table in self._tables or ())
