"""Adam's step for many rows, each at a step of its own."""

import torch
from jaxtyping import Bool
from torch import Tensor

from featviz.engine.recipe import Adam
from featviz.kernels import kernels
from featviz.kernels.rows import finite
from featviz.shapes import Flags, Rows, Steps


class Ascent:
    """Adam's state for a batch of rows; every row could be alone.

    The rates and corrections of all steps are laid out once, so that rows may be at different
    steps and nothing is computed on the host.

    Source: Kingma and Ba 2015, algorithm 1, as in torch.optim.Adam.
    """

    def __init__(self, settings: Adam, like: Tensor, *, steps: int) -> None:
        self.settings = settings
        self.mean = torch.zeros_like(like)
        self.square = torch.zeros_like(like)
        numbers = range(steps)
        self._sizes = like.new_tensor(
            [settings.rate(n, steps) / (1 - settings.beta1 ** (n + 1)) for n in numbers]
        )
        self._roots = like.new_tensor([(1 - settings.beta2 ** (n + 1)) ** 0.5 for n in numbers])

    def step(self, parameters: Tensor, gradient: Tensor, *, numbers: Steps, moves: Flags) -> Flags:
        """Moves the rows of `parameters` that `moves` names, in place, up along `gradient`, where
        that is numbers; the others stay. Returns which rows' gradients are numbers."""
        settings = self.settings
        ascent = kernels("ascent", parameters)
        if ascent is not None:
            return ascent.ascend(
                *(parameters, gradient, (self.mean, self.square)),
                *((self._sizes, self._roots), numbers, moves),
                (settings.beta1, settings.beta2, settings.epsilon),
            )
        is_finite = finite(gradient)
        moves = moves & is_finite
        at = numbers.clamp(max=len(self._sizes) - 1)
        shape = (-1, *[1] * (parameters.ndim - 1))
        gradient = torch.where(moves.view(shape), gradient, 0)
        self.mean.lerp_(gradient, 1 - settings.beta1)
        self.square.mul_(settings.beta2).addcmul_(gradient, gradient, value=1 - settings.beta2)
        scale = self.square.sqrt().div_(self._roots[at].view(shape)).add_(settings.epsilon)
        sizes = torch.where(moves, self._sizes[at], 0)
        parameters.addcdiv_(self.mean * sizes.view(shape), scale)
        return is_finite

    def restart(
        self, parameters: Tensor, start: Tensor, rows: Rows, chosen: Bool[Tensor, " row"]
    ) -> None:
        """Puts those of some rows that are chosen at another start, in place, with nothing
        remembered; `start` has a picture for each of the rows."""
        mask = chosen.view(-1, *[1] * (parameters.ndim - 1))
        parameters[rows] = torch.where(mask, start, parameters[rows])
        for memory in (self.mean, self.square):
            memory[rows] = memory[rows].masked_fill(mask, 0)
