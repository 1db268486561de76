"""The held-out family: 16 changes of a picture that no recipe is trained under, always the same.

The family has a version because numbers under another one do not compare.
"""

import io
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample

from featviz.image.seeds import uniform
from featviz.shapes import Images

FAMILY = "perspective-gamma-jpeg-1"
DRAWS = 16
CORNER_SHARE = 0.06
"""How far a corner moves inwards at most, down and across, in sides of the picture."""
GAMMA = 1.25
"""Gamma lies between this and its inverse, evenly in its logarithm."""
JPEG_QUALITY = 75


_CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
"""(row, column), in sides of the picture."""


def held_out(pictures: Images) -> Float[Tensor, "batch draw channel row column"]:
    """Every picture under the same DRAWS changes, float32 on the host.

    In this order: a perspective that stretches a quadrilateral inside the picture to all of it,
    bilinear, so that nothing is to be filled; a gamma; JPEG of 8-bit values with Pillow's usual
    subsampling of color. Each picture is changed on its own.
    """
    host = pictures.detach().float().cpu()
    gammas = draws()[1].float().view(-1, 1, 1, 1)
    return torch.stack([_through_jpeg(seen_askew(each).pow(gammas)) for each in host])


@lru_cache(maxsize=1)
def draws() -> tuple[Float64[Tensor, "draw 4 2"], Float64[Tensor, " draw"]]:
    """Of each draw: where the picture's four corners are read, in sides of it, and the gamma."""
    seeds = torch.arange(DRAWS)
    numbers = uniform(seeds, torch.zeros_like(seeds), purpose=FAMILY, count=9, dtype=torch.float64)
    corners = torch.tensor(_CORNERS, dtype=torch.float64)
    inwards = CORNER_SHARE * numbers[:, :8].unflatten(1, (4, 2))
    return corners + inwards * (1 - 2 * corners), GAMMA ** (2 * numbers[:, 8] - 1)


def seen_askew(
    picture: Float[Tensor, "channel row column"],
) -> Float[Tensor, "draw channel row column"]:
    """The perspectives of all draws, before gamma and JPEG."""
    grid = _grid(picture.shape[1], picture.shape[2])
    return grid_sample(
        picture.expand(DRAWS, *picture.shape),
        grid,
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    ).clamp(0, 1)


@lru_cache(maxsize=4)
def _grid(rows: int, columns: int) -> Float[Tensor, "draw {rows} {columns} 2"]:
    """Where each pixel is read, in grid_sample's words: (column, row), from -1 to 1."""
    down = torch.linspace(0, 1, rows, dtype=torch.float64)
    across = torch.linspace(0, 1, columns, dtype=torch.float64)
    places = torch.cartesian_prod(down, across)
    with_one = torch.cat([places, torch.ones(len(places), 1, dtype=torch.float64)], dim=1)
    mapped = with_one @ _perspectives().transpose(1, 2)  # draw site 3
    read = (mapped[:, :, :2] / mapped[:, :, 2:]).flip(2)
    return (2 * read - 1).float().unflatten(1, (rows, columns))


def _perspectives() -> Float64[Tensor, "draw 3 3"]:
    """The perspective of each draw that maps the unit square's corners to where they are read.

    Eight equations in eight unknowns: with the read position (R, C) of (r, c),
    R * (g * r + h * c + 1) = a * r + b * c + t, and likewise for C.
    """
    read, _ = draws()
    equations = torch.zeros(DRAWS, 8, 8, dtype=torch.float64)
    for number, (row, column) in enumerate(_CORNERS):
        place = torch.tensor([row, column, 1.0], dtype=torch.float64)
        for axis in range(2):
            equation = equations[:, 2 * number + axis]
            equation[:, 3 * axis : 3 * axis + 3] = place
            equation[:, 6:] = -read[:, number, axis, None] * place[:2]
    found = torch.linalg.solve(equations, read.flatten(1))
    return torch.cat([found, torch.ones(DRAWS, 1, dtype=torch.float64)], dim=1).unflatten(1, (3, 3))


def _through_jpeg(images: Images) -> Images:
    decoded = []
    for image in (images * 255).round().to(torch.uint8).movedim(1, -1).numpy():
        file = io.BytesIO()
        plain = image.squeeze(2) if image.shape[2] == 1 else image
        Image.fromarray(plain).save(file, format="JPEG", quality=JPEG_QUALITY)
        with Image.open(file) as read:
            decoded.append(np.asarray(read).reshape(image.shape))
    return torch.from_numpy(np.stack(decoded)).movedim(-1, 1).float() / 255
