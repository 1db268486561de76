"""The architecture of the Caffe GoogLeNet: InceptionV1, the DeepDream network."""

import torch
from torch import Tensor, cat, nn
from torch.nn import functional

INCEPTIONS = {
    # name: input, 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, pooled
    "inc3a": (192, 64, 96, 128, 16, 32, 32),
    "inc3b": (256, 128, 128, 192, 32, 96, 64),
    "inc4a": (480, 192, 96, 208, 16, 48, 64),
    "inc4b": (512, 160, 112, 224, 24, 64, 64),
    "inc4c": (512, 128, 128, 256, 24, 64, 64),
    "inc4d": (512, 112, 144, 288, 32, 64, 64),
    "inc4e": (528, 256, 160, 320, 32, 128, 128),
    "inc5a": (832, 256, 160, 320, 32, 128, 128),
    "inc5b": (832, 384, 192, 384, 48, 128, 128),
}
"""Source: Szegedy et al. 2014, "Going deeper with convolutions", table 1."""


class Inception(nn.Module):
    """Four branches side by side, each convolution rectified, concatenated by channel."""

    def __init__(self, channels: tuple[int, int, int, int, int, int, int]) -> None:
        super().__init__()
        entering, one, reduced3, three, reduced5, five, pooled = channels
        self.b1 = nn.Conv2d(entering, one, 1)
        self.b3r = nn.Conv2d(entering, reduced3, 1)
        self.b3 = nn.Conv2d(reduced3, three, 3, padding=1)
        self.b5r = nn.Conv2d(entering, reduced5, 1)
        self.b5 = nn.Conv2d(reduced5, five, 5, padding=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.bp = nn.Conv2d(entering, pooled, 1)

    def forward(self, maps: Tensor) -> Tensor:
        relu = functional.relu
        return cat(
            [
                relu(self.b1(maps)),
                relu(self.b3(relu(self.b3r(maps)))),
                relu(self.b5(relu(self.b5r(maps)))),
                relu(self.bp(self.pool(maps))),
            ],
            dim=1,
        )


class LocalResponseNorm(nn.LocalResponseNorm):
    """torch's, which on a CPU knows no bfloat16: there it goes by float32.

    A subclass of the same name, as a network's fingerprint has its modules' names and settings: so
    the network stays the one that it was with torch's.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype == torch.bfloat16 and input.device.type == "cpu":
            return super().forward(input.float()).to(input.dtype)
        return super().forward(input)


class GoogLeNetBvlc(nn.Module):
    """The network of Caffe's bvlc_googlenet without its auxiliary heads; returns logits.

    Source: the deploy definition of the BVLC release: ceil-mode pools, local response
    normalization (5, 1e-4, .75, 1) after the first pool and after conv2's 3x3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.norm1 = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.conv2r = nn.Conv2d(64, 64, 1)
        self.conv2 = nn.Conv2d(64, 192, 3, padding=1)
        self.norm2 = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.pool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        for name, channels in INCEPTIONS.items():
            self.add_module(name, Inception(channels))
        self.pool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.pool4 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.fc = nn.Linear(1024, 1000)

    def forward(self, images: Tensor) -> Tensor:
        relu = functional.relu
        maps = self.norm1(self.pool1(relu(self.conv1(images))))
        maps = self.pool2(self.norm2(relu(self.conv2(relu(self.conv2r(maps))))))
        for name in INCEPTIONS:
            maps = self.get_submodule(name)(maps)
            if name == "inc3b":
                maps = self.pool3(maps)
            elif name == "inc4e":
                maps = self.pool4(maps)
        return self.fc(maps.mean(dim=(2, 3)))
