"""What an objective reads: recorded activations in one layout, and the pictures themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import DoesNotFit, OutOfRange
from featviz.network.layers import Layer
from featviz.shapes import Images

IMAGE = "image"
"""The read point that is the picture, before the transforms."""


@dataclass(frozen=True)
class Grid:
    """A layer's channels and where its neurons are: a map, tokens in one column, or one place."""

    channels: int
    rows: int = 1
    columns: int = 1

    def index(self, row: int | str, column: int | str, *, layer: str) -> int:
        """The flat site of a position; "center" is rows // 2, columns // 2. Raises OutOfRange."""
        place = []
        for word, at, size in (("row", row, self.rows), ("column", column, self.columns)):
            number = size // 2 if isinstance(at, str) else at
            if not 0 <= number < size:
                raise OutOfRange(word, number, low=0, high=size - 1, where=f"the map of {layer!r}")
            place.append(number)
        return place[0] * self.columns + place[1]


@dataclass(frozen=True)
class Maps:
    """A layer's values with its sites flattened, as the network gave them; what is read of them
    is at least float32, whatever the network's dtype."""

    given: Float[Tensor, "batch channel site"]
    grid: Grid

    @cached_property
    def values(self) -> Float[Tensor, "batch channel site"]:
        """All of them."""
        return _exact(self.given)

    def at(self, channels: Tensor, sites: Tensor | None = None) -> Tensor:
        """Each row's own channel, (batch, site), or its neuron there, (batch): one gather,
        whatever the rows want, and nothing but what they want is converted."""
        rows = torch.arange(len(self.given), device=self.given.device)
        chosen = (rows, channels) if sites is None else (rows, channels, sites)
        return _exact(self.given[chosen])


@dataclass(frozen=True)
class Seen:
    """All that terms may read at one step.

    `raw` holds the activations as the network gave them, for custom objectives; `count` is how
    many consecutive rows belong to one recipe.
    """

    maps: Mapping[str, Maps]
    raw: Mapping[str, Tensor]
    images: Images
    count: int = 1

    def read(self, layer: str) -> Maps:
        """The maps of a layer, or of the pictures for IMAGE."""
        if layer != IMAGE:
            return self.maps[layer]
        _, channels, rows, columns = self.images.shape
        return Maps(self.images.flatten(2), Grid(channels, rows, columns))


def grid_of(layer: Layer) -> Grid:
    """Where a layer's neurons are. Raises DoesNotFit for other than maps, tokens and features."""
    if len(layer.sites) > 2:
        raise DoesNotFit(
            f"the output of layer {layer.name!r}",
            got=f"{len(layer.sites) + 2} dimensions",
            expected="(batch, channel, row, column), (batch, token, feature) or (batch, feature)",
        )
    return Grid(layer.channels, *layer.sites)


def see(
    recorded: Mapping[str, Tensor], layers: Mapping[str, Layer], images: Images, *, count: int = 1
) -> Seen:
    """Recorded activations as maps."""
    maps = {}
    for key, values in recorded.items():
        layer = layers[key]
        first = values.movedim(layer.channel_dim, 1) if values.ndim > 2 else values.unsqueeze(-1)
        maps[key] = Maps(first.flatten(2), grid_of(layer))
    return Seen(maps, recorded, images, count)


def _exact(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))
