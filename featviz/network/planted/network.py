"""The planted network as a torch module: its weights in ordinary convolutions, and their order."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from featviz.network.planted import weights
from featviz.shapes import Images


class Add(nn.Module):
    """A residual add as a module, so that the sum has an address."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


class PlantedNetwork(nn.Module):
    """A small convolutional network whose every unit is known; the answers stand in `answers`.

    gabor -> complex -> line -> early -> curve -> part -> whole, a ReLU after each; beside them
    joined = ReLU(curve) + ReLU(tint), where tint reads the color unit among the Gabors. The modules
    of these names are the convolutions, so hooks on them see values before the ReLU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gabor = _convolution(weights.gabor_kernel(), stride=2)
        self.complex = _convolution(weights.complex_kernel(), stride=2)
        self.line = _convolution(weights.line_kernel())
        self.early = _convolution(weights.early_kernel(), stride=2)
        self.curve = _convolution(weights.curve_kernel(), weights.curve_bias())
        self.tint = _convolution(weights.tint_kernel(), stride=4)
        self.joined = Add()
        self.part = _convolution(weights.part_kernel())
        self.whole = _convolution(weights.whole_kernel())
        self.head = _linear(weights.head_weight())

    def forward(self, images: Images) -> Tensor:
        """Logits in the order of `LOGITS`, (batch, 3), of images in [-1, 1]: see `INPUT_MEAN`."""
        gabor = functional.relu(self.gabor(images))
        lines = functional.relu(self.line(functional.relu(self.complex(gabor))))
        curve = functional.relu(self.curve(functional.relu(self.early(lines))))
        joined = self.joined(curve, functional.relu(self.tint(gabor)))
        whole = functional.relu(self.whole(functional.relu(self.part(curve))))
        return self.head(torch.cat([joined, whole], dim=1).mean(dim=(2, 3)))


def planted_network() -> PlantedNetwork:
    """The planted network in eval mode, its weights frozen: float64 formulas, kept as float32."""
    return PlantedNetwork().eval().requires_grad_(requires_grad=False)


def _convolution(
    kernel: weights.Kernel, bias: weights.Bias | None = None, *, stride: int = 1
) -> nn.Conv2d:
    """A convolution with this kernel and bias (None: 0), padded so that kernels stay centered."""
    outputs, inputs, rows, columns = kernel.shape
    convolution = nn.Conv2d(
        inputs,
        outputs,
        (rows, columns),
        stride=stride,
        padding=(rows // 2, columns // 2),
        device="meta",  # so that no random numbers are drawn
    )
    shift = torch.zeros(outputs) if bias is None else bias.float()
    convolution.load_state_dict({"weight": kernel.float(), "bias": shift}, assign=True)
    return convolution


def _linear(weight: Tensor) -> nn.Linear:
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, device="meta")
    shift = torch.zeros(outputs)
    linear.load_state_dict({"weight": weight.float(), "bias": shift}, assign=True)
    return linear
