"""Each peer as it is released: what it needs, and one unit rendered with its own defaults.

A renderer gets a network for pictures in [0, 1] and returns its picture as (row, column, channel)
bytes. Only the seed, the picture's side and the number of steps are given to it.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Task:
    """A unit: the module whose output's channel is to be high, and how it is asked for."""

    network: nn.Module
    layer: str
    channel: int
    size: int
    steps: int

    @property
    def module(self) -> nn.Module:
        """The layer itself; `network` holds ours as `module`."""
        return self.network.get_submodule(f"module.{self.layer}")


@dataclass(frozen=True)
class Tool:
    """A peer: its release, the package in it, what that imports beside what we have, its defaults.

    `shown_px`: the side that it shows a whole picture to the network at; None for the picture's.
    """

    release: str
    package: str
    needs: tuple[str, ...]
    steps: int
    shown_px: int | None
    render: Callable[[Task], Bytes]


def _lucent(task: Task) -> Bytes:
    from lucent.optvis import (  # pyright: ignore[reportMissingImports]
        objectives,
        param,
        render,
    )

    (images,) = render.render_vis(
        task.network,
        objectives.channel("module_" + task.layer.replace(".", "_"), task.channel),
        param_f=lambda: param.image(task.size),
        preprocess=False,  # the network has its own
        thresholds=(task.steps,),
        show_image=False,
        progress=False,
    )
    return _bytes(torch.from_numpy(images[0]))


def _torch_dreams(task: Task) -> Bytes:
    from torch_dreams import Dreamer  # pyright: ignore[reportMissingImports]

    dreamer = Dreamer(task.network, quiet=True, device="cpu")
    dreamer.set_custom_normalization(nn.Identity())  # the network has its own
    image = dreamer.render(
        layers=[task.module],
        width=task.size,
        height=task.size,
        iters=task.steps,
        custom_func=lambda outputs: -outputs[0][:, task.channel].mean(),
    )
    return _bytes(image.to_hwc_tensor())


def _dreamlens(task: Task) -> Bytes:
    from dreamlens import (  # pyright: ignore[reportMissingImports]
        FeatureVisualizer,
        RenderConfig,
    )

    config = RenderConfig(width=task.size, height=task.size, steps=task.steps)
    visualizer = FeatureVisualizer(task.network, quiet=True, device="cpu", normalize=False)
    result = visualizer.maximize_channel(task.module, task.channel, config=config)
    return _bytes(result.image.as_hwc(device="cpu"))


def _horama(task: Task) -> Bytes:
    from horama import fourier  # pyright: ignore[reportMissingImports]

    with _held(task.module) as held:

        def value(images: Tensor) -> Tensor:
            task.network(images)
            return held[-1][:, task.channel].mean()

        image, _ = fourier(
            value,
            total_steps=task.steps,
            image_size=task.size,
            values_range=(0, 1),  # what our network takes
            device="cpu",
        )
    return _bytes(image.permute(1, 2, 0))


@contextmanager
def _held(module: nn.Module) -> Any:
    """The last result of a module, in a list."""
    held: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        held[:] = [output]

    with module.register_forward_hook(keep):
        yield held


def _bytes(picture: Tensor) -> Bytes:
    return (picture.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


TOOLS = {
    "lucent": Tool(
        release="torch-lucent==0.1.8",
        package="lucent",
        needs=(
            "kornia==0.4.1",  # the newest that it allows
            *("decorator", "ipython", "ipython-pygments-lexers", "jedi", "parso"),
            *("matplotlib-inline", "traitlets", "stack-data", "executing", "asttokens"),
            *("pure-eval", "prompt-toolkit", "wcwidth", "pexpect", "ptyprocess"),
        ),
        steps=512,
        shown_px=224,  # smaller pictures are enlarged to it
        render=_lucent,
    ),
    "torch-dreams": Tool(
        release="torch-dreams==4.0.0",
        package="torch_dreams",
        needs=("opencv-python-headless",),
        steps=120,
        shown_px=None,
        render=_torch_dreams,
    ),
    "dreamlens": Tool(
        release="dreamlens==0.1.1",
        package="dreamlens",
        needs=(),
        steps=120,
        shown_px=None,
        render=_dreamlens,
    ),
    "horama": Tool(
        release="horama==0.3.0",
        package="horama",
        needs=(
            *("matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver", "pyparsing"),
            *("python-dateutil", "six", "einops", "packaging"),
        ),
        steps=1000,
        shown_px=224,  # of crops a quarter as wide; a whole picture is shown at this side
        render=_horama,
    ),
}
