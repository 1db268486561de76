"""Two convolutions of one place and between them one of each channel's own window, in one pass.
The first of them may be missing.

Source of the block: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks".
"""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from featviz.kernels.host.library import call
from featviz.kernels.host.rectifying import NOTHING, Bounds, Rectifying
from featviz.kernels.layout import Window, by_pixel, like_by_pixel, pixel_stride

WIDE = 8
"""Channels between the two come in multiples of it: a byte of marks."""
_ROOM = 1 << 16
"""Numbers of what is wide that a thread has at hand, if a row of results needs no more."""


class Marks(NamedTuple):
    """Where gradients pass the two rectifiers: a bit for each of their results."""

    first: Tensor | None
    own: Tensor


class Step(NamedTuple):
    """A convolution: `weight` as `convolved` of its kind takes it; None: there is none."""

    weight: Tensor | None
    bias: Tensor | None = None
    in_pairs: bool = False
    """As `weight` is."""


def there(
    maps: Tensor,
    steps: tuple[Step, Step, Step],
    bounds: tuple[Bounds, Bounds],
    window: Window,
    shape: tuple[int, int, int],
    rectifying: Rectifying = NOTHING,
) -> tuple[Tensor, Marks]:
    """The convolutions, the first two held within bounds, and what `back` has to know of them.

    `window` is the second's, `shape` the result's: channels, rows, columns. There may be no first.
    """
    assert steps[1].weight is not None
    wide = len(maps) * steps[1].weight.shape[1]
    first = None if steps[0].weight is None else _bits(wide * maps.shape[2] * maps.shape[3])
    marks = Marks(first, _bits(wide * shape[1] * shape[2]))
    return _run(maps, steps, bounds, marks, window, shape, rectifying, None, is_back=False), marks


def back(
    gradient: Tensor,
    steps: tuple[Step, Step, Step],
    marks: Marks,
    window: Window,
    shape: tuple[int, int, int],
    rectifying: Rectifying = NOTHING,
    stirring: Tensor | None = None,
) -> Tensor:
    """The gradient at an input of this shape. `steps`: of the last convolution's gradient, of the
    second's and of the first's.

    `stirring` (2, picture), False at first: becomes True where anything that passes the last
    rectifier, or the first, is not zero.
    """
    within = (NOTHING.bounds, NOTHING.bounds)
    return _run(
        *(gradient, steps, within, (marks.own, marks.first), window, shape, rectifying, stirring),
        is_back=True,
    )


def _bits(number: int) -> Tensor:
    return torch.empty(number // WIDE, dtype=torch.uint8)


def _run(
    maps: Tensor,
    steps: tuple[Step, ...],
    bounds: tuple[Bounds, Bounds],
    marks: tuple[Tensor | None, Tensor | None],
    window: Window,
    shape: tuple[int, int, int],
    rectifying: Rectifying,
    stirring: Tensor | None,
    *,
    is_back: bool,
) -> Tensor:
    maps = by_pixel(maps)
    batch, inputs, rows, columns = maps.shape
    outputs, *size = shape
    result = like_by_pixel(maps, *size, channels=outputs)
    first, own, last = steps
    assert own.weight is not None
    channels, threads = own.weight.shape[1], torch.get_num_threads()
    assert channels % WIDE == 0
    tall, most = _at_once(window, columns, size[1], channels, size[0], is_back=is_back)
    tall, most = max(1, min(tall, -(-batch * size[0] // threads))), min(most, rows)
    share = channels * (most * columns + tall * size[1])
    share += most * columns * inputs // 2 if first.in_pairs else 0
    values, told_result, *last_bounds = rectifying.told(result)
    call(
        *("bottleneck", maps, *first[:2], marks[0], *own[:2], marks[1], *last[:2]),
        *(values, told_result),
        *(stirring, maps.new_empty(threads * share), *bounds[0], *bounds[1], *last_bounds),
        *(*window.size, *window.stride, *window.padding),
        *(batch, inputs, rows, columns, maps.stride(0), pixel_stride(maps), channels, outputs),
        *(*size, tall, most, share, first.in_pairs, last.in_pairs, is_back),
    )
    return result


@lru_cache(maxsize=256)
def _at_once(
    window: Window, columns: int, out_columns: int, channels: int, out_rows: int, *, is_back: bool
) -> tuple[int, int]:
    """How many rows of results the room is for, and the most rows of what is summed they see."""
    down, height = window.stride[0], window.size[0]
    rows = [
        (tall, (tall + height - 2) // down + 2 if is_back else (tall - 1) * down + height)
        for tall in range(1, out_rows + 1)
    ]
    fitting = [
        (tall, most)
        for tall, most in rows
        if channels * (most * columns + tall * out_columns) <= _ROOM
    ]
    return max(fitting, default=rows[0])
