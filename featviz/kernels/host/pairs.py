"""Blocks of pixels, channels of one, as pixels."""

from torch import Tensor

from featviz.kernels.host.library import call
from featviz.kernels.layout import by_pixel, like_by_pixel, pixel_stride


def unpaired(
    maps: Tensor, colors: int, side: int, skipped: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """pixel_shuffle without blocks before the first, to maps of this size, by pixel."""
    maps = by_pixel(maps)
    result = like_by_pixel(maps, *size, channels=colors)
    call(
        *("unpaired", maps, result, len(maps), colors, side, *skipped, *size),
        *(maps.shape[3], maps.stride(0), pixel_stride(maps)),
    )
    return result
