"""Steps of Adam and its kin for many rows, each at a step of its own."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from featviz.engine.recipe import Adam, FactoredAdam
from featviz.kernels import kernels
from featviz.kernels.factored import LIMIT, scales
from featviz.kernels.rows import finite
from featviz.shapes import Flags, Rows, Steps


def ascent(settings: Adam, like: Tensor, *, steps: int) -> "Ascent":
    """Of the optimizer that the settings are of."""
    kind = FactoredAscent if isinstance(settings, FactoredAdam) else AdamAscent
    return kind(settings, like, steps=steps)


class Ascent(ABC):
    """An optimizer's state for a batch of rows; every row could be alone.

    The rates and corrections of all steps are laid out once, so that rows may be at different
    steps and nothing is computed on the host.
    """

    limit: ClassVar[float] = math.inf
    """Of what is taken for a number in a gradient."""

    def __init__(self, settings: Adam, like: Tensor, *, steps: int) -> None:
        self.settings = settings
        self.memory = (torch.zeros_like(like), *self._squares(like))
        """Of the past, a row for each of the batch: the mean of gradients, then of squares."""
        numbers = range(steps)
        self._sizes = like.new_tensor(
            [settings.rate(n, steps) / (1 - settings.beta1 ** (n + 1)) for n in numbers]
        )
        self._roots = like.new_tensor([(1 - settings.beta2 ** (n + 1)) ** 0.5 for n in numbers])

    def step(self, parameters: Tensor, gradient: Tensor, *, numbers: Steps, moves: Flags) -> Flags:
        """Moves the rows of `parameters` that `moves` names, in place, up along `gradient`, where
        that is numbers; the others stay. Returns which rows' gradients are numbers."""
        settings = self.settings
        room = kernels("ascent", parameters)
        if room is not None:
            return self._kernel(room)(
                *(parameters, gradient, self.memory),
                *((self._sizes, self._roots), numbers, moves),
                (settings.beta1, settings.beta2, settings.epsilon),
            )
        is_finite = finite(gradient, limit=self.limit)
        moves = moves & is_finite
        at = numbers.clamp(max=len(self._sizes) - 1)
        shape = (-1, *[1] * (parameters.ndim - 1))
        gradient = torch.where(moves.view(shape), gradient, 0)
        self.memory[0].lerp_(gradient, 1 - settings.beta1)
        scale = self._scale(gradient).div_(self._roots[at].view(shape)).add_(settings.epsilon)
        sizes = torch.where(moves, self._sizes[at], 0)
        parameters.addcdiv_(self.memory[0] * sizes.view(shape), scale)
        return is_finite

    def restart(
        self, parameters: Tensor, start: Tensor, rows: Rows, chosen: Bool[Tensor, " row"]
    ) -> None:
        """Puts those of some rows that are chosen at another start, in place, with nothing
        remembered; `start` has a picture for each of the rows."""
        mask = chosen.view(-1, *[1] * (parameters.ndim - 1))
        parameters[rows] = torch.where(mask, start, parameters[rows])
        for memory in self.memory:
            mask = chosen.view(-1, *[1] * (memory.ndim - 1))
            memory[rows] = memory[rows].masked_fill(mask, 0)

    @abstractmethod
    def _squares(self, like: Tensor) -> tuple[Tensor, ...]:
        """The memory of squares, with nothing remembered."""

    @abstractmethod
    def _kernel(self, room: Any) -> Callable[..., Flags]:
        """Which of the kernels does the step."""

    @abstractmethod
    def _scale(self, gradient: Tensor) -> Tensor:
        """What a step is divided by, before corrections, once it has seen the gradient."""


class AdamAscent(Ascent):
    """Adam's own: Kingma and Ba 2015, algorithm 1, as in torch.optim.Adam."""

    def _squares(self, like: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(like),)

    def _kernel(self, room: Any) -> Callable[..., Flags]:
        return room.ascend

    def _scale(self, gradient: Tensor) -> Tensor:
        (square,), beta2 = self.memory[1:], self.settings.beta2
        return square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2).sqrt()


class FactoredAscent(Ascent):
    """With shared second moments, of rows (color, row, column): see `FactoredAdam`."""

    limit = LIMIT

    def _squares(self, like: Tensor) -> tuple[Tensor, ...]:
        batch, channels, rows, columns = like.shape
        return like.new_zeros(batch, channels, rows), like.new_zeros(batch, channels, columns)

    def _kernel(self, room: Any) -> Callable[..., Flags]:
        return room.ascend_factored

    def _scale(self, gradient: Tensor) -> Tensor:
        squares = gradient.square()
        for memory, dim in zip(self.memory[1:], (3, 2), strict=True):
            memory.lerp_(squares.mean(dim=dim), 1 - self.settings.beta2)
        by_row, by_column = scales(self.memory[1], self.memory[2])
        return by_row.unsqueeze(3) * by_column.unsqueeze(2)
