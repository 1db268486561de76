"""Affine maps between pixel grids, and one bilinear resampling for a whole batch of them.

A position is (row, column) in pixels from the center of the top left pixel. A map says, for each
pixel of the output, where in the input its value is; so to move a picture by `shifts`, translate
the positions by `-shifts`.

This is torch's grid_sample. Its gradient on CUDA adds floating-point numbers in arbitrary order
and so differs from run to run. There, each pixel of the input gathers what is its own; where the
kernel for that does not run, fixed-point integers are added, in any order. On a CPU each
picture's are added in the order of its pixels.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import grid_sample

from featviz.errors import DoesNotFit
from featviz.kernels import kernels
from featviz.shapes import Images, PerImage

Affine = Float[Tensor, "batch 2 3"]
"""From output to input positions: affine[:, :, :2] @ (row, column) + affine[:, :, 2]."""

Resampled = Float[Tensor, "batch channel _ _"]
"""Pictures of another size than the ones they were read from."""

Position = tuple[float, float]
"""Row and column, in pixels."""


@dataclass(frozen=True)
class Reflect:
    """Outside lies the mirror image. The mirror stands on the edge of the outermost pixels, half a
    pixel from their centers, so these appear twice (numpy calls it "symmetric").
    """


@dataclass(frozen=True)
class Fill:
    """Outside lies one color; between the outermost pixel centers and it, a blend of one pixel."""

    color: float | tuple[float, ...]
    """One value for all channels, or one for each."""


Border = Reflect | Fill

Outside = Literal["reflection", "zeros"]
"""grid_sample's words for a mirror image and for nothing."""


def identity(like: PerImage) -> Affine:
    """Every position stays; batch, device and dtype are those of `like`."""
    ones, zeros = torch.ones_like(like), torch.zeros_like(like)
    return _affine((ones, zeros, zeros), (zeros, ones, zeros))


def translation(offsets: Float[Tensor, "batch 2"]) -> Affine:
    """Positions move by their row's offsets (down, right)."""
    down, right = offsets.unbind(1)
    ones, zeros = torch.ones_like(down), torch.zeros_like(down)
    return _affine((ones, zeros, down), (zeros, ones, right))


def scaling(factors: Float[Tensor, "batch 2"], *, center: Position) -> Affine:
    """Positions move away from the center by factors (vertical, horizontal); -1 mirrors."""
    vertical, horizontal = factors.unbind(1)
    zeros = torch.zeros_like(vertical)
    return _affine(
        (vertical, zeros, center[0] * (1 - vertical)),
        (zeros, horizontal, center[1] * (1 - horizontal)),
    )


def rotation(angles_deg: PerImage, *, center: Position) -> Affine:
    """Positions turn counter-clockwise about the center, as seen with row 0 on top."""
    angles = torch.deg2rad(angles_deg)
    cosines, sines = angles.cos(), angles.sin()
    row, column = center
    return _affine(
        (cosines, -sines, row * (1 - cosines) + column * sines),
        (sines, cosines, column * (1 - cosines) - row * sines),
    )


def compose(outer: Affine, inner: Affine) -> Affine:
    """The map that applies `inner` first, then `outer`.

    Written out, because the rounding of a matrix product may depend on the batch.
    """
    first = outer[:, :, 0:1] * inner[:, 0:1, :]
    second = outer[:, :, 1:2] * inner[:, 1:2, :]
    product = first + second  # batch 2 3
    return torch.cat([product[:, :, :2], product[:, :, 2:] + outer[:, :, 2:]], dim=2)


def _affine(to_row: tuple[PerImage, ...], to_column: tuple[PerImage, ...]) -> Affine:
    return torch.stack([torch.stack(to_row, dim=1), torch.stack(to_column, dim=1)], dim=1)


class Colors(NamedTuple):
    """What becomes of a pixel: scale * value + offset, by channel, then the last channel first if
    reversed. Both are (1, channel, 1, 1), of the pictures' dtype and device."""

    scale: Tensor
    offset: Tensor
    is_reversed: bool


def is_colored(images: Images, border: Border) -> bool:
    """Whether `resample` can do it together with a change of colors."""
    warp = None if images.is_cuda else kernels("warp", images)
    return warp is not None and isinstance(border, Reflect) and images.shape[1] <= warp.LANES


