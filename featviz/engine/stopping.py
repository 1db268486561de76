"""Which rows still run and which ever stirred, from each row's own course, on the device."""

import torch

from featviz.engine.recipe import Plateau
from featviz.shapes import Flags, PerImage, Rows, Steps


class Stopping:
    """The state of the rows of a batch, each at a step of its own; no row runs until it begins.

    Its tensors are changed in place, so that a captured step finds them where they were.
    """

    def __init__(
        self, stop: Plateau | None, count: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.stop = stop
        self.runs = torch.zeros(count, dtype=torch.bool, device=device)
        self.is_finite = ~self.runs
        self.moved = self.runs.clone()
        self.numbers = torch.zeros(count, dtype=torch.int64, device=device)
        """How many steps each row has behind it."""
        self._first = torch.zeros(count, dtype=dtype, device=device)
        self._window = torch.zeros(count, dtype=dtype, device=device)
        self._before = torch.full_like(self._window, -torch.inf)

    def begin(self, rows: Rows) -> None:
        """These rows start anew."""
        for flags, value in ((self.runs, True), (self.is_finite, True), (self.moved, False)):
            flags[rows] = value
        self.numbers[rows] = 0
        self._window[rows] = 0
        self._before[rows] = -torch.inf

    def end(self, rows: Rows) -> None:
        """These rows stop here."""
        self.runs[rows] = False

    def hear(self, values: PerImage) -> None:
        """Takes in what the network says at a step."""
        self._first.copy_(torch.where(self.numbers == 0, values, self._first))
        self.moved |= (values != self._first) & self.runs

    def see(self, values: PerImage, is_finite: Flags) -> None:
        """Takes in a step's values, and whether they and their gradients are numbers: rows that
        ran and are finite have one more step behind them."""
        self.is_finite &= is_finite | ~self.runs
        self.runs &= is_finite
        self.numbers += self.runs
        if self.stop is not None:
            self._look(self.stop, values)

    def _look(self, stop: Plateau, values: PerImage) -> None:
        self._window += values.nan_to_num()
        is_end: Steps | Flags = self.numbers % stop.window == 0
        mean = self._window / stop.window
        rise = (mean - self._before) / mean.abs().clamp(min=1e-12)
        is_flat = is_end & (self.numbers >= stop.minimum) & (rise < stop.tolerance)
        self.runs &= ~is_flat
        self._before.copy_(torch.where(is_end, mean, self._before))
        self._window.masked_fill_(is_end, 0)
