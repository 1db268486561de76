"""Adam's step and its kin's, in one pass over the state or two."""

# pyright: reportCallIssue=false

from typing import no_type_check

import triton
import triton.language as tl
from torch import Tensor

from featviz.kernels.factored import LIMIT, scales
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
    images, channels, rows, columns = parameters.shape
    count = parameters[0].numel()
    beta1, beta2, epsilon = settings
    gradient = gradient.contiguous()
    is_finite = finite(gradient, limit=LIMIT)
    moves = moves & is_finite
    mean, by_row, by_column = memory
    width = triton.next_power_of_2(columns)
    _square[(images * channels,)](
        *(gradient, by_row, by_column, moves, channels, rows, columns, beta2, 1 - beta2),
        *(max(1, BLOCK // width), width),
    )
    scale_by_row, scale_by_column = scales(by_row, by_column)
    _ascend_factored[grid(images, count)](
        *(parameters, gradient, mean, scale_by_row, scale_by_column, *rates, numbers),
        *(moves, len(rates[0]), count, channels, rows, columns, 1 - beta1, epsilon, BLOCK),
    )
    return is_finite


@triton.jit
@no_type_check
def _climb(parameters, mean, at, is_there, slope, new_in_mean, size, scale):
    before = tl.load(mean + at, mask=is_there, other=0.0)
    first = before + new_in_mean * (slope - before)
    moved = tl.load(parameters + at, mask=is_there, other=0.0) + first * size / scale
    tl.store(mean + at, first, mask=is_there)
    tl.store(parameters + at, moved, mask=is_there)


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
    second = tl.load(square + at, mask=is_there, other=0.0) * beta2
    second += new_in_square * slope * slope
    scale = tl.sqrt_rn(second) / tl.load(roots + number) + epsilon
    tl.store(square + at, second, mask=is_there)
    size = tl.where(does_move, tl.load(sizes + number), 0.0)
    _climb(parameters, mean, at, is_there, slope, new_in_mean, size, scale)


@triton.jit
@no_type_check
def _square(
    gradient,
    by_row,
    by_column,
    moves,
    channels,
    rows,
    columns,
    beta2,
    new_in_square,
    HIGH: tl.constexpr,
    WIDE: tl.constexpr,
):
    plane = tl.program_id(0).to(tl.int64)
    does_move = tl.load(moves + plane // channels).to(tl.int1)
    column = tl.arange(0, WIDE)
    is_column = column < columns
    across = tl.zeros((WIDE,), dtype=tl.float32)
    for start in range(0, rows, HIGH):
        row = start + tl.arange(0, HIGH)
        is_row = row < rows
        at = (plane * rows + row[:, None]) * columns + column[None, :]
        is_there = is_row[:, None] & is_column[None, :] & does_move
        slope = tl.load(gradient + at, mask=is_there, other=0.0)
        along = tl.sum(slope * slope, axis=1) / columns
        across += tl.sum(slope * slope, axis=0)
        before = tl.load(by_row + plane * rows + row, mask=is_row, other=0.0)
        tl.store(by_row + plane * rows + row, before * beta2 + new_in_square * along, mask=is_row)
    before = tl.load(by_column + plane * columns + column, mask=is_column, other=0.0)
    after = before * beta2 + new_in_square * (across / rows)
    tl.store(by_column + plane * columns + column, after, mask=is_column)


@triton.jit
@no_type_check
def _ascend_factored(
    parameters,
    gradient,
    mean,
    by_row,
    by_column,
    sizes,
    roots,
    numbers,
    moves,
    steps,
    count,
    channels,
    rows,
    columns,
    new_in_mean,
    epsilon,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_there = place < count
    at = image * count + place
    line = place // columns
    plane = line // rows
    high = tl.load(by_row + image * channels * rows + line, mask=is_there, other=1.0)
    across = (image * channels + plane) * columns + place % columns
    wide = tl.load(by_column + across, mask=is_there, other=1.0)
    number = tl.minimum(tl.load(numbers + image), steps - 1)
    does_move = tl.load(moves + image).to(tl.int1)
    slope = tl.load(gradient + at, mask=is_there, other=0.0)
    slope = tl.where(does_move, slope, 0.0)
    scale = high * wide / tl.load(roots + number) + epsilon
    size = tl.where(does_move, tl.load(sizes + number), 0.0)
    _climb(parameters, mean, at, is_there, slope, new_in_mean, size, scale)