def resample(
    images: Images,
    affine: Affine,
    *,
    rows: int,
    columns: int,
    border: Border,
    colors: Colors | None = None,
) -> Resampled:
    """Pictures of the given size whose pixels are read, bilinearly, where the map says.

    No gradient flows to the map. `colors`: changed so, where `is_colored`. Raises DoesNotFit when
    the fill has another number of channels.
    """
    if colors is not None:
        return _Reproducible.apply(images, affine, rows, columns, "reflection", colors)
    if isinstance(border, Reflect):
        return _sampled(images, affine, rows, columns, outside="reflection")
    color = _color(border, images)
    return _sampled(images - color, affine, rows, columns, outside="zeros") + color


def _sampled(
    images: Images, affine: Affine, rows: int, columns: int, *, outside: Outside
) -> Resampled:
    if images.is_cuda or kernels("warp", images) is not None:
        return _Reproducible.apply(images, affine, rows, columns, outside, None)
    return _grid_sampled(images, affine, rows, columns, outside=outside)


def _grid_sampled(
    images: Images, affine: Affine, rows: int, columns: int, *, outside: Outside
) -> Resampled:
    return grid_sample(
        images,
        _grid(images, affine, rows, columns),
        mode="bilinear",
        padding_mode=outside,
        align_corners=False,
    )


def _grid(
    images: Images, affine: Affine, rows: int, columns: int
) -> Float[Tensor, "batch {rows} {columns} 2"]:
    """The map in grid_sample's words: (column, row), and (2 * position + 1) / size - 1.

    The change of units is made on the map, so the plane costs one addition; what rounding leaves
    is size * epsilon pixels (1e-5 px at 128 px in float32). In memory all columns stand before
    all rows, which is the quicker to write and to read.
    """
    row_size, column_size = images.shape[-2:]
    to_row = affine.detach()[:, 0] * (2 / row_size)
    to_column = affine.detach()[:, 1] * (2 / column_size)
    per_row, per_column, constant = torch.stack([to_column, to_row], dim=1)[..., None].unbind(2)
    start = torch.stack(
        [constant[:, 0] + (1 / column_size - 1), constant[:, 1] + (1 / row_size - 1)], dim=1
    )
    row = torch.arange(rows, dtype=affine.dtype, device=affine.device)
    column = torch.arange(columns, dtype=affine.dtype, device=affine.device)
    along_rows = per_row * row + start  # batch 2 row
    along_columns = per_column * column  # batch 2 column
    return (along_rows[..., None] + along_columns[:, :, None]).movedim(1, -1)


class _Reproducible(torch.autograd.Function):
    """grid_sample with a gradient that has the same bits on every run, on any device."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Images,
        affine: Affine,
        rows: int,
        columns: int,
        outside: Outside,
        colors: Colors | None,
    ) -> Resampled:
        ctx.save_for_backward(affine)
        ctx.size, ctx.outside, ctx.colors = tuple(images.shape[-2:]), outside, colors
        warp = kernels("warp", images)
        if warp is not None:
            how = _how(outside, colors)
            return warp.sampled(images, affine, rows, columns, **how)
        return _grid_sampled(images, affine, rows, columns, outside=outside)

    @staticmethod
    def backward(ctx: Any, *gradients: Resampled) -> tuple[Images, None, None, None, None, None]:
        (affine,) = ctx.saved_tensors
        back = _Adjoint.apply(gradients[0], affine, ctx.size, ctx.outside, ctx.colors)
        return back, None, None, None, None, None


class _Adjoint(torch.autograd.Function):
    """Each value goes back to the four pixels it was read from; the gradient is the sampling."""

    @staticmethod
    def forward(
        ctx: Any,
        gradients: Resampled,
        affine: Affine,
        size: tuple[int, int],
        outside: Outside,
        colors: Colors | None,
    ) -> Images:
        ctx.save_for_backward(affine)
        ctx.size, ctx.outside, ctx.colors = tuple(gradients.shape[-2:]), outside, colors
        warp = kernels("warp", gradients)
        if warp is not None:
            return warp.gathered(gradients, affine, size, **_how(outside, colors))
        return _scattered(gradients, affine, size=size, outside=outside)

    @staticmethod
    def backward(ctx: Any, *gradients: Images) -> tuple[Resampled, None, None, None, None]:
        (affine,), colors = ctx.saved_tensors, ctx.colors
        if colors is not None:
            colors = colors._replace(offset=torch.zeros_like(colors.offset))
        back = _Reproducible.apply(gradients[0], affine, *ctx.size, ctx.outside, colors)
        return back, None, None, None, None


def _how(outside: Outside, colors: Colors | None) -> dict[str, Any]:
    """The kernels' settings; those for CUDA know no colors."""
    how = {"reflects": outside == "reflection"}
    return how if colors is None else {**how, "colors": colors}


