"""How maps lie in memory: channel by channel of a pixel, pixel by pixel of a picture."""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1024
"""Values that a program handles."""
PANEL = 16
"""Channels that kernels for a CPU handle side by side: one vector of them or two."""
MOST_PLACES = 81
"""Of a window: kernels have a line for each, and a byte tells them apart."""
Tile = tuple[int, int]
"""How many values a program of pixels and channels handles, and how many channels at most."""
FORTH, BACK = (1024, 64), (2048, 32)
"""Tiles as they are quick on an H200: of pools and rectifiers on the way there; of their gradients
and of depthwise convolutions."""


@dataclass(frozen=True)
class Window:
    """Rows and columns of size, stride and padding."""

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def over(self) -> tuple[int, int]:
        """Of how many windows, by row and by column, a pixel may be."""
        high, wide = (-(-s // d) for s, d in zip(self.size, self.stride, strict=True))
        return high, wide

    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of a convolution's result."""
        down, right = (
            (side + 2 * pad - size) // stride + 1
            for side, size, stride, pad in zip(
                (rows, columns), self.size, self.stride, self.padding, strict=True
            )
        )
        return down, right


def is_by_pixel(maps: Tensor) -> bool:
    """Whether, of maps (batch, channel, row, column), channels are neighbours and pixels evenly
    spaced, as in a channels_last tensor or a range of one's channels."""
    channels, rows, columns = maps.shape[1:]
    image, channel, row, column = maps.stride()
    step = column if columns > 1 else row
    is_even = rows == 1 or columns == 1 or row == columns * column
    is_pixel = (channels == 1 or channel == 1) and (step >= channels or rows * columns == 1)
    return is_even and is_pixel and image >= rows * columns * pixel_stride(maps)


def by_pixel(maps: Tensor) -> Tensor:
    """The maps, copied where they are not `is_by_pixel`."""
    return maps if is_by_pixel(maps) else maps.contiguous(memory_format=torch.channels_last)


def pixel_stride(maps: Tensor) -> int:
    """Values from one pixel of `by_pixel` to the next."""
    rows, columns = maps.shape[2:]
    if columns > 1:
        return maps.stride(3)
    return maps.stride(2) if rows > 1 else maps.shape[1]


def like_by_pixel(maps: Tensor, rows: int, columns: int, channels: int | None = None) -> Tensor:
    """Room for maps of another size, dense, by pixel."""
    shape = (len(maps), maps.shape[1] if channels is None else channels, rows, columns)
    return torch.empty(
        shape, dtype=maps.dtype, device=maps.device, memory_format=torch.channels_last
    )


def tile(channels: int, of: Tile) -> tuple[int, int]:
    """How many pixels, and how many of their channels, a program handles: powers of two."""
    values, most = of
    wide = min(most, 1 << (channels - 1).bit_length())
    return values // wide, wide


def tiles(images: int, pixels: int, channels: int, of: Tile) -> tuple[int, int, int]:
    """Programs for so many pictures: (block of pixels, block of channels, picture)."""
    tall, wide = tile(channels, of)
    return -(-pixels // tall), -(-channels // wide), images


def whole_pixels(images: int, pixels: int, channels: int) -> tuple[tuple[int, int], int, int]:
    """Programs (block of pixels, picture) that see all channels of a pixel, and how many pixels
    and channels each has room for: powers of two."""
    wide = 1 << (channels - 1).bit_length()
    tall = max(1, BLOCK // wide)
    return (-(-pixels // tall), images), tall, wide


def grid(rows: int, values: int) -> tuple[int, int]:
    """Programs for rows of so many values: (block, row)."""
    return -(-values // BLOCK), rows
