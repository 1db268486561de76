"""Tiny networks, made by hand, that have one of everything the engine must read."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from featviz.network.network import Network
from featviz.network.preprocessing import Preprocessing

GREY = Preprocessing(mean=(0.5, 0.5, 0.5), sd=(0.25, 0.25, 0.25), rows=12, columns=10)


class Everything(nn.Module):
    """first (in-place ReLU), second (BatchNorm, ReLU6), third (functional ReLU), tokens, head.

    At 12x10 pixels the maps of `first` are 12x10 of 6 channels, of `second` 6x5 of 8, of `third`
    6x5 of 5; `tokens` are 30 of 7 features, and `head` has 4 logits.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = nn.Conv2d(3, 6, 3, padding=1)
            self.relu = nn.ReLU(inplace=True)
            self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.relu6 = nn.ReLU6()
            self.third = nn.Conv2d(8, 5, 1)
            self.tokens = nn.Linear(5, 7)
            self.head = nn.Linear(7, 4)
            for weight in self.parameters():
                nn.init.normal_(weight, std=0.4)
            for part, bias in ((self.first, 0.3), (self.norm, 1.0), (self.third, 2.0)):
                nn.init.constant_(part.get_parameter("bias"), bias)  # no unit is dead
            self.norm.running_mean = torch.randn(8) * 0.1
            self.norm.running_var = torch.rand(8) + 0.5

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.first(images))
        maps = self.relu6(self.norm(self.second(maps)))
        maps = functional.relu(self.third(maps))
        tokens = functional.gelu(self.tokens(maps.flatten(2).transpose(1, 2)))
        return self.head(tokens.mean(dim=1))


class Linear(nn.Module):
    """One linear layer on all pixels, its weights of both signs."""

    def __init__(self, rows: int, columns: int, features: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * rows * columns, features)
        generator = torch.Generator().manual_seed(1)
        self.layer.weight.data = torch.randn(self.layer.weight.shape, generator=generator)
        self.layer.bias.data = torch.zeros(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


class Rectified(nn.Module):
    """A 1x1 convolution, its rectifier, and a linear layer: what redirected gradients are for."""

    def __init__(self, rectifier: nn.Module, *, uses_result: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.rectifier = rectifier
        self.uses_result = uses_result
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        result = self.rectifier(maps)
        return self.last(result if self.uses_result else maps)


def network_of(
    module: nn.Module,
    *,
    rows: int = 12,
    columns: int = 10,
    dtype: torch.dtype = torch.float64,
    name: str = "tiny",
    labels: tuple[str, ...] = (),
) -> Network:
    """`module` frozen, with pictures given to it as they are (Linear) or centred around grey."""
    identity = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    mean, sd = identity if isinstance(module, Linear) else (GREY.mean, GREY.sd)
    made_for = Preprocessing(mean=mean, sd=sd, rows=rows, columns=columns)
    return Network(module.to(dtype), made_for, name=name, labels=labels)
