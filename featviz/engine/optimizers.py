"""Optimizers of torch's kind, for the reference loop."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from featviz.engine.recipe import Adam, FactoredAdam


def optimizer_of(settings: Adam, parameters: Tensor) -> Optimizer:
    """Goes up, at the rate "lr" of its one group."""
    if isinstance(settings, FactoredAdam):
        return Factored(settings, parameters)
    betas = settings.beta1, settings.beta2
    return torch.optim.Adam([parameters], betas=betas, eps=settings.epsilon, maximize=True)


class Factored(Optimizer):  # so that the loop can take it for torch's
    """See `FactoredAdam`; of parameters (picture, color, row, column)."""

    def __init__(self, settings: FactoredAdam, parameters: Tensor) -> None:
        super().__init__([parameters], {"lr": settings.learning_rate})
        self.settings = settings
        pictures, channels, rows, columns = parameters.shape
        self.state[parameters] = {
            "step": torch.zeros(()),
            "mean": torch.zeros_like(parameters),
            "by_row": parameters.new_zeros(pictures, channels, rows, 1),
            "by_column": parameters.new_zeros(pictures, channels, 1, columns),
        }

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step up, without a closure."""
        assert closure is None
        settings, (group,) = self.settings, self.param_groups
        (parameters,) = group["params"]
        gradient, state = parameters.grad, self.state[parameters]
        state["step"] += 1
        done = state["step"].item()
        squares = gradient.square()
        state["mean"].lerp_(gradient, 1 - settings.beta1)
        state["by_row"].lerp_(squares.mean(dim=3, keepdim=True), 1 - settings.beta2)
        state["by_column"].lerp_(squares.mean(dim=2, keepdim=True), 1 - settings.beta2)
        mean = state["mean"] / (1 - settings.beta1**done)
        by_row, by_column = (
            state[name] / (1 - settings.beta2**done) for name in ("by_row", "by_column")
        )
        tiny = torch.finfo(parameters.dtype).tiny
        moments = by_row * (by_column / (by_row.mean(dim=2, keepdim=True) + tiny))
        whole = by_row.mean(dim=(1, 2, 3), keepdim=True)
        scale = moments**0.375 * whole**0.125
        parameters += group["lr"] * mean / (scale + settings.epsilon)
