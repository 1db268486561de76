"""Adam's step and its kin's, all of their passes over the state in one."""

import torch
from torch import Tensor

from featviz.kernels.factored import LIMIT
from featviz.kernels.host.library import call
from featviz.shapes import Flags, Steps


def ascend(
    parameters: Tensor,
    gradient: Tensor,
    memory: tuple[Tensor, Tensor],
    rates: tuple[Tensor, Tensor],
    numbers: Steps,
    moves: Flags,
    settings: tuple[float, float, float],
) -> Flags:
    """Moves parameters and memory (mean, square) in place; all contiguous but the gradient.

    Returns which rows' gradients are numbers; the others stay, as those that `moves` leaves out.
    `rates`: of each step its size and the root of its correction of the square; rows are at the
    steps `numbers`, the last where there are no more. `settings`: beta1, beta2, epsilon. See
    `featviz.engine.ascent`.
    """
    assert all(each.is_contiguous() for each in (parameters, *memory, *rates, numbers, moves))
    beta1, beta2, epsilon = settings
    is_finite = torch.empty_like(moves)
    call(
        *("ascend", parameters, gradient.contiguous(), *memory, *rates, numbers, moves, is_finite),
        *(len(rates[0]), 1 - beta1, beta2, 1 - beta2, epsilon),
        *(len(parameters), parameters[0].numel()),
    )
    return is_finite


def ascend_factored(
    parameters: Tensor,
    gradient: Tensor,
    memory: tuple[Tensor, Tensor, Tensor],
    rates: tuple[Tensor, Tensor],
    numbers: Steps,
    moves: Flags,
    settings: tuple[float, float, float],
) -> Flags:
    """The same of pictures (channel, row, column), whose squares `memory` has by row and by
    column, and whose gradients stay below LIMIT."""
    assert all(each.is_contiguous() for each in (parameters, *memory, *rates, numbers, moves))
    beta1, beta2, epsilon = settings
    is_finite = torch.empty_like(moves)
    call(
        *("ascend_factored", parameters, gradient.contiguous(), *memory, *rates, numbers, moves),
        *(is_finite, len(rates[0]), 1 - beta1, 1 - beta2, epsilon, LIMIT),
        *parameters.shape,
    )
    return is_finite