def _scattered(
    gradients: Resampled, affine: Affine, *, size: tuple[int, int], outside: Outside
) -> Images:
    """The adjoint of the sampling: each value goes back to the four pixels it was read from.

    Values are added as integers, scaled by a power of two that each picture chooses so that the
    largest possible sum stays below 2**62: 48 bits below its largest gradient at 128 px, and a
    picture that is not finite stays not finite.
    """
    rows, columns = gradients.shape[-2:]
    peaks = gradients.abs().amax(dim=(1, 2, 3), keepdim=True)
    exponents = torch.frexp(peaks).exponent  # peak < 2 ** exponent
    room = 62 - (rows * columns).bit_length()
    scaled = torch.ldexp(torch.ldexp(gradients, -exponents), torch.full_like(exponents, room))
    sums = torch.zeros(
        (*gradients.shape[:2], size[0] * size[1]), dtype=torch.int64, device=gradients.device
    )
    for indices, weights in _corners(affine, rows, columns, size=size, outside=outside):
        values = (scaled * weights[:, None]).round().to(torch.int64)
        sums.scatter_add_(2, indices[:, None].expand_as(values).flatten(2), values.flatten(2))
    result = torch.ldexp(sums.to(gradients.dtype), torch.full_like(exponents[..., 0], -room))
    result = torch.ldexp(result, exponents[..., 0]) + 0 * peaks[..., 0]
    return result.unflatten(2, size)


def _corners(
    affine: Affine, rows: int, columns: int, *, size: tuple[int, int], outside: Outside
) -> list[tuple[Int64[Tensor, "batch row column"], Float[Tensor, "batch row column"]]]:
    """For each of the four neighbors: which input pixel it is, and its bilinear weight."""
    row = torch.arange(rows, dtype=affine.dtype, device=affine.device)[:, None]
    column = torch.arange(columns, dtype=affine.dtype, device=affine.device)
    coefficients = affine[:, :, :, None, None]
    neighbors = []
    for axis in (0, 1):
        per_row, per_column, start = coefficients[:, axis].unbind(1)
        positions = per_row * row + start + per_column * column
        neighbors.append(_neighbors(positions, size[axis], outside=outside))
    return [
        (row_index * size[1] + column_index, row_weight * column_weight)
        for row_index, row_weight in neighbors[0]
        for column_index, column_weight in neighbors[1]
    ]


def _neighbors(
    positions: Float[Tensor, "batch row column"], size: int, *, outside: Outside
) -> list[tuple[Int64[Tensor, "batch row column"], Float[Tensor, "batch row column"]]]:
    """The pixels below and above each position along one axis, and how much each one counts."""
    if outside == "reflection":
        period = torch.remainder(positions + 0.5, 2 * size)
        positions = torch.minimum(period, 2 * size - period) - 0.5
        positions = positions.clamp(0, size - 1)
    low = positions.floor()
    found = []
    for pixel, weight in ((low, 1 - (positions - low)), (low + 1, positions - low)):
        inside = (pixel >= 0) & (pixel <= size - 1)
        found.append((pixel.clamp(0, size - 1).to(torch.int64), weight * inside))
    return found


def _color(border: Fill, images: Images) -> float | Float[Tensor, "channel 1 1"]:
    if isinstance(border.color, tuple):
        channels = images.shape[1]
        if len(border.color) != channels:
            raise DoesNotFit("channels of the fill color", got=len(border.color), expected=channels)
        return _color_tensor(border.color, images.device, images.dtype)
    return border.color


def _color_tensor(
    color: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "channel 1 1"]:
    return _cached_color(color, device, dtype)


@lru_cache(maxsize=32)
def _cached_color(
    color: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "channel 1 1"]:
    """The color where it is needed, so that no step copies it from the host."""
    with torch.inference_mode(mode=False):
        return torch.tensor(color, dtype=dtype, device=device)[:, None, None]
