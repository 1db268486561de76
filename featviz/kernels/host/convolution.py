"""Convolutions as products with a matrix, and their gradient at the input where the stride is 1.

Every sum is taken in one order: a result does not depend on how many there are.

In pairs, both factors of each product are rounded to bfloat16 and sums are float32's, two products
after each other, as a processor with AVX512-BF16 adds them.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from featviz.kernels.host.library import call
from featviz.kernels.host.rectifying import NOTHING, Rectifying
from featviz.kernels.layout import PANEL, Window, by_pixel, like_by_pixel, pixel_stride

_ROOM = 1 << 15
"""Numbers that the pixels have room for which a thread has at hand, if a row of results needs no
more."""

Packed = Float[Tensor, "whole places"]
"""A kernel in the kernels' order, with outputs of zero up to a multiple of PANEL; in pairs, with
two numbers in the place of one."""
Kernel = Float[Tensor, "outputs inputs height width"]


def packed(matrix: Float[Tensor, "outputs seen"], *, in_pairs: bool = False) -> Packed:
    """A matrix as products take it, or in pairs."""
    outputs, seen = matrix.shape
    result = matrix.new_empty((outputs + -outputs % PANEL, seen // 2 if in_pairs else seen))
    call("pack", matrix.contiguous(), result, outputs, seen, in_pairs)
    return result


def packed_kernel(weight: Kernel, *, in_pairs: bool = False) -> Packed:
    """The kernel as `convolved` takes it; in pairs, of an even number of inputs."""
    assert not in_pairs or weight.shape[1] % 2 == 0
    return packed(weight.permute(0, 2, 3, 1).flatten(1), in_pairs=in_pairs)


def packed_back(weight: Kernel, *, in_pairs: bool = False) -> Packed:
    """The kernel as `convolved_gradient` takes it; in pairs, of an even number of outputs."""
    return packed_kernel(weight.transpose(0, 1).flip(2, 3), in_pairs=in_pairs)


def packed_bias(bias: Float[Tensor, " outputs"]) -> Tensor:
    """The bias as `convolved` takes it."""
    return functional.pad(bias, (0, -len(bias) % PANEL))


def convolved(
    maps: Tensor,
    weight: Packed,
    bias: Tensor | None,
    window: Window,
    shape: tuple[int, int, int],
    rectifying: Rectifying = NOTHING,
    *,
    in_pairs: bool = False,
) -> Tensor:
    """The convolution; `shape` is the result's: channels, rows, columns. `in_pairs`: as the weight.

    What the window sees beyond the maps is zero.
    """
    maps = by_pixel(maps)
    batch, inputs, rows, columns = maps.shape
    outputs, *size = shape
    result = like_by_pixel(maps, *size, channels=outputs)
    told, steps = rectifying.told(result), (maps.stride(0), pixel_stride(maps))
    if window == Window((1, 1), (1, 1), (0, 0)) and size == [rows, columns]:
        pixels = rows * columns
        if steps[0] == pixels * steps[1]:
            batch, pixels = 1, batch * pixels
        call(
            *("pointwise", maps, weight, bias, *told),
            *(batch, inputs, outputs, pixels, *steps, in_pairs),
        )
        return result
    (height, width), (down, right), _ = window.size, window.stride, window.padding
    row = (inputs // 2 if in_pairs else inputs) * ((size[1] - 1) * right + width)
    threads = torch.get_num_threads()
    tall = max(1, min((_ROOM // row - height) // down + 1, -(-batch * size[0] // threads), size[0]))
    share = row * ((tall - 1) * down + height)
    call(
        *("convolution", maps, weight, bias, *told, maps.new_empty(threads * share)),
        *(height, width, down, right, *window.padding),
        *(batch, inputs, rows, columns, *steps, outputs, *size, tall, share, in_pairs),
    )
    return result


def convolved_gradient(
    gradient: Tensor,
    weight: Packed,
    window: Window,
    shape: tuple[int, int, int],
    rectifying: Rectifying = NOTHING,
    *,
    in_pairs: bool = False,
) -> Tensor:
    """The gradient at an input of this shape (channels, rows, columns), for a stride of 1."""
    assert window.stride == (1, 1)
    (height, width), (above, left) = window.size, window.padding
    back = Window(window.size, (1, 1), (height - 1 - above, width - 1 - left))
    return convolved(gradient, weight, None, back, shape, rectifying, in_pairs=in_pairs)
