"""The first layer of a network, a convolution of a few colors, by ways that are quick: the way
there on blocks of pixels, the way back making blocks of them.
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from featviz.kernels.cuda import usable

_EVEN, _WIDE = 8, 64
"""Channels come in such numbers where tensor cores take them, and where they are quick."""


@dataclass(frozen=True, eq=False)
class Folded:
    """The gradient of a stride-2 convolution as a convolution that makes a block of pixels at once.

    Of n x n pixels, pixel n m + b is read by the outputs n / 2 m + a through the kernel's place
    b + padding - 2 a: a kernel over a, with n x n results for each color, of stride n / 2.
    """

    kernel: Tensor
    colors: int
    side: int
    padding: tuple[int, int]
    skipped: tuple[int, int]

    @classmethod
    def of(cls, weight: Tensor, padding: tuple[int, int], side: int) -> "Folded":
        outputs, colors, height, width = weight.shape
        down, right = _Axis(height, padding[0], side), _Axis(width, padding[1], side)
        kernel = weight.new_zeros(colors, side, side, outputs, down.spread, right.spread)
        for (row, up, y), (column, back, x) in product(down.reads, right.reads):
            kernel[:, row, column, :, up, back] = weight[..., y, x].T
        flat = kernel.flatten(0, 2)
        if usable(weight):
            flat = functional.pad(flat, (0, 0, 0, 0, 0, 0, 0, -len(flat) % _WIDE))
        laid_out = flat.contiguous(memory_format=torch.channels_last)
        pads, skipped = (down.pad, right.pad), (down.skipped, right.skipped)
        return cls(laid_out, colors, side, pads, skipped)

    def __call__(self, gradient: Tensor, rows: int, columns: int) -> Tensor:
        spread = functional.conv2d(
            gradient, self.kernel, stride=self.side // 2, padding=self.padding
        )
        if usable(spread):
            from featviz.kernels.cuda.pairs import unpaired

            return unpaired(spread, self.colors, self.side, self.skipped, (rows, columns))
        down, right = self.skipped
        cut = spread[:, :, down : down + rows // self.side, right : right + columns // self.side]
        return functional.pixel_shuffle(cut, self.side)


@dataclass(frozen=True)
class _Axis:
    """One direction of `Folded`: the size and the padding of the convolution, and the block's side.

    Output 0 has its kernel's first place, without the padding, on the block's first pixel.
    """

    size: int
    padding: int
    side: int

    @property
    def reads(self) -> list[tuple[int, int, int]]:
        """(pixel of the block, place of the output in our kernel, place in the convolution's)."""
        return [
            (pixel, output - self._first(0), pixel + self.padding - 2 * output)
            for pixel in range(self.side)
            for output in range(self._first(pixel), self._last(pixel) + 1)
        ]

    @property
    def spread(self) -> int:
        """The size of our kernel."""
        return self._last(self.side - 1) - self._first(0) + 1

    @property
    def skipped(self) -> int:
        """Blocks before the first, so that the padding is enough for the last as well."""
        half, last = self.side // 2, self._last(self.side - 1)
        least = max(0, last - half - (2 * self.padding - self.size) // 2)
        return max(0, -(-(least + self._first(0)) // half))

    @property
    def pad(self) -> int:
        """Outputs of zero before the first and after the last."""
        return self.side // 2 * self.skipped - self._first(0)

    def _first(self, pixel: int) -> int:
        return -(-(pixel + self.padding - self.size + 1) // 2)

    def _last(self, pixel: int) -> int:
        return (pixel + self.padding) // 2


@dataclass(frozen=True, eq=False)
class Unfolded:
    """A stride-2 convolution as one of stride 1 on 2 x 2 pixels at once.

    Output m reads pixel 2 (m + a) + b, b in {0, 1}, through the kernel's place 2 a + b + padding:
    a small kernel over a, with four inputs for each color. Tensor cores want eight channels; three
    colors leave them idle.
    """

    kernel: Tensor
    bias: Tensor | None
    before: tuple[int, int]
    after: tuple[int, int]

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> "Unfolded | None":
        outputs, colors, *sizes = weight.shape
        lowest = [(-pad) // 2 for pad in padding]
        highest = [(size - 1 - pad) // 2 for size, pad in zip(sizes, padding, strict=True)]
        # As many outputs as the stride-2 convolution has of an even number of pixels.
        more = [(2 * pad - size) // 2 + 1 for size, pad in zip(sizes, padding, strict=True)]
        after = [high + less for high, less in zip(highest, more, strict=True)]
        if min(*after, *(-low for low in lowest)) < 0:
            return None
        sides = [high - low + 1 for low, high in zip(lowest, highest, strict=True)]
        channels = -(-4 * colors // _EVEN) * _EVEN
        kernel = weight.new_zeros(outputs, channels, *sides)
        spread = kernel[:, : 4 * colors].unflatten(1, (colors, 2, 2))
        for row in range(sizes[0]):
            for column in range(sizes[1]):
                down, odd_row = divmod(row - padding[0], 2)
                right, odd_column = divmod(column - padding[1], 2)
                place = (down - lowest[0], right - lowest[1])
                spread[:, :, odd_row, odd_column, place[0], place[1]] = weight[..., row, column]
        laid_out = kernel.contiguous(memory_format=torch.channels_last)
        return cls(laid_out, bias, (-lowest[0], -lowest[1]), (after[0], after[1]))

    def __call__(self, values: Tensor) -> Tensor:
        batch, colors, rows, columns = values.shape
        if usable(values):
            from featviz.kernels.cuda.pairs import paired

            room = paired(values, self.kernel.shape[1], self.before, self.after)
            return functional.conv2d(room, self.kernel, self.bias)
        (top, left), (bottom, right) = self.before, self.after
        rows, columns = rows // 2, columns // 2
        shape = (batch, self.kernel.shape[1], top + rows + bottom, left + columns + right)
        room = values.new_zeros(1).expand(shape).contiguous(memory_format=torch.channels_last)
        inner = room[:, : 4 * colors, top : top + rows, left : left + columns]
        pairs = values.unflatten(3, (columns, 2)).unflatten(2, (rows, 2))
        inner.unflatten(1, (colors, 2, 2)).copy_(pairs.permute(0, 1, 3, 5, 2, 4))
        return functional.conv2d(room, self.kernel, self.bias)
