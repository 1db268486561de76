"""Does the network come to its answer the way it does for photographs? A sanity check.

Source: Geirhos et al. 2024, "Don't trust your eyes: on the (un)reliability of feature
visualizations": rank correlations of the activations, layer by layer. Deviation: the
unit's own best images stand for those of the paper's same class, at most MOST_LAYERS layers are
looked at and MOST_VALUES values of each. The paper divides by how much more images of one class
are alike than images of two; a hidden unit's best images are hardly more alike than others (by
0.00 to 0.07 in layers of EfficientNet-Lite0), so the picture is placed among the others instead.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from featviz.atlas.standards import Standards, best_first, seen_by
from featviz.engine.algebra import Objective
from featviz.engine.render import images_from_hwc_uint8
from featviz.image.parameterizations import Shape
from featviz.image.seeds import uniform
from featviz.network.network import Network
from featviz.network.recording import Prefix

MOST_ALIKE = 10
"""The best photographs for an objective, at most, and as many others."""
FEWEST = 4
"""With fewer photographs nothing is said."""
MOST_LAYERS = 8
MOST_VALUES = 2048
Vectors = Float[Tensor, "image value"]


@dataclass(frozen=True)
class Path:
    """Of each layer, the share of other photographs that are less like the best than the picture.

    Likeness is the mean rank correlation with an objective's best photographs.
    """

    layers: tuple[str, ...]
    shares: tuple[float, ...]

    @property
    def similarity(self) -> float:
        """The mean share: 0 where every photograph is more like the best ones than the picture
        is, in every layer; 0.5 where the picture is like any photograph; 1 where none is."""
        return sum(self.shares) / len(self.shares)

    @property
    def is_unlike(self) -> bool:
        """The flag: in more than half of the layers the share is 0."""
        return 2 * sum(share == 0 for share in self.shares) > len(self.shares)


def path_of(standards: Standards, objective: Objective, pixels: NDArray[np.uint8]) -> Path | None:
    """The path of a picture, (row, column, channel) bytes, for what it was to maximize.

    The best photographs are the MOST_ALIKE (or half of them, if they are few) with the highest
    values of the objective at the picture's size; the others are as many of the rest, evenly
    spaced by their value. Of up to MOST_LAYERS unit layers, evenly spaced among those that run
    up to the last one which the objective reads, and that one itself, the activations are
    flattened, and of each map the same MOST_VALUES drawn values are compared. None where there
    are fewer than FEWEST photographs, or the objective tells none of them from the others, or it
    asks the network nothing.
    """
    rows, columns, channels = pixels.shape
    shape = Shape(channels, rows, columns)
    layers = path_layers(standards.network, objective, shape)
    if not layers:
        return None
    best, rest = _chosen(standards.values(shape, objective))
    if len(best) + len(rest) < FEWEST:
        return None
    prefix = Prefix(standards.network, layers, rows=rows, columns=columns)
    photographs = standards.references.images([*best, *rest], shape)
    images = torch.cat([photographs, images_from_hwc_uint8(pixels[None])])
    seen = seen_by(prefix, images)
    return Path(layers, tuple(_share(seen.read(layer).values, len(best)) for layer in layers))


def path_layers(network: Network, objective: Objective, shape: Shape) -> tuple[str, ...]:
    """The layers that are compared, in order of execution."""
    if not objective.layers:
        return ()
    size = shape.rows, shape.columns
    ends = {network.operation(key, *size): key for key in objective.layers}
    last = max(ends)
    before = [
        name
        for name, layer in network.layers(*size).items()
        if not layer.is_view and layer.post < last
    ]
    most = MOST_LAYERS - 1
    if len(before) > most:
        before = [before[number * len(before) // most] for number in range(most)]
    return *before, ends[last]


def standing(values: Vectors) -> Vectors:
    """Ranks of each row's values, centered and of length 1: their products are Spearman's
    correlations. Equal values share their mean rank; where all are equal, products are 0."""
    rows = values.contiguous()
    ordered = rows.sort(dim=1).values
    below = torch.searchsorted(ordered, rows, right=False)
    through = torch.searchsorted(ordered, rows, right=True)
    ranks = (below + through).double() / 2
    centered = ranks - ranks.mean(dim=1, keepdim=True)
    return centered / centered.norm(dim=1, keepdim=True).clamp(min=1e-9)


def _share(values: Float[Tensor, "image channel site"], count: int) -> float:
    """The best photographs are the first `count`, the picture the last, the rest between them."""
    flat = values.flatten(1)
    drawn = flat[:, _drawn(flat.shape[1]).to(flat.device)].nan_to_num().cpu()
    ranks = standing(drawn)
    likeness = (ranks[count:] @ ranks[:count].T).mean(dim=1)
    return float((likeness[:-1] < likeness[-1]).double().mean())


@lru_cache(maxsize=32)
def _drawn(count: int) -> Int64[Tensor, " value"]:
    """Which of so many values are compared, in their order; all where they are few."""
    if count <= MOST_VALUES:
        return torch.arange(count)
    start = torch.zeros(1, dtype=torch.int64)
    numbers = uniform(start, start, purpose="path", count=count)[0]
    return numbers.argsort(stable=True)[:MOST_VALUES].sort().values


def _chosen(values: Float[Tensor, " image"]) -> tuple[list[int], list[int]]:
    """The images with the highest values, and as many others, evenly spaced by their value."""
    told = best_first(values)
    order = values.nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True).tolist()
    count = min(MOST_ALIKE, len(order) // 2, len(told))
    left = [number for number in order if number not in told[:count]]
    return told[:count], [left[number * len(left) // count] for number in range(count)]
