"""featviz: see, record, read and intervene on every neuron of a network.

units  shapes  errors      addresses of units, shape words, every error raised on purpose
kernels/                   in one pass what torch takes many for, on CUDA and CPUs
image/                     what a picture is: color, spectrum, parameterizations, transforms
network/                   what a network is: loading, layers, read points, recording
engine/                    objectives, recipes, and the loops that render them
atlas/                     many pictures: plan, store, build, evidence, coverage, pages
cli/                       the commands

network = featviz.load()
pictures = featviz.render(network, "blocks.4:17", size=128)
pictures[0].save("17.png")
"""

import os

# Read at the first matrix product: without it a row's last bits depend on its place in memory.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

from featviz.engine.algebra import Objective
from featviz.engine.custom import objective
from featviz.engine.fading import interpolation
from featviz.engine.objectives import (
    Channel,
    DeepDream,
    Direction,
    Likeness,
    Logit,
    Misalignment,
    Neuron,
    NeuronDirection,
    TensorDirection,
)
from featviz.engine.penalties import L1, L2, ImageDistance, Roughness, TotalVariation
from featviz.engine.picture import Picture, Pictures
from featviz.engine.recipe import Adam, Plateau, Recipe, lucid_preset
from featviz.engine.render import render
from featviz.errors import FeatvizError
from featviz.image.parameterizations import Fourier, Pixel
from featviz.image.transforms import (
    Blur,
    Crop,
    Flip,
    Jitter,
    Noise,
    Pad,
    Rotate,
    Scale,
    Stack,
)
from featviz.network.network import Network
from featviz.network.preprocessing import Preprocessing
from featviz.network.recording import record
from featviz.network.zoo import load

__all__ = [
    "L1",
    "L2",
    "Adam",
    "Blur",
    "Channel",
    "Crop",
    "DeepDream",
    "Direction",
    "FeatvizError",
    "Flip",
    "Fourier",
    "ImageDistance",
    "Jitter",
    "Likeness",
    "Logit",
    "Misalignment",
    "Network",
    "Neuron",
    "NeuronDirection",
    "Noise",
    "Objective",
    "Pad",
    "Picture",
    "Pictures",
    "Pixel",
    "Plateau",
    "Preprocessing",
    "Recipe",
    "Rotate",
    "Roughness",
    "Scale",
    "Stack",
    "TensorDirection",
    "TotalVariation",
    "interpolation",
    "load",
    "lucid_preset",
    "objective",
    "record",
    "render",
]
