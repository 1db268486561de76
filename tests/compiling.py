"""Compiles the CUDA kernels for a GPU that need not be there, and prints their names.

What Triton's interpreter lets pass and its compiler does not (a variable that changes its type in
a branch) shows here. A program of its own: the interpreter is chosen when Triton is imported.
"""

import sys
from typing import Any, cast

import torch
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from featviz.image.color import RGB_FROM_DECORRELATED
from featviz.kernels.cuda.ascent import ascend, ascend_factored
from featviz.kernels.cuda.decoding import (
    coefficients_from_half,
    images_from_half,
    squashed,
    times_gain,
    unsquashed,
)
from featviz.kernels.cuda.depthwise import convolved, convolved_gradient
from featviz.kernels.cuda.input import given, taken
from featviz.kernels.cuda.pairs import paired, unpaired
from featviz.kernels.cuda.pooling import pooled, unpooled
from featviz.kernels.cuda.rectifier import rectified_gradient, rectify_
from featviz.kernels.cuda.response import normalized, normalized_gradient
from featviz.kernels.cuda.warp import gathered, sampled
from featviz.kernels.layout import Window

HOPPER = GPUTarget("cuda", 90, 32)
compiled: set[str] = set()


class Absent:
    """A driver of a GPU that is not there: it says what to compile for."""

    def get_current_target(self) -> GPUTarget:
        return HOPPER

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def compile_only() -> None:
    """From here on a launch compiles, and ends there."""
    run = JITFunction.run

    def compile(self: Any, *args: Any, grid: Any, **options: Any) -> None:
        options["warmup"] = True
        kernel = run(self, *args, grid=grid, **options)
        assert kernel is not None
        assert "cubin" in kernel.asm
        compiled.add(f"{self.fn.__module__}.{self.fn.__name__}")

    driver.set_active(cast("Any", Absent()))
    JITFunction.run = compile


def maps(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.ones(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)


def compile_pictures() -> None:
    """What handles pictures and parameters, which are float32."""
    images, gain, affine = torch.ones(2, 3, 16, 20), torch.ones(16, 20), torch.ones(2, 2, 3)
    rates, half = torch.ones(5), torch.fft.rfft2(images)
    numbers = torch.zeros(2, dtype=torch.int64)
    times_gain(images, gain)
    coefficients_from_half(half, 20, gain)
    settings = 0.3, 0.99, 1e-8
    ascend(images, images, (images, images), (rates, rates), numbers, numbers == 0, settings)
    memory = images, torch.ones(2, 3, 16), torch.ones(2, 3, 20)
    ascend_factored(images, images, memory, (rates, rates), numbers, numbers == 0, settings)
    for matrix in (None, RGB_FROM_DECORRELATED):
        images_from_half(half, 20, matrix)
        unsquashed(images, squashed(images, matrix), matrix)
    for reflects in (False, True):
        sampled(images, affine, 16, 20, reflects=reflects)
        gathered(images, affine, (16, 20), reflects=reflects)


def compile_network(dtype: torch.dtype) -> None:
    """What stands in for operations of a network of this precision."""
    images, values, bias = torch.ones(2, 3, 16, 20), maps(2, 96, 8, 8, dtype=dtype), torch.ones(96)
    numbers = torch.ones(1, 3, 1, 1)
    for is_reversed in (False, True):
        seen = given(images, numbers, numbers, dtype, is_reversed=is_reversed)
        taken(seen, numbers, torch.float32, is_reversed=is_reversed)
    unpaired(paired(seen, 16, (1, 1), (1, 1)), 3, 2, (1, 1), (16, 20))
    unpaired(maps(2, 64, 5, 6, dtype=dtype), 3, 4, (1, 1), (16, 20))
    rectify_(values, bias.to(dtype), (0.0, 6.0))
    for rows in (None, torch.ones(2, dtype=torch.bool)):
        rectified_gradient(values, values, (0.0, 6.0), rows, overwrites=True)
    _, slopes = normalized(values, 5, 0.1, 0.75, 1.0)
    normalized_gradient(values, values, slopes, 5, 0.1, 0.75)
    for stride in (1, 2):
        window = Window((3, 3), (stride, stride), (1, 1))
        size, weight = window.output_size(8, 8), torch.ones(9, 96, dtype=dtype)
        result, places = pooled(values, window, size)
        unpooled(result, places, window, (8, 8))
        for each in (None, bias.to(dtype)):
            convolved_gradient(
                convolved(values, weight, each, window, size), weight, window, (8, 8)
            )


if __name__ == "__main__":
    compile_only()
    compile_pictures()
    for each in (torch.float32, torch.bfloat16, torch.float16):
        compile_network(each)
    sys.stdout.write("\n".join(sorted(compiled)))
