"""Objectives on pictures through the tiny networks, alone and as the rows of a program."""

from collections.abc import Sequence

import torch
from torch import Tensor

from featviz.engine.algebra import Objective
from featviz.engine.program import Program
from featviz.engine.seen import Seen, see
from featviz.network.network import Network
from featviz.network.recording import Prefix

BATCH, ROWS, COLUMNS = 6, 12, 10
EXACT = {"rtol": 0, "atol": 1e-12}  # float64 rounding


def pictures(count: int = BATCH, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, ROWS, COLUMNS, generator=generator, dtype=torch.float64)


def seen_of(network: Network, layers: Sequence[str], images: Tensor, *, count: int = 1) -> Seen:
    prefix = Prefix(network, layers, rows=images.shape[2], columns=images.shape[3])
    return see(prefix(network.to_input(images)), prefix.layers, images, count=count)


def values_of(network: Network, objective: Objective, images: Tensor, *, count: int = 1) -> Tensor:
    objective = objective.resolve(network)
    return objective(seen_of(network, objective.layers, images, count=count))


def program_values(
    network: Network, objectives: Sequence[Objective], images: Tensor, *, count: int = 1
) -> tuple[Tensor, Seen]:
    layers = list(dict.fromkeys(layer for each in objectives for layer in each.layers))
    seen = seen_of(network, layers, images, count=count)
    grids = {layer: maps.grid for layer, maps in seen.maps.items()}
    return Program(objectives, grids, like=images)(seen), seen
