"""How large a picture a unit needs: its receptive field, and room for what the transforms move."""

import math
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from featviz.image.transforms import Stack
from featviz.network.network import Network
from featviz.network.recording import Prefix

GRAIN_PX = 16
"""Sizes are multiples of this, so that few different ones are asked of the hardware."""
LEAST_PX = 32
HALVINGS = 5

_known: "WeakKeyDictionary[Network, dict[str, tuple[float, float]]]" = WeakKeyDictionary()


def auto_size(network: Network, layers: Iterable[str], transforms: Stack) -> tuple[int, int]:
    """Rows and columns in which a neuron in the middle of each layer sees all that it can.

    The field with the reach of the transforms on both sides, rounded up to GRAIN_PX, at least
    LEAST_PX and at most the network's own size, which is also what a field that is not bounded
    gets. Raises UnknownName for a layer that is not there.
    """
    if network.preprocessing.is_fixed_size:
        return network.size
    fields = [_field_px(network, layer) for layer in layers]
    rows, columns = (
        min(native, _rounded(max((each[axis] for each in fields), default=0), transforms))
        for axis, native in enumerate(network.size)
    )
    return rows, columns


def _rounded(field_px: float, transforms: Stack) -> int:
    needed = max(LEAST_PX, field_px + 2 * transforms.reach_px(field_px / 2))
    return GRAIN_PX * math.ceil(needed / GRAIN_PX)


def _field_px(network: Network, layer: str) -> tuple[float, float]:
    """The field of a layer's middle neuron, measured once."""
    fields = _known.setdefault(network, {})
    if layer not in fields:
        try:
            fields[layer] = _measured_px(network, layer)
        except (AssertionError, RuntimeError, ValueError):  # a network that refuses NaN
            fields[layer] = float(network.size[0]), float(network.size[1])
    return fields[layer]


def _measured_px(network: Network, layer: str) -> tuple[float, float]:
    """Rows and columns of the middle neuron's field, within a picture of the native size.

    Of a picture whose first rows are not numbers, the neuron is touched from as many on as reach
    its field; likewise from the other sides. Found by halving, 32nds of the picture, rounded up.
    """
    rows, columns = network.size
    prefix = Prefix(network, [layer], rows=rows, columns=columns)
    sites = prefix.layers[layer].sites
    if len(sites) != 2:
        return float(rows), float(columns)
    untouched, touched = torch.zeros(4), torch.ones(4)
    if bool(_is_touched(prefix, network, torch.full((4,), 2.0**-HALVINGS)).all()):
        return float(rows), float(columns)  # as of most layers: the halving would end there
    for _ in range(HALVINGS):
        shares = (untouched + touched) / 2
        is_touched = _is_touched(prefix, network, shares)
        touched = torch.where(is_touched, shares, touched)
        untouched = torch.where(is_touched, untouched, shares)
    sides = torch.tensor([rows, rows, columns, columns])
    left = (untouched * sides).tolist()
    return rows - left[0] - left[1], columns - left[2] - left[3]


def _is_touched(prefix: Prefix, network: Network, shares: Tensor) -> Tensor:
    """Whether the middle neuron sees these shares of the picture, from the top, bottom, left and
    right."""
    rows, columns = network.size
    (layer,) = prefix.layers.values()
    edges = (shares * torch.tensor([rows, rows, columns, columns])).int().tolist()
    shape = (4, network.preprocessing.channels, rows, columns)
    pictures = torch.full(shape, 0.5, device=network.device)
    pictures[0, :, : edges[0]] = torch.nan
    pictures[1, :, rows - edges[1] :] = torch.nan
    pictures[2, :, :, : edges[2]] = torch.nan
    pictures[3, :, :, columns - edges[3] :] = torch.nan
    with torch.no_grad():
        (said,) = prefix(network.to_input(pictures)).values()
    said = said.movedim(layer.channel_dim, 1)
    return said[:, :, layer.sites[0] // 2, layer.sites[1] // 2].isnan().any(dim=1).cpu()
