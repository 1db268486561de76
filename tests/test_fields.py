"""Measured receptive fields against the closed form and published numbers."""

import itertools
import random

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from featviz.network.fields import Field, fields


def square(size: int, stride: float) -> Field:
    return Field(size, size, float(stride), float(stride), is_clipped=False)


EVERYTHING = Field(None, None, None, None, is_clipped=False)


def of(module: nn.Module, size: int = 64, **options: int) -> dict[str, Field]:
    return fields(module, torch.zeros(1, 3, size, size), **options)


def random_stack(seed: int) -> tuple[nn.Sequential, list[Field]]:
    """Convolutions and pools, and their fields: r += (k - 1) * dilation * j, then j *= stride."""
    draw = random.Random(seed)
    parts: list[nn.Module] = []
    expected = []
    field, jump = [1, 1], [1, 1]
    for _ in range(4):
        kernel = (draw.randint(1, 5), draw.randint(1, 5))
        stride = (draw.randint(1, 3), draw.randint(1, 3))
        dilation = (draw.randint(1, 3), draw.randint(1, 3))
        padding = (draw.randint(0, kernel[0] // 2), draw.randint(0, kernel[1] // 2))
        if draw.random() < 0.3:
            parts.append(nn.MaxPool2d(kernel, stride, padding, dilation))
        else:
            parts.append(nn.Conv2d(3, 3, kernel, stride, padding, dilation))
        for axis in (0, 1):
            field[axis] += (kernel[axis] - 1) * dilation[axis] * jump[axis]
            jump[axis] *= stride[axis]
        expected.append(Field(*field, *map(float, jump), is_clipped=False))
    return nn.Sequential(*parts), expected


@pytest.mark.parametrize("seed", range(6))
def test_random_stacks_have_the_closed_form(seed: int) -> None:
    module, expected = random_stack(seed)
    assert list(of(module, 300).values()) == expected


def test_rows_are_not_columns() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, (5, 3), stride=(2, 1)), nn.Conv2d(2, 2, (1, 7)))
    assert of(module)["1"] == Field(5, 9, 2.0, 1.0, is_clipped=False)


def test_dead_weights_do_not_shrink_a_field() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 7, padding=3), nn.ReLU(), nn.Conv2d(4, 4, 5))
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(module[0].bias, -1.0)  # type: ignore[arg-type]  # the ReLU passes nothing
    assert of(module)["2"] == square(7 + 4, 1)


def test_alexnet() -> None:
    # k11 s4: 11, 4; pool k3 s2: 19, 8; k5: 51; pool: 67, 16; three k3: 99, 131, 163; pool: 195, 32
    found = of(torchvision.models.alexnet(weights=None), 224)
    measured = [found[f"features.{index}"] for index in (0, 2, 3, 5, 6, 8, 10, 12)]
    assert measured == list(
        map(square, (11, 19, 51, 67, 99, 131, 163, 195), (4, 8, 8, 16, 16, 16, 16, 32))
    )
    assert found["avgpool"] == found["classifier.1"] == EVERYTHING


def test_resnet18() -> None:
    # conv1 k7: 7, 2; maxpool k3: 11, 4. layer1, four k3 at stride 4: 11 + 4 * 8 = 43. Each later
    # stage has one k3 at the old stride j and three at 2 j, + 14 j: 99, then 211, then 435.
    found = of(torchvision.models.resnet18(weights=None), 224)
    assert found["conv1"] == square(7, 2)
    stages = [found[f"layer{stage}"] for stage in (1, 2, 3, 4)]
    assert stages == [square(43, 4), square(99, 8), square(211, 16), square(435, 32)]
    assert found["layer2.0.downsample.0"] == square(43, 8)  # k1: what it reads, every other place
    assert found["fc"] == EVERYTHING


def test_efficientnet_lite0() -> None:
    # (kernel, stride, blocks) of the depthwise convolutions after the stem k3 s2
    field, jump = 3, 2
    expected = {}
    stages = [(3, 1, 1), (3, 2, 2), (5, 2, 2), (3, 2, 3), (5, 1, 3), (5, 2, 4), (3, 1, 1)]
    for stage, (kernel, first_stride, count) in enumerate(stages):
        for block in range(count):
            field += (kernel - 1) * jump
            jump *= first_stride if block == 0 else 1
            expected[f"blocks.{stage}.{block}.conv_dw"] = square(field, jump)
    found = of(timm.create_model("tf_efficientnet_lite0", pretrained=False), 224)
    assert {name: found[name] for name in expected} == expected
    assert expected["blocks.6.0.conv_dw"] == square(851, 32)
    assert found["conv_head"] == square(851, 32)


def test_a_network_of_one_size_is_measured_on_that_size() -> None:
    module = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    found = of(module, 224)
    assert found["patch_embed.proj"] == square(16, 16)
    assert found["blocks.0"] == EVERYTHING


class OneSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Conv2d(3, 2, 5, padding=2)
        self.large = nn.Conv2d(2, 2, 97, padding=48)  # all of the picture, but no more is known

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (48, 48):
            raise ValueError("48 x 48 only")
        return self.large(self.small(images))


def test_a_field_that_does_not_fit_is_clipped() -> None:
    found = of(OneSize(), 48)
    assert found["small"] == square(5, 1)
    assert found["large"] == Field(None, None, None, None, is_clipped=True)


def test_the_largest_picture_is_a_limit() -> None:
    module = nn.Sequential(nn.Conv2d(3, 1, (301, 1), padding=(150, 0)))
    assert of(module, 64)["0"] == Field(301, 1, 1.0, 1.0, is_clipped=False)
    assert of(module, 64, largest_px=256)["0"] == Field(None, 1, None, 1.0, is_clipped=True)


def test_everything_is_seen_through_a_gate_of_the_global_mean() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)
            self.gate = nn.Conv2d(3, 3, 1)
            self.after = nn.Conv2d(3, 3, 3)

        def forward(self, images: Tensor) -> Tensor:
            x = self.conv(images)
            return self.after(x * self.gate(x.mean((2, 3), keepdim=True)).sigmoid())

    found = of(Gated())
    assert found["conv"] == square(3, 1)
    assert found["gate"] == found["after"] == EVERYTHING


def test_a_finer_map_than_the_input_has_half_a_stride() -> None:
    # nearest x 2, then k3 on the fine map: 3 fine positions always touch 2 pixels
    module = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, padding=1))
    found = of(module)
    assert (found["0"], found["1"]) == (square(1, 0.5), square(2, 0.5))


def test_positions_of_one_window_share_its_field() -> None:
    class Windows(nn.Module):
        """Each window of 4 x 4 positions gets its mean."""

        def forward(self, x: Tensor) -> Tensor:
            means = nn.functional.avg_pool2d(x, 4)
            return means.repeat_interleave(4, 2).repeat_interleave(4, 3)

    assert of(nn.Sequential(nn.Conv2d(3, 3, 2, stride=2), Windows()))["1"] == square(8, 2)


def test_the_network_is_as_before() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Dropout())
    module[2].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    of(module)
    assert [each.training for each in module] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(
        itertools.chain(
            *((each._forward_hooks, each._forward_pre_hooks) for each in module.modules())
        )
    )
