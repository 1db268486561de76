"""Adam's step, all of its passes over the state in one."""

import torch
from torch import Tensor

from featviz.kernels.host.library import call
from featviz.shapes import Flags, PerImage


def ascend(
    parameters: Tensor,
    gradient: Tensor,
    memory: tuple[Tensor, Tensor],
    rates: tuple[PerImage, PerImage],
    moves: Flags,
    settings: tuple[float, float, float],
) -> None:
    """Moves parameters and memory (mean, square) in place; all contiguous but the gradient.

    `rates`: each row's step size and the root of its correction of the square. `settings`: beta1,
    beta2, epsilon. See `featviz.engine.ascent`.
    """
    assert all(each.is_contiguous() for each in (parameters, *memory))
    beta1, beta2, epsilon = settings
    call(
        *("ascend", parameters, gradient.contiguous(), *memory),
        *(*(each.contiguous() for each in rates), moves.to(torch.bool).contiguous()),
        *(1 - beta1, beta2, 1 - beta2, epsilon),
        *(len(parameters), parameters[0].numel()),
    )
