"""The planted network: hand-set weights, every answer known (the answers are in `answers`)."""

from featviz.network.planted.answers import INPUT_MEAN, INPUT_SD, INPUT_SIZE
from featviz.network.planted.network import PlantedNetwork, planted_network

__all__ = ["INPUT_MEAN", "INPUT_SD", "INPUT_SIZE", "PlantedNetwork", "planted_network"]
