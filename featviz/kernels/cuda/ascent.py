"""Adam's step, all of its passes over the state in one."""

# pyright: reportCallIssue=false

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from featviz.kernels.layout import BLOCK, grid
from featviz.kernels.rows import finite
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
    count = parameters[0].numel()
    beta1, beta2, epsilon = settings
    is_finite = finite(gradient)
    _ascend[grid(len(parameters), count)](
        *(parameters, gradient.contiguous(), *memory, *rates, numbers, moves & is_finite),
        *(len(rates[0]), count, 1 - beta1, beta2, 1 - beta2, epsilon, BLOCK),
    )
    return is_finite


@triton.jit
@no_type_check
def _ascend(
    parameters,
    gradient,
    mean,
    square,
    sizes,
    roots,
    numbers,
    moves,
    steps,
    count,
    new_in_mean,
    beta2,
    new_in_square,
    epsilon,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_there = place < count
    at = image * count + place
    number = tl.minimum(tl.load(numbers + image), steps - 1)
    does_move = tl.load(moves + image).to(tl.int1)
    slope = tl.load(gradient + at, mask=is_there, other=0.0)
    slope = tl.where(does_move, slope, 0.0)
    before = tl.load(mean + at, mask=is_there, other=0.0)
    first = before + new_in_mean * (slope - before)
    second = tl.load(square + at, mask=is_there, other=0.0) * beta2
    second += new_in_square * slope * slope
    scale = tl.sqrt_rn(second) / tl.load(roots + number) + epsilon
    size = tl.where(does_move, tl.load(sizes + number), 0.0)
    moved = tl.load(parameters + at, mask=is_there, other=0.0) + first * size / scale
    tl.store(mean + at, first, mask=is_there)
    tl.store(square + at, second, mask=is_there)
    tl.store(parameters + at, moved, mask=is_there)
