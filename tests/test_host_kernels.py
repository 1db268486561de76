"""C kernels: how they come to be, and what only they do; the rest is in test_kernels."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from kerneling import needs_compiler
from networks import network_of
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

import featviz
from featviz.engine.accelerated import accelerated
from featviz.engine.ascent import ascent
from featviz.engine.batch import shown_to
from featviz.engine.convolution import Convolution
from featviz.engine.execution import execution
from featviz.engine.execution import threads as using
from featviz.engine.operations import MaxPool, Rectifier
from featviz.engine.presumed import stirs_by_row
from featviz.engine.recipe import Adam, default_recipe
from featviz.engine.slots import optimize_batch
from featviz.engine.ways import Depthwise, Direct, FewProducts, First
from featviz.errors import NotAvailable
from featviz.image.fourier import is_decoded
from featviz.image.parameterizations import Fourier, Pixel
from featviz.image.transforms import Crop, Jitter, Member, Noise, Pad, Rotate, Scale, Stack
from featviz.image.warp import Colors, Fill, Reflect, is_colored, resample, rotation, translation
from featviz.kernels import host, kernels
from featviz.kernels.host import bottleneck, convolution, depthwise, library, stem, warp
from featviz.kernels.host.decoding import squashed
from featviz.kernels.host.rectifying import NOTHING, Rectifying
from featviz.kernels.host.response import normalized
from featviz.kernels.host.warp import gathered, sampled
from featviz.kernels.host.winograd import convolved, entered
from featviz.kernels.layout import Window
from featviz.network.network import Network
from featviz.network.preprocessing import Preprocessing
from featviz.network.recording import Prefix
from featviz.shapes import Matrix

LAST = torch.channels_last
RENDERS = """
import json, featviz
picture, = featviz.render(featviz.load("planted"), "curve:3", steps=4, size=48, slots=2)
print(json.dumps([picture.score, dict(picture.execution.versions)["kernels"]]))
"""


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def rendered(**environment: str) -> tuple[float, str]:
    """A score, and which kernels there were, of a process of its own."""
    answer = subprocess.run(
        [sys.executable, "-c", RENDERS],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    score, release = json.loads(answer.stdout)
    return score, release


@pytest.fixture
def _anew() -> Iterator[None]:
    """The library and the compiler are looked for again, before and after."""
    kept = (library.loaded, library._compiler, library._version)
    for each in kept:
        each.cache_clear()
    yield
    for each in kept:
        each.cache_clear()


@needs_compiler
def test_without_a_compiler_torch_does_the_same() -> None:
    with_kernels, release = rendered()
    assert release not in ("", "none")
    without, release = rendered(CC="no-such-compiler")
    assert release == "none"
    # Soon after, a rectifier whose input is nearly 0 makes other pictures of other roundings.
    assert without == pytest.approx(with_kernels, rel=5e-3)


@pytest.mark.usefixtures("_anew")
@pytest.mark.parametrize("compiler", ["false", "", "no-such-compiler", "echo", "'"])
def test_a_compiler_that_does_not_compile_is_none(
    compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", compiler)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernels("warp", torch.zeros(1)) is None
    assert host.release() == "none"
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler that is known to do")
@pytest.mark.usefixtures("_anew")
def test_the_kernels_compile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "gcc -Werror -Wall")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert host.release().startswith("gcc")


@needs_compiler
@pytest.mark.usefixtures("_anew")
def test_the_library_is_compiled_once_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert library.loaded() is not None
    (kept,) = tmp_path.rglob("*.so")
    made = kept.stat().st_mtime_ns
    library.loaded.cache_clear()
    monkeypatch.setattr(library, "_compiled", lambda _: pytest.fail("compiled again"))
    assert library.loaded() is not None
    assert kept.stat().st_mtime_ns == made


@needs_compiler
@pytest.mark.usefixtures("_anew")
def test_other_words_for_the_compiler_are_another_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for number, words in enumerate(("cc", "cc -O0"), start=1):
        monkeypatch.setenv("CC", words)
        library.loaded.cache_clear()
        library._compiler.cache_clear()
        assert library.loaded() is not None
        assert len(list(tmp_path.rglob("*.so"))) == number


@needs_compiler
@pytest.mark.parametrize("left", [0, 3, 40_000, -1])
def test_a_damaged_library_is_replaced(left: int, tmp_path: Path) -> None:
    """In processes of their own: to load what is damaged may kill one."""
    environment = {"XDG_CACHE_HOME": str(tmp_path)}
    score, _ = rendered(**environment)
    (kept,) = tmp_path.rglob("*.so")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:left])
    assert rendered(**environment)[0] == score
    assert kept.read_bytes() == whole


@needs_compiler
@pytest.mark.usefixtures("_anew")
def test_where_nothing_can_be_kept_it_is_compiled_all_the_same_and_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "featviz").write_text("a file")
    compiled, made = library._compiled, list[bytes]()
    monkeypatch.setattr(library, "_compiled", lambda words: made.append(compiled(words)) or made[0])
    assert library.loaded() is not None
    assert len(made) == 1


@needs_compiler
def test_whole_numbers_are_passed_as_c_wants_them() -> None:
    """Adam(beta1=0) has the digest, and has to have the picture, of Adam(beta1=0.0)."""
    ends = []
    for numbers in ((1, 0, 1, 1), (1.0, 0.0, 1.0, 1.0)):
        parameters, memory = random(3, 70), (torch.zeros(3, 70), torch.zeros(3, 70))
        rates, everyone = (torch.ones(1), torch.ones(1)), torch.ones(3, dtype=torch.bool)
        slopes, first = random(3, 70, seed=1), torch.zeros(3, dtype=torch.int64)
        told = parameters, slopes, *memory, *rates, first, everyone, everyone.clone()
        library.call("ascend", *told, 1, *numbers, 3, 70)
        ends.append(parameters)
    assert torch.equal(*ends)
    assert torch.allclose(ends[0], random(3, 70) + slopes / (slopes.abs() + 1))


@needs_compiler
def test_a_kernel_that_is_told_too_little_does_not_run() -> None:
    with pytest.raises(ValueError, match="longer"):
        library.call("stirred_rows", torch.zeros(4), torch.zeros(4, dtype=torch.bool), 4)


@needs_compiler
@pytest.mark.parametrize(
    ("at", "other"),
    [(0, torch.float64), (1, torch.bfloat16), (6, torch.int32), (7, torch.int64), (0, "meta")],
)
def test_a_kernel_reads_no_tensor_of_another_kind(at: int, other: torch.dtype | str) -> None:
    values, flags = torch.zeros(2, 4), torch.ones(2, dtype=torch.bool)
    told = [*[values] * 4, *[torch.ones(3)] * 2, torch.zeros(2, dtype=torch.int64), flags, flags]
    settings = 3, 0.1, 0.9, 0.1, 1e-8, 2, 4
    library.call("ascend", *told, *settings)
    told[at] = told[at].to(other)
    with pytest.raises(TypeError, match="cannot be made of"):
        library.call("ascend", *told, *settings)


@needs_compiler
@pytest.mark.parametrize("wrong", [(0, 2, 4), (None, 2.0, 4), (None, None, 4)])
def test_a_kernel_is_told_nothing_of_another_kind(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="cannot be made of"):
        library.call("stirred_rows", torch.zeros(2, 4), *wrong)


class Interrupting(Tensor):
    """Ctrl-C comes while its address is asked for."""

    def data_ptr(self) -> int:
        raise KeyboardInterrupt


@needs_compiler
def test_an_interruption_while_a_kernel_is_called_is_one() -> None:
    """ctypes tells what comes in its own asking as a wrong argument."""
    values = torch.zeros(2, 4).as_subclass(Interrupting)
    with pytest.raises(KeyboardInterrupt):
        library.call("stirred_rows", values, torch.zeros(2, dtype=torch.bool), 2, 4)


@pytest.fixture(scope="module")
def network() -> Network:
    return featviz.load()


@needs_compiler
def test_a_row_moves_where_torch_says_that_its_gradient_is_finite() -> None:
    gradient = random(6, 3, 5, 7)
    for row, bad in enumerate((torch.nan, torch.inf, -torch.inf), start=1):
        gradient[row, row - 1, row, -row] = bad
    gradient[4, 1, 2, 3] = torch.finfo(torch.float32).max
    everyone, numbers = torch.ones(6, dtype=torch.bool), torch.zeros(6, dtype=torch.int64)
    for dtype in (torch.float32, torch.float64):
        parameters = torch.zeros_like(gradient, dtype=dtype)
        told = ascent(Adam(0.3), parameters, steps=2).step(
            parameters, gradient.to(dtype), numbers=numbers, moves=everyone
        )
        assert told.tolist() == [True, False, False, False, True, True]
        assert parameters.flatten(1).any(dim=1).tolist() == told.tolist()


@needs_compiler
@pytest.mark.parametrize("matrix", [None, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))])
def test_colors_of_any_number_are_the_sigmoids(matrix: Matrix | None) -> None:
    odd = torch.tensor([0x7F800001, -0x3FEDCB], dtype=torch.int32).view(torch.float32)
    far = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38, -3e38, 89, -89, 0, -0.0, 1e-40])
    planes = torch.cat([far, odd, torch.linspace(-90, 90, 1001)])
    assert int(planes.isnan().sum()) == 3
    found = squashed(planes.expand(1, 3, 1, -1), None)[0, 0, 0].double()
    if matrix is not None:  # of the others 0 each, as infinity times 0 is no number
        each = torch.stack([planes if n == 1 else torch.zeros_like(planes) for n in range(3)])
        found = squashed(each[None, :, None], matrix)[0, 1, 0].double()
    expected = planes.double().sigmoid()
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.allclose(found, expected, rtol=3e-7, atol=1e-37, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("size", [(17, 19), (34, 12), (12, 34)])
def test_a_size_with_a_large_prime_factor_is_torchs(size: tuple[int, int]) -> None:
    parameters = random(2, 3, *size)
    assert not is_decoded(parameters)
    assert is_decoded(parameters[..., :12, :12])
    images, exact = Fourier().decode(parameters), Fourier().decode(parameters.double())
    assert torch.allclose(images.double(), exact, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("kind", [Fourier(), Fourier(color="plain"), Pixel()])
@pytest.mark.parametrize("size", [(7, 9), (75, 64), (128, 130)])
def test_threads_decode_as_one_does_for_each(size: tuple[int, int], kind: Fourier | Pixel) -> None:
    parameters, coming = random(5, 3, *size), random(5, 3, *size, seed=1)

    def decoded(rows: slice, count: int) -> tuple[Tensor, Tensor]:
        with using(count):
            few = parameters[rows].requires_grad_()
            images = kind.decode(few)
            return images.detach(), torch.autograd.grad(images, few, coming[rows])[0]

    there, back = decoded(slice(5), 3)
    for row in range(5):
        alone = decoded(slice(row, row + 1), 1)
        assert torch.equal(there[row : row + 1], alone[0])
        assert torch.equal(back[row : row + 1], alone[1])


@needs_compiler
@pytest.mark.parametrize("kind", ["input", "resampled", "fourier", "pixel"])
def test_the_gradient_has_a_gradient(kind: str) -> None:
    network = featviz.load("planted")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh())
    moved = rotation(torch.tensor([20.0, 70.0]), center=(3.0, 5.0))
    module.requires_grad_(requires_grad=False)

    def work(at: Tensor) -> Tensor:
        if kind == "input":
            return module.to(at.dtype)(network.at("cpu", at.dtype).to_input(at))
        if kind == "resampled":
            matrix = moved.to(at.dtype)
            return resample(at, matrix, rows=8, columns=12, border=Reflect()).square()
        return (Fourier() if kind == "fourier" else Pixel()).decode(at).square()

    def twice(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        (first,) = torch.autograd.grad(work(at).square().sum(), at, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), at)
        return second.double()

    images = random(2, 3, 8, 12)
    exact = twice(images.double())
    assert torch.allclose(twice(images), exact, atol=1e-5 * float(exact.abs().max()))


@needs_compiler
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_colors_may_change_while_pictures_are_sampled(
    channels: int,
    is_reversed: bool,  # noqa: FBT001
) -> None:
    colors = Colors(
        random(1, channels, 1, 1, seed=1), random(1, channels, 1, 1, seed=2), is_reversed
    )
    moved = rotation(torch.tensor([20.0, 70.0]), center=(3.0, 5.0))
    how: dict[str, Any] = {"rows": 7, "columns": 13, "border": Reflect()}

    def work(at: Tensor) -> Tensor:
        seen = resample(at, moved.double(), **how) * colors.scale.double() + colors.offset.double()
        return seen.flip(1) if is_reversed else seen

    images = random(2, channels, 8, 12).requires_grad_()
    assert is_colored(images, Reflect())
    exact = images.detach().double().requires_grad_()
    found, expected = resample(images, moved, **how, colors=colors), work(exact)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    coming = random(*found.shape, seed=3)
    (back,) = torch.autograd.grad(found, images, coming, create_graph=True)
    (true,) = torch.autograd.grad(expected, exact, coming.double(), create_graph=True)
    assert torch.allclose(back.double(), true, atol=1e-5)
    upward = random(2, channels, 8, 12, seed=4)
    coming = coming.requires_grad_()
    (back,) = torch.autograd.grad(
        resample(images, moved, **how, colors=colors), images, coming, create_graph=True
    )
    (again,) = torch.autograd.grad(back, coming, upward)
    linear = work(upward.double()) - work(torch.zeros_like(upward).double())
    assert torch.allclose(again.double(), linear, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize(
    ("members", "is_together"),
    [
        ((), False),
        ((Jitter(2), Rotate(5.0)), True),
        ((Noise(0.1), Jitter(2)), True),
        ((Jitter(2), Noise(0.1)), False),
        ((Pad(2, border=Fill(0.5)), Jitter(2), Crop(2)), False),
        ((Jitter(2), Noise(0.1), Scale(0.9, 1.1)), True),
    ],
)
@pytest.mark.parametrize("is_bgr", [False, True])
def test_the_network_sees_the_same_whether_colors_change_with_the_sampling_or_after_it(
    members: tuple[Member, ...],
    is_together: bool,  # noqa: FBT001
    is_bgr: bool,  # noqa: FBT001
) -> None:
    preprocessing = Preprocessing(rows=8, columns=12, mean=(0.1, 0.2, 0.3), is_bgr=is_bgr)
    module = torch.nn.Conv2d(3, 2, 3)
    network = featviz.load(module, preprocessing=preprocessing)
    stack = Stack(members)
    images = random(2, 3, 8, 12).sigmoid()
    assert stack.is_colored(images) == is_together
    seeds = torch.arange(2)
    moved = stack.prepare(stack.draw(seeds, seeds), 8, 12, dtype=torch.float32)
    shown = shown_to(network, stack, images, moved)
    plain = stack.run(images, moved)
    expected = preprocessing.apply(plain, preprocessing.constants(plain))
    assert shown.is_contiguous(memory_format=LAST)
    assert torch.allclose(shown, expected, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("reflects", [True, False])
@pytest.mark.parametrize("far", [1e20, -1e20, torch.inf, -torch.inf, torch.nan, 3e9])
def test_what_lies_far_away_is_a_mirror_image_or_nothing(
    far: float,
    reflects: bool,  # noqa: FBT001
) -> None:
    images = random(2, 3, 9, 7).abs() + 1
    affine = torch.tensor([[[1.0, 0, far], [0, 1, 0]], [[1, 0, 0], [0, 1, far]]])
    result = sampled(images, affine, 9, 7, reflects=reflects)
    back = gathered(torch.ones_like(images), affine, (9, 7), reflects=reflects)
    if math.isfinite(far):
        least, most = (1.0, float(images.max())) if reflects else (0.0, 0.0)
        assert least <= float(result.min()) <= float(result.max()) <= most
        assert float(back.sum()) == pytest.approx(2 * 3 * 9 * 7 if reflects else 0)


@needs_compiler
@pytest.mark.parametrize("reflects", [True, False])
@pytest.mark.parametrize("far", [0.0, -3.5, 7.0, 9.0, 1e20])
def test_nothing_is_read_beside_the_room_or_before_it_is_written(
    far: float,
    reflects: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(like: Tensor, rows: int, columns: int) -> Tensor:
        return torch.full((torch.get_num_threads() + 2, rows + 2, columns + 2, 4), torch.nan)

    monkeypatch.setattr(warp, "_room", nothing)
    images = random(2, 3, 7, 9)
    affine = torch.tensor([[[1.0, 0, far], [0, 1, far]], [[1.0, 0.1, -far], [0, 1, -far]]])
    result = sampled(images, affine, 7, 9, reflects=reflects)
    assert bool(result.isfinite().all())
    assert bool(gathered(result, affine, (7, 9), reflects=reflects).isfinite().all())


@needs_compiler
def test_what_can_only_be_differentiated_once_says_so() -> None:
    maps = random(1, 8, 8, 8).contiguous(memory_format=LAST).requires_grad_()
    result = MaxPool((2, 2), (2, 2), (0, 0), is_ceil=False)(maps)
    with pytest.raises(NotAvailable, match="first derivatives alone"):
        torch.autograd.grad(result.square().sum(), maps, create_graph=True)


@needs_compiler
def test_a_large_response_is_normalized_without_overflow() -> None:
    maps = 1e13 * random(1, 4, 2, 2).abs().add(1).contiguous(memory_format=LAST)
    result, _ = normalized(maps, 3, 0.2, 0.75, 1.0)
    expected = functional.local_response_norm(maps.double(), 3, 0.6, 0.75, 1.0)
    assert torch.allclose(result.double(), expected, rtol=1e-4, atol=0)


@needs_compiler
def test_what_has_no_memory_of_its_own_is_torchs() -> None:
    with FakeTensorMode():
        assert kernels("warp", torch.zeros(1)) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert kernels("warp", torch.zeros(1)) is None
    assert kernels("warp", torch.nn.Parameter(torch.zeros(1))) is not None


@needs_compiler
def test_the_record_has_no_kernels_where_none_run() -> None:
    assert dict(execution(slots=2, dtype="float64").versions)["kernels"] == "none"
    assert dict(execution(slots=2).versions)["kernels"] == host.release() != "none"


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64])
def test_other_types_are_torchs(dtype: torch.dtype) -> None:
    assert kernels("warp", torch.zeros(1, dtype=dtype)) is None
    assert kernels("warp", torch.zeros(1)) is not None


@needs_compiler
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        ((1, 1), (1, 1), (0, 0), (9, 11)),
        ((1, 1), (1, 1), (0, 0), (1, 2)),  # fewer pixels than are made together
        ((3, 3), (1, 1), (1, 1), (7, 7)),
        ((3, 3), (1, 1), (1, 1), (2, 3)),
        ((5, 5), (1, 1), (2, 2), (60, 48)),  # more rows than there is room for
        ((2, 3), (1, 1), (1, 0), (6, 5)),
        ((7, 7), (2, 2), (3, 3), (30, 17)),
        ((4, 1), (4, 3), (0, 0), (17, 8)),  # rows and columns that nothing reads
    ],
)
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 32), (8, 40), (5, 11), (17, 72), (1, 1)])
@pytest.mark.parametrize("threads", [1, 5])
def test_a_direct_convolution_is_torchs(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    size: tuple[int, int],
    inputs: int,
    outputs: int,
    threads: int,
) -> None:
    """Of maps that are a range of larger ones' channels, with what rectifiers beside it want."""
    maps = random(3, inputs + 5, *size).contiguous(memory_format=LAST)[:, 2 : 2 + inputs]
    weight, bias = random(outputs, inputs, *kernel, seed=1), random(outputs, seed=2)
    exact = maps.double().requires_grad_()
    expected = functional.conv2d(exact, weight.double(), bias.double(), stride, padding)
    rows, columns = expected.shape[2:]
    shape, window = (outputs, rows, columns), Window(kernel, stride, padding)
    close = {"rtol": 0, "atol": 1e-5 * float(expected.detach().abs().max())}
    with using(threads):
        there = convolution.packed_kernel(weight), convolution.packed_bias(bias), window, shape
        free = convolution.convolved(maps, *there)
        held = convolution.convolved(maps, *there, Rectifying((-0.5, 1.5)))
        assert free.is_contiguous(memory_format=LAST)
        assert torch.allclose(free.double(), expected, **close)
        assert torch.equal(held, free.clamp(-0.5, 1.5))
        if stride != (1, 1):
            return
        coming = random(*expected.shape, seed=3)
        (true,) = torch.autograd.grad(expected, exact, coming.double())
        back = coming, convolution.packed_back(weight), window, (inputs, *size)
        close["atol"] = 1e-5 * float(true.abs().max())
        found = convolution.convolved_gradient(*back)
        assert torch.allclose(found.double(), true, **close)
        passing = convolution.convolved_gradient(*back, Rectifying((-0.5, 1.5), maps))
        assert torch.equal(passing, found * ((maps > -0.5) & (maps < 1.5)))


@needs_compiler
@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [
        ((1, 1), (1, 1), (9, 11)),
        ((1, 1), (1, 1), (1, 2)),  # fewer pixels than are made together
        ((3, 2), (1, 1), (7, 7)),
        ((5, 5), (1, 1), (60, 48)),  # more rows than there is room for
        ((3, 3), (2, 3), (30, 17)),
    ],
)
@pytest.mark.parametrize(("inputs", "outputs"), [(2, 32), (8, 40), (30, 6), (34, 72)])
@pytest.mark.parametrize("is_dense", [True, False])
@pytest.mark.parametrize("threads", [1, 5])
def test_pairs_are_products_of_rounded_factors(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    size: tuple[int, int],
    inputs: int,
    outputs: int,
    threads: int,
    *,
    is_dense: bool,
) -> None:
    """As torch rounds to bfloat16; summed exactly they are the reference."""
    maps = random(3, inputs + 5, *size).contiguous(memory_format=LAST)[:, 2 : 2 + inputs]
    maps = maps.contiguous(memory_format=LAST) if is_dense else maps
    weight, bias = random(outputs, inputs, *kernel, seed=1), random(outputs, seed=2)
    exact = maps.bfloat16().double().requires_grad_()
    factors, padding = weight.bfloat16().double(), (kernel[0] // 2, kernel[1] // 2)
    expected = functional.conv2d(exact, factors, bias.double(), stride, padding)
    rows, columns = expected.shape[2:]
    shape, window = (outputs, rows, columns), Window(kernel, stride, padding)
    with using(threads):
        packed = convolution.packed_kernel(weight, in_pairs=True), convolution.packed_bias(bias)
        free = convolution.convolved(maps, *packed, window, shape, in_pairs=True)
        held = Rectifying((-0.5, 1.5))
        also = convolution.convolved(maps, *packed, window, shape, held, in_pairs=True)
        alone = convolution.convolved(maps[1:2], *packed, window, shape, in_pairs=True)
        close = {"rtol": 0, "atol": 1e-5 * float(expected.detach().abs().max())}
        assert torch.allclose(free.double(), expected, **close)
        assert torch.equal(also, free.clamp(-0.5, 1.5))
        assert torch.equal(alone, free[1:2])
        if stride != (1, 1):
            return
        coming = random(*expected.shape, seed=3)
        rounded = coming.bfloat16().double()
        (true,) = torch.autograd.grad(expected, exact, rounded)
        back = coming, convolution.packed_back(weight, in_pairs=True), window, (inputs, *size)
        found = convolution.convolved_gradient(*back, in_pairs=True)
        close["atol"] = 1e-5 * float(true.abs().max())
        assert torch.allclose(found.double(), true, **close)


@needs_compiler
@pytest.mark.parametrize("number", [2, 14, 30, 32, 34, 62])
def test_pairs_round_as_torch_does(number: int) -> None:
    """To the nearest, of two the even one: values that lie between two, one times each."""
    bits = torch.arange(number, dtype=torch.int32)
    values = ((0x3F80 << 16) + (bits << 14) + bits % 3 - 1).view(torch.float32)
    values[::5] *= -1e30
    place = Window((1, 1), (1, 1), (0, 0))
    kernel = convolution.packed_kernel(torch.eye(number)[..., None, None], in_pairs=True)
    maps = values.view(1, number, 1, 1)
    said = convolution.convolved(maps, kernel, None, place, (number, 1, 1), in_pairs=True)
    assert torch.equal(said.flatten(), values.bfloat16().float())
    back = convolution.packed_kernel(values.view(number, 1, 1, 1).repeat(1, 2, 1, 1), in_pairs=True)
    one = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    said = convolution.convolved(one, back, None, place, (number, 1, 1), in_pairs=True)
    assert torch.equal(said.flatten(), values.bfloat16().float())


@needs_compiler
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 6), (7, 6), (8, 5), (7, 5)])
def test_factors_are_rounded_where_each_result_sees_an_even_number(
    inputs: int, outputs: int
) -> None:
    window, size = Window((3, 3), (1, 1), (1, 1)), (5, 6)
    weight, maps = random(outputs, inputs, 3, 3, seed=1), random(2, inputs, *size)
    coming = random(2, outputs, *size, seed=2)
    exact, rounded = (Direct.of(weight, None, window, in_pairs=each) for each in (False, True))
    assert torch.equal(exact.forth(maps, NOTHING), rounded.forth(maps, NOTHING)) == bool(inputs % 2)
    mine, theirs = (each.back(coming, size, NOTHING) for each in (exact, rounded))
    assert torch.equal(mine, theirs) == bool(outputs % 2)
    assert torch.allclose(mine, theirs, atol=0.02 * float(mine.abs().max()))


@needs_compiler
def test_of_a_pair_the_second_product_is_added_first() -> None:
    """1 + 2**24 is rounded to 2**24; 1 - 2**24 would not be."""
    values, place = torch.tensor([-4096.0, 4096.0]).view(1, 2, 1, 1), Window((1, 1), (1, 1), (0, 0))
    kernel = convolution.packed_kernel(torch.full((20, 2, 1, 1), 4096.0), in_pairs=True)
    bias = convolution.packed_bias(torch.ones(20))
    said = convolution.convolved(values, kernel, bias, place, (20, 1, 1), in_pairs=True)
    assert torch.equal(said.flatten(), torch.zeros(20))


@needs_compiler
@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf])
def test_what_is_no_number_stays_none_in_pairs(value: float) -> None:
    maps = random(2, 6, 3, 5).contiguous(memory_format=LAST)
    maps[1, 3, 2, 1] = value
    kernel, place = convolution.packed_kernel(torch.ones(9, 6, 1, 1), in_pairs=True), (1, 1)
    said = convolution.convolved(
        maps, kernel, None, Window(place, place, (0, 0)), (9, 3, 5), in_pairs=True
    )
    is_wrong = ~said.isfinite()
    assert int(is_wrong.sum()) == 9
    assert bool(is_wrong[1, :, 2, 1].all())


@needs_compiler
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("has_bias", [False, True])
def test_few_products_work_for_the_rectifiers_beside_them(*, has_bias: bool, size: int) -> None:
    maps = random(2, 16, 7, 9).contiguous(memory_format=LAST)
    bias = random(32, seed=2) if has_bias else None
    there = partial(
        convolved, maps, entered(random(32, 16, size, size, seed=1)), bias, outputs=32, size=size
    )
    free = there()
    assert torch.equal(there(rectifying=Rectifying((0.0, 2.0))), free.clamp(0, 2))
    values = random(*free.shape, seed=3).contiguous(memory_format=LAST)
    values[0, 1, 2, 3] = torch.nan
    passing = there(rectifying=Rectifying((0.0, 1.0), values))
    assert torch.equal(passing, free.masked_fill((values <= 0) | (values >= 1), 0))


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("columns", [1, 3, 4, 7, 8, 9, 17, 33])
@pytest.mark.parametrize("channels", [16, 43])  # a line or two, and what is left of another
@pytest.mark.parametrize(
    ("window", "zeros"),
    [
        (Window((3, 3), (1, 1), (1, 1)), (0, 0)),
        (Window((5, 5), (1, 1), (2, 2)), (0, 0)),
        (Window((3, 3), (2, 2), (1, 1)), (0, 0)),
        (Window((4, 4), (2, 2), (1, 1)), (1, 1)),
        (Window((5, 5), (2, 2), (2, 2)), (0, 0)),
        (Window((3, 5), (2, 1), (0, 3)), (0, 0)),
        (Window((7, 7), (1, 1), (3, 3)), (0, 0)),
        (Window((2, 4), (1, 3), (1, 0)), (0, 0)),
        (Window((1, 1), (1, 1), (0, 0)), (0, 0)),
        (Window((3, 3), (1, 1), (1, 1)), (3, 3)),  # of nothing but zeros
    ],
)
def test_a_depthwise_convolution_is_torchs_there_and_back(
    window: Window, zeros: tuple[int, int], channels: int, columns: int, threads: int
) -> None:
    """`zeros`: rows and columns of them at the beginning of the kernel."""
    size = (6, max(columns, window.size[1] - 2 * window.padding[1]))
    out = window.output_size(*size)
    weight, bias = random(*window.size, channels, seed=1), random(channels, seed=2)
    weight[: zeros[0]], weight[:, : zeros[1]] = 0, 0
    maps = random(2, channels, *size).contiguous(memory_format=LAST)
    coming = random(2, channels, *out, seed=3).contiguous(memory_format=LAST)
    kernel = weight.permute(2, 0, 1).unsqueeze(1).double()
    exact = maps.double().requires_grad_()
    settings = window.stride, window.padding, 1, channels
    expected = functional.conv2d(exact, kernel, bias.double(), *settings)
    (true,) = torch.autograd.grad(expected, exact, coming.double())
    places = weight.flatten(0, 1).contiguous()
    with using(threads):
        there = depthwise.convolved(maps, places, bias, window, out)
        back = depthwise.convolved_gradient(coming, places, window, size)
    assert torch.allclose(there.double(), expected, atol=1e-5)
    assert torch.allclose(back.double(), true, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("window", [Window((3, 3), (1, 1), (1, 1)), Window((4, 4), (2, 2), (1, 1))])
def test_a_depthwise_gradient_passes_where_the_values_are_within(window: Window) -> None:
    values = random(2, 43, 10, 12).contiguous(memory_format=LAST)
    values[0, 1, 2, 3] = torch.nan
    coming, weight = random(2, 43, *window.output_size(10, 12)), random(16, 43, seed=1)
    back = coming, weight[: math.prod(window.size)], window, (10, 12)
    found = depthwise.convolved_gradient(*back, Rectifying((-0.5, 0.5), values))
    is_held = (values <= -0.5) | (values >= 0.5)
    expected = depthwise.convolved_gradient(*back, NOTHING).masked_fill(is_held, 0)
    assert torch.equal(found, expected)
    assert int(found[0, 1, 2, 3] != 0)  # no number is within no bounds, and beyond none


@needs_compiler
@pytest.mark.parametrize("threads", [1, 5])
@pytest.mark.parametrize("channels", [(8, 16, 8), (3, 40, 5), (24, 96, 17)])
@pytest.mark.parametrize(
    ("window", "size"),
    [
        (Window((3, 3), (1, 1), (1, 1)), (6, 7)),
        (Window((3, 3), (1, 1), (1, 1)), (90, 64)),  # more rows than there is room for
        (Window((4, 4), (2, 2), (1, 1)), (70, 64)),
        (Window((5, 3), (2, 1), (0, 2)), (12, 9)),
        (Window((1, 2), (3, 2), (0, 1)), (11, 5)),  # rows and columns that nothing reads
        (Window((3, 3), (1, 1), (2, 2)), (1, 1)),
    ],
)
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("has_first", [True, False])
@pytest.mark.parametrize("in_pairs", [True, False])
def test_a_bottleneck_is_its_convolutions_to_the_bit(
    window: Window,
    size: tuple[int, int],
    channels: tuple[int, int, int],
    batch: int,
    threads: int,
    *,
    has_first: bool,
    in_pairs: bool,
) -> None:
    inputs, wide, outputs = channels
    inputs = inputs if has_first else wide
    of_inputs, of_outputs = in_pairs and inputs % 2 == 0, in_pairs and outputs % 2 == 0
    whole = random(batch, inputs + 4, *size).contiguous(memory_format=LAST)
    maps, out = whole[:, 1 : 1 + inputs], window.output_size(*size)
    first, last = random(wide, inputs, 1, 1, seed=1), random(outputs, wide, 1, 1, seed=2)
    own = random(math.prod(window.size), wide, seed=3)
    biases = [random(each, seed=4) for each in (wide, wide, outputs)]
    bounds, place = ((0.0, 2.0), (-1.0, 1.5)), Window((1, 1), (1, 1), (0, 0))
    held, within = Rectifying((-0.5, torch.inf)), Rectifying((-1.0, 1.0), maps)
    kernels = (
        convolution.packed_kernel(first, in_pairs=of_inputs),
        convolution.packed_kernel(last, in_pairs=in_pairs),
    )
    kernels_back = (
        convolution.packed_back(first, in_pairs=in_pairs),
        convolution.packed_back(last, in_pairs=of_outputs),
    )
    shifts = convolution.packed_bias(biases[0]), biases[1], convolution.packed_bias(biases[2])
    with using(threads):
        one = maps
        if has_first:
            one = convolution.convolved(
                *(maps, kernels[0], shifts[0], place, (wide, *size), Rectifying(bounds[0])),
                in_pairs=of_inputs,
            )
        two = depthwise.convolved(one, own, shifts[1], window, out, Rectifying(bounds[1]))
        expected = convolution.convolved(
            *(two, kernels[1], shifts[2], place, (outputs, *out), held), in_pairs=in_pairs
        )
        start = bottleneck.Step(kernels[0], shifts[0], of_inputs)
        steps = (
            start if has_first else bottleneck.Step(None),
            bottleneck.Step(own, shifts[1]),
            bottleneck.Step(kernels[1], shifts[2], in_pairs),
        )
        found, marks = bottleneck.there(maps, steps, bounds, window, (outputs, *out), held)
        assert torch.equal(found, expected)
        coming = random(*expected.shape, seed=5).contiguous(memory_format=LAST)
        coming[:1] = 0
        coming[1:2, :, : out[0] - 1] = 0  # the last row alone stirs
        passing = Rectifying(bounds[1], two), Rectifying(bounds[0], one) if has_first else within
        two = convolution.convolved_gradient(
            *(coming, kernels_back[1], place, (wide, *out), passing[0]), in_pairs=of_outputs
        )
        expected = depthwise.convolved_gradient(two, own, window, size, passing[1])
        stirring, stirs = torch.zeros((2, batch), dtype=torch.bool), [stirs_by_row(two)]
        stirs.append(stirs_by_row(expected) if has_first else torch.zeros_like(stirs[0]))
        if has_first:
            expected = convolution.convolved_gradient(
                *(expected, kernels_back[0], place, (inputs, *size), within), in_pairs=in_pairs
            )
        end = bottleneck.Step(kernels_back[0], in_pairs=in_pairs)
        steps = (
            bottleneck.Step(kernels_back[1], in_pairs=of_outputs),
            bottleneck.Step(own),
            end if has_first else bottleneck.Step(None),
        )
        shape = inputs, *size
        found = bottleneck.back(coming, steps, marks, window, shape, within, stirring)
        assert torch.equal(found, expected)
        assert torch.equal(stirring, torch.stack(stirs))


@needs_compiler
def test_bottlenecks_are_one_operation_where_nobody_reads_in_them(network: Network) -> None:
    plan, found = accelerated(network, 64, 64), []
    for keys in (["blocks.6"], ["blocks.6", "blocks.3.1.conv_dw"], ["blocks.6", "blocks.3.0"]):
        prefix = Prefix(network, keys, rows=64, columns=64)
        reading = plan.reading(prefix.wanted.operations)
        found.append(len(set(map(id, reading._bottlenecks.values()))))
        assert not reading.redirecting(torch.tensor([True]))._bottlenecks
    assert found == [16, 15, 16]  # every block; one that is read in is left out
    assert not plan._bottlenecks  # anyone may read anything


@needs_compiler
def test_a_bottleneck_is_the_same_to_the_bit_beside_whoever_reads_in_it(network: Network) -> None:
    """And beside pictures with redirected gradients, of which none is blocked."""
    images = random(2, 3, 64, 64).contiguous(memory_format=LAST).requires_grad_()
    found = []
    for more in ([], ["blocks.3.1.conv_dw"], ["blocks.2.0.conv_pw/pre"], ["blocks.2.0.conv_pw"]):
        prefix = Prefix(network, ["blocks.4", *more], rows=64, columns=64)
        plan, plain = accelerated(network, 64, 64).reading(prefix.wanted.operations), prefix(images)
        for each in (plan, plan.redirecting(torch.tensor([True, True]))):
            said = prefix(images, substitute=each)
            assert all(torch.allclose(said[key], plain[key], atol=1e-3) for key in more)
            end = said["blocks.4"]
            found.append((end.detach(), torch.autograd.grad(end.square().sum(), images)[0]))
    assert found[0][1].abs().max() > 0
    assert all(torch.equal(each[k], found[0][k]) for each in found[1:] for k in range(2))


@needs_compiler
def test_a_plan_in_pairs_is_the_plan_but_for_rounding(network: Network) -> None:
    images = random(2, 3, 64, 64).contiguous(memory_format=LAST).requires_grad_()
    pairs = network.at("cpu", torch.float32, in_pairs=True)
    prefix = Prefix(pairs, ["blocks.4"], rows=64, columns=64)
    exact, rounded = (
        accelerated(each, 64, 64).reading(prefix.wanted.operations) for each in (network, pairs)
    )
    found = []
    for plan in (exact, rounded, rounded.apart()):
        said = prefix(images, substitute=plan)["blocks.4"]
        found.append((said.detach(), torch.autograd.grad(said.square().sum(), images)[0]))
    for one, other, apart, share in zip(*found, (0.03, 0.3), strict=True):
        assert 0 < float((one - other).norm() / one.norm()) < share
        assert torch.equal(other, apart)
    assert rounded.has_bottlenecks


@needs_compiler
def test_pairs_are_made_beside_what_is_exact_and_share_the_rest(network: Network) -> None:
    pairs = network.at("cpu", torch.float32, in_pairs=True)
    exact, rounded = (accelerated(each, 64, 64) for each in (network, pairs))
    assert rounded.in_pairs
    assert not exact.in_pairs
    assert rounded.rewrites is exact.rewrites
    assert accelerated(network, 64, 64) is exact


class Rectified(nn.Module):
    """Rectifiers between convolutions of every kind that has a way of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.ReLU6(inplace=True),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.ReLU(),
            nn.Conv2d(32, 48, 1),
            nn.BatchNorm2d(48).eval(),
            nn.Hardtanh(-0.25, 0.25),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(48, 24, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(24, 24, 3, stride=2),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


@needs_compiler
@pytest.mark.parametrize(
    ("shape", "zeros", "padding"),
    [
        ((16, 8, 1, 1), (1, 0, 1, 0), 1),  # as many results as there are pixels beside them
        ((16, 3, 1, 1), (1, 0, 1, 0), 1),
        ((16, 8, 1, 1), (2, 0, 2, 0), 2),
        ((16, 8, 1, 1), (0, 2, 0, 2), 0),  # fewer results than pixels
        ((16, 8, 3, 2), (1, 0, 1, 1), 1),
        ((16, 8, 2, 2), (0, 1, 2, 0), 2),
    ],
)
def test_zeros_at_the_ends_of_a_kernel_are_left_out_there_and_back(
    shape: tuple[int, ...], zeros: tuple[int, int, int, int], padding: int
) -> None:
    weight = functional.pad(random(*shape, seed=1), zeros)
    own = Convolution(weight, None, (1, 1), (padding, padding), (1, 1), 1).laid_out()
    images = random(2, shape[1], 9, 11).contiguous(memory_format=LAST).requires_grad_()
    exact = images.detach().double().requires_grad_()
    expected = functional.conv2d(exact, weight.double(), None, 1, padding)
    result = own(images)
    assert own._way(images) is not None
    assert torch.allclose(result.double(), expected, atol=1e-4)
    coming = random(*result.shape, seed=2)
    (found,) = torch.autograd.grad(result, images, coming)
    (true,) = torch.autograd.grad(expected, exact, coming.double())
    assert torch.allclose(found.double(), true, atol=1e-4)


@needs_compiler
def test_a_dilated_convolution_is_torchs() -> None:
    weight = random(16, 8, 3, 3, seed=1)
    own = Convolution(weight, None, (1, 1), (2, 2), (2, 2), 1).laid_out()
    maps = random(2, 8, 9, 7).contiguous(memory_format=LAST)
    assert torch.equal(own(maps), functional.conv2d(maps, own.weight, None, 1, 2, 2))


class Squeezing(nn.Module):
    """Bottlenecks: one between rectifiers; what is one without its first convolution, or none, for
    each reason there is."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        wide = 12 if kind == "odd" else 16
        stride = 2 if kind == "strided" else 1
        few = 4 if kind == "few" else 8
        self.stem = nn.Conv2d(3, few, 3, padding=1)
        self.wide = nn.Conv2d(few, wide, 1, stride=stride)
        spread = 2 if kind == "dilated" else 1
        self.own = nn.Conv2d(wide, wide, 3, padding=spread, dilation=spread, groups=wide)
        self.narrow = nn.Conv2d(wide, 8, 1)
        self.last = nn.Conv2d(8, 8, 1)
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        maps = self.wide(functional.relu(self.stem(images)))
        if self.kind == "shape":
            maps = maps * (1 + 1e-5 * maps.shape[1])
        maps = functional.hardtanh(maps, -0.5, 0.5)
        if self.kind == "asserted":
            assert maps.shape[1] == 16
        maps = functional.relu6(self.own(maps))
        if self.kind == "counted":
            maps = self.narrow(maps) * (1 + 1e-5 * len(maps.flatten(1)[0]))
        elif self.kind == "normalized":
            maps = self.narrow(functional.layer_norm(maps, maps.shape[1:]))
        else:
            maps = self.narrow(maps)
        return self.last(functional.hardtanh(maps, -0.05, 0.05))


@needs_compiler
@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("plain", 1),
        ("strided", 1),  # without its first, as the next two
        ("few", 1),
        ("shape", 1),
        ("odd", 0),
        ("dilated", 0),
        ("asserted", 0),
        ("counted", 0),
        ("normalized", 0),
    ],
)
def test_what_is_a_bottleneck_and_what_is_none(kind: str, count: int) -> None:
    torch.manual_seed(0)
    network = network_of(Squeezing(kind), rows=10, columns=12, dtype=torch.float32)
    prefix = Prefix(network, ["last"], rows=10, columns=12)
    plan = accelerated(network, 10, 12)
    assert plan.rewrites  # what is lost is the bottleneck alone
    plan = plan.reading(prefix.wanted.operations)
    assert len(set(map(id, plan._bottlenecks.values()))) == count
    images = random(2, 3, 10, 12).contiguous(memory_format=LAST).requires_grad_()
    (said,) = prefix(images, substitute=plan).values()
    exact = network.at(network.device, torch.float64)
    pixels = images.detach().double().requires_grad_()
    (expected,) = Prefix(exact, ["last"], rows=10, columns=12)(pixels).values()
    assert torch.allclose(said.double(), expected, atol=1e-4)
    coming = random(*said.shape, seed=1)
    (found,) = torch.autograd.grad(said, images, coming)
    (true,) = torch.autograd.grad(expected, pixels, coming.double())
    assert torch.allclose(found.double(), true, atol=1e-4 * float(true.abs().max()))


@needs_compiler
def test_bottlenecks_share_no_convolution() -> None:
    """Of convolutions of one place and of each channel's own in turn, some belong to two."""
    torch.manual_seed(0)
    own = [nn.Conv2d(each, each, 3, padding=1, groups=each) for each in (16, 24, 24)]
    one = [nn.Conv2d(*each, 1) for each in ((16, 24), (24, 24), (24, 8))]
    turns = [each for pair in zip(own, one, strict=True) for each in pair]
    layers = [nn.Conv2d(3, 16, 3, stride=2, padding=1), *turns]
    module = nn.Sequential(*(part for each in layers for part in (each, nn.ReLU())))
    network = network_of(module, rows=20, columns=16, dtype=torch.float32)
    prefix = Prefix(network, ["13"], rows=20, columns=16)
    plan = accelerated(network, 20, 16).reading(prefix.wanted.operations)
    joined = [(each.first is not None, each.own) for each in set(plan._bottlenecks.values())]
    assert sorted((has_first, len(each.weight)) for has_first, each in joined) == [
        (False, 24),
        (True, 24),
    ]
    assert len({id(each) for _, each in joined}) == 2
    images, found = random(2, 3, 20, 16).contiguous(memory_format=LAST).requires_grad_(), []
    for each in (plan, plan.apart()):
        (said,) = prefix(images, substitute=each).values()
        found.append((said.detach(), torch.autograd.grad(said.square().sum(), images)[0]))
    assert all(torch.equal(found[0][k], found[1][k]) for k in range(2))
    exact = network.at(network.device, torch.float64)
    (expected,) = Prefix(exact, ["13"], rows=20, columns=16)(images.double()).values()
    assert torch.allclose(found[0][0].double(), expected, atol=1e-5)


class Mixed(nn.Module):
    """Convolutions and rectifiers of which some have autocast where the rest has none, or none
    where the rest has it."""

    def __init__(self, *where: str, is_outer: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.wide = nn.Conv2d(16, 16, 1)
        self.own = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.narrow = nn.Conv2d(16, 8, 1)
        self.where, self.is_outer = where, is_outer

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for name in ("stem", "wide", "own", "narrow"):
            with self.context(name):
                is_cast = (name in self.where) == self.is_outer
                maps = getattr(self, name)(maps.float() if is_cast else maps)
            with self.context(f"{name} rectified"):
                maps = functional.relu(maps) if name != "narrow" else maps
        return maps.float()

    def context(self, name: str) -> AbstractContextManager[Any]:
        if name not in self.where:
            return nullcontext()
        return torch.autocast("cpu", torch.bfloat16, enabled=not self.is_outer)


@needs_compiler
@pytest.mark.parametrize("is_outer", [False, True])
@pytest.mark.parametrize(
    "where",
    [
        ("wide",),
        ("own",),
        ("narrow",),
        ("wide", "wide rectified"),
        ("wide rectified", "own"),
        ("own rectified", "narrow"),
        ("stem", "own", "narrow"),
        ("own", "own rectified", "narrow"),
    ],
)
def test_what_has_autocast_alone_shares_no_work(where: tuple[str, ...], *, is_outer: bool) -> None:
    torch.manual_seed(0)
    network = network_of(Mixed(*where, is_outer=is_outer), rows=10, columns=12, dtype=torch.float32)
    prefix = Prefix(network, ["narrow"], rows=10, columns=12)
    plan = accelerated(network, 10, 12).reading(prefix.wanted.operations)
    images = random(2, 3, 10, 12).contiguous(memory_format=LAST).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_outer):
        (said,) = prefix(images, substitute=plan).values()
        (expected,) = prefix(images).values()
    coming = random(*said.shape, seed=1).to(said.dtype)
    (found,) = torch.autograd.grad(said, images, coming)
    (true,) = torch.autograd.grad(expected, images, coming)
    said, expected = said.detach(), expected.detach()
    assert float((said - expected).norm() / expected.norm()) < 0.02
    assert float((found - true).norm() / true.norm()) < 0.1  # of rounding; of mistakes, 1


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("is_default", [True, False])
def test_a_picture_does_not_depend_on_how_many_there_are(
    network: Network, threads: int, *, is_default: bool
) -> None:
    """Nor does its gradient, to the bit."""
    torch.manual_seed(0)
    side, end = (64, "blocks.6") if is_default else (24, "layers.10")
    asked = network if is_default else network_of(Rectified(), rows=24, dtype=torch.float32)
    prefix = Prefix(asked, [end], rows=side, columns=side)
    plan = accelerated(asked, side, side).reading(prefix.wanted.operations)
    assert plan.rewrites
    images = random(9, 3, side, side).contiguous(memory_format=LAST)
    found = []
    with using(threads):
        for count in (9, 2, 1):
            few = images[:count].requires_grad_()
            (said,) = prefix(few, substitute=plan).values()
            found.append((said[:1], torch.autograd.grad(said.sum(), few)[0][:1]))
    assert all(torch.equal(each[k], found[0][k]) for each in found[1:] for k in range(2))


@needs_compiler
@pytest.mark.parametrize("redirects", [False, True])
@pytest.mark.parametrize("read", [[], ["layers.6"], ["layers.5"], ["layers.9"]])
def test_rectifiers_between_convolutions_are_torchs(*, read: list[str], redirects: bool) -> None:
    """Whoever reads beside them: what is read has its own gradient."""
    torch.manual_seed(0)
    network = network_of(Rectified(), rows=32, columns=32, dtype=torch.float32)
    plan = accelerated(network, 32, 32)
    ways = {
        type(each._way(random(2, each.weight.shape[1] * each.groups, 16, 16))).__name__
        for each in plan.rewrites.values()
        if isinstance(each, Convolution)
    }
    assert ways == {"First", "Depthwise", "Direct", "FewProducts", "NoneType"}
    afters = [bool(each.after) for each in plan.rewrites.values() if isinstance(each, Rectifier)]
    assert afters == [True] * 5
    prefix = Prefix(network, ["layers.12", *read], rows=32, columns=32)
    plan = plan.reading(prefix.wanted.operations)
    if redirects:  # nothing in it is blocked, so that nothing changes
        plan = plan.redirecting(torch.tensor([True, False]))
    images = random(2, 3, 32, 32).contiguous(memory_format=LAST).requires_grad_()
    said = prefix(images, substitute=plan)
    exact = network.at(network.device, torch.float64)
    pixels = images.detach().double().requires_grad_()
    expected = Prefix(exact, ["layers.12", *read], rows=32, columns=32)(pixels)
    weights = {key: random(*each.shape, seed=1) for key, each in said.items()}
    sums = [(weights[key] * said[key]).sum() for key in said]
    (found,) = torch.autograd.grad(sums, images)
    sums = [(weights[key].double() * expected[key]).sum() for key in said]
    (true,) = torch.autograd.grad(sums, pixels)
    for key, each in said.items():
        assert torch.allclose(each.double(), expected[key], atol=1e-4), key
    assert torch.allclose(found.double(), true, atol=1e-4 * float(true.abs().max()))


@needs_compiler
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(4, 4), (8, 16), (7, 14), (5, 9), (1, 2), (33, 6)])
@pytest.mark.parametrize("outputs", [16, 32, 48, 64, 80])  # panels of all widths
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("is_slice", [False, True])
def test_few_products_are_the_convolution(
    kernel: int,
    size: tuple[int, int],
    outputs: int,
    has_bias: bool,  # noqa: FBT001
    is_slice: bool,  # noqa: FBT001
) -> None:
    whole = random(3, 32, *size).contiguous(memory_format=LAST)
    maps = whole[:, 8:24] if is_slice else whole
    weight = random(outputs, maps.shape[1], kernel, kernel, seed=1)
    bias = random(outputs, seed=2) if has_bias else None
    shift = None if bias is None else bias.double()
    expected = functional.conv2d(maps.double(), weight.double(), shift, padding=kernel // 2)
    there = partial(convolved, maps, entered(weight), bias, outputs=outputs, size=kernel)
    with using(1):
        result = there()
    for count in (3, 16):  # some share tiles where there are fewer than threads
        with using(count):
            assert torch.equal(there(), result)
    assert result.is_contiguous(memory_format=LAST)
    assert torch.allclose(result.double(), expected, atol=1e-5 * float(expected.abs().max()))


@needs_compiler
@pytest.mark.parametrize("size", [3, 5])
def test_a_kernel_of_few_products_is_exact_but_for_rounding(size: int) -> None:
    """Whole numbers in, whole numbers out: the points and their factors are right to the bit."""
    maps = random(1, 16, 4, 4).round().contiguous(memory_format=LAST)
    weight = random(16, 16, size, size, seed=1).round() * 24 * 24
    expected = functional.conv2d(maps.double(), weight.double(), padding=size // 2)
    result = convolved(maps, entered(weight), None, outputs=16, size=size)
    assert torch.equal(result.double(), expected)


@needs_compiler
@pytest.mark.parametrize(
    ("kernel", "padding"), [(3, (0, 0)), (3, (2, 2)), (3, (1, 0)), (5, (1, 1)), (5, (2, 0))]
)
def test_few_products_are_of_maps_whose_size_stays(kernel: int, padding: tuple[int, int]) -> None:
    weight, maps = random(32, 32, kernel, kernel, seed=1), random(2, 32, 8, 8)
    own = Convolution(weight, None, (1, 1), padding, (1, 1), 1).laid_out()
    images = maps.contiguous(memory_format=LAST)
    assert not isinstance(own._way(images), FewProducts)
    expected = functional.conv2d(maps.double(), weight.double(), padding=padding)
    assert torch.allclose(own(images).double(), expected, rtol=1e-4, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(8, 8), (16, 12)])
def test_rows_of_few_products_are_strangers_to_the_bit(size: tuple[int, int], kernel: int) -> None:
    weight, bias = random(64, 32, kernel, kernel, seed=1), random(64, seed=2)
    within = kernel // 2, kernel // 2
    own = Convolution(weight, bias, (1, 1), within, (1, 1), 1).laid_out()
    order = torch.tensor([4, 2, 0, 1, 3])
    results = []
    for maps in (random(5, 32, *size), random(5, 32, *size)[order]):
        images = maps.contiguous(memory_format=LAST).requires_grad_()
        result = own(images)
        (back,) = torch.autograd.grad(result.square().sum(), images)
        results.append((result.detach(), back))
    (here, mine), (there, theirs) = results
    assert torch.equal(here[order], there)
    assert torch.equal(mine[order], theirs)


@needs_compiler
@pytest.mark.parametrize(
    ("shape", "stride", "size", "is_quick"),
    [
        ((32, 32, 3, 3), 1, (8, 8), True),
        ((48, 64, 3, 3), 1, (14, 14), True),
        ((40, 64, 3, 3), 1, (14, 14), False),
        ((64, 40, 3, 3), 1, (14, 14), False),
        ((32, 32, 3, 3), 1, (2, 2), True),  # as many as there are terms
        ((32, 32, 3, 3), 1, (1, 3), False),
        ((16, 48, 5, 5), 1, (7, 7), True),
        ((16, 48, 5, 5), 1, (1, 2), True),
        ((16, 48, 5, 5), 1, (1, 1), False),
        ((24, 48, 5, 5), 1, (7, 7), False),
        ((16, 16, 7, 7), 1, (7, 7), False),
        ((24, 32, 3, 3), 1, (8, 8), False),
        ((36, 32, 3, 3), 1, (8, 8), False),
        ((32, 32, 3, 3), 2, (8, 8), False),
        ((32, 32, 5, 3), 1, (8, 8), False),
        ((32, 1, 3, 3), 1, (8, 8), False),
    ],
)
def test_few_products_are_chosen_where_they_pay(
    shape: tuple[int, int, int, int],
    stride: int,
    size: tuple[int, int],
    is_quick: bool,  # noqa: FBT001
) -> None:
    weight, groups = random(*shape, seed=1) / (9 * shape[1]) ** 0.5, 32 if shape[1] == 1 else 1
    within = shape[2] // 2, shape[2] // 2
    settings = (stride, stride), within, (1, 1), groups
    own = Convolution(weight, None, *settings).laid_out()
    images = random(4, shape[1] * groups, *size).contiguous(memory_format=LAST).requires_grad_()
    result = own(images)
    assert isinstance(own._way(images), FewProducts) == is_quick
    exact = images.detach().double().requires_grad_()
    expected = functional.conv2d(exact, weight.double(), None, *settings)
    assert torch.allclose(result.double(), expected, atol=1e-4)
    coming = random(*result.shape, seed=2)
    (back,) = torch.autograd.grad(result, images, coming)
    (true,) = torch.autograd.grad(expected, exact, coming.double())
    assert torch.allclose(back.double(), true, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [
        ((7, 7), (2, 2), (3, 3), (16, 140)),  # more of a row than is added up at once
        ((3, 3), (1, 1), (1, 1), (9, 8)),
        ((4, 4), (4, 4), (0, 0), (18, 8)),  # two rows that nothing reads
        ((2, 3), (3, 4), (0, 1), (11, 14)),  # and rows and columns between
        ((5, 1), (2, 1), (4, 0), (6, 5)),
        ((1, 1), (1, 1), (0, 0), (3, 4)),
    ],
)
@pytest.mark.parametrize("colors", [1, 3, 4])
@pytest.mark.parametrize("threads", [1, 5])
def test_the_gradient_of_a_convolution_of_few_colors_is_torchs(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    size: tuple[int, int],
    colors: int,
    threads: int,
) -> None:
    weight = random(10, colors, *kernel, seed=1)
    images = random(2, colors, *size, dtype=torch.float64).requires_grad_()
    result = functional.conv2d(images, weight.double(), None, stride, padding)
    wide = random(2, 16, *result.shape[2:], seed=2).contiguous(memory_format=LAST)
    coming = wide[:, 3:13]
    (expected,) = torch.autograd.grad(result, images, coming.double())
    with using(threads):
        window = Window(kernel, stride, padding)
        found = stem.gradient_at(coming, stem.packed(weight), window, colors, size)
    assert found.is_contiguous(memory_format=LAST)
    assert torch.allclose(found.double(), expected, atol=1e-5 * float(expected.abs().max()))


@needs_compiler
@pytest.mark.parametrize("zeros", [(1, 0, 1, 0), (0, 2, 1, 1), (2, 0, 0, 0), (4, 0, 0, 0)])
def test_rows_of_zeros_around_a_kernel_are_left_out(zeros: tuple[int, int, int, int]) -> None:
    """(left, right, top, bottom), as far as the padding goes; a kernel of nothing else stays."""
    weight = functional.pad(random(8, 3, 4, 4, seed=1), [-each for each in zeros])
    weight = functional.pad(weight, zeros)
    own = Convolution(weight, None, (2, 2), (1, 1), (1, 1), 1).laid_out()
    images = random(2, 3, 10, 12).contiguous(memory_format=LAST).requires_grad_()
    way = own._way(images)
    assert isinstance(way, First)
    left = 4 - min(zeros[0], 1) - zeros[1] if weight.any() else 4
    assert way.there.used.size[1] == left
    exact = images.detach().double().requires_grad_()
    coming = random(*own(images).shape, seed=2)
    (found,) = torch.autograd.grad(own(images), images, coming)
    expected = functional.conv2d(exact, weight.double(), None, 2, 1)
    assert torch.allclose(own(images).double(), expected, atol=1e-4)
    (true,) = torch.autograd.grad(expected, exact, coming.double())
    assert torch.allclose(found.double(), true, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("channels", [5, 8, 40, 75])
def test_a_depthwise_convolution_is_held_within_bounds(channels: int) -> None:
    maps = random(2, channels, 6, 7).contiguous(memory_format=LAST)
    maps[1, 2, 3, 3] = torch.nan
    weight, bias = random(9, channels, seed=1), random(channels, seed=2)
    window = Window((3, 3), (1, 1), (1, 1))
    free = depthwise.convolved(maps, weight, bias, window, (6, 7))
    held = depthwise.convolved(maps, weight, bias, window, (6, 7), Rectifying((-0.5, 1.5)))
    assert torch.equal(held.nan_to_num(9), free.clamp(-0.5, 1.5).nan_to_num(9))
    assert int(held.isnan().sum()) == 9


@needs_compiler
@pytest.mark.parametrize("zeros", [(1, 0, 1, 0), (0, 2, 1, 1), (0, 0, 0, 1), (2, 0, 0, 0)])
def test_zeros_at_the_ends_of_a_depthwise_kernel_are_not_read(
    zeros: tuple[int, int, int, int],
) -> None:
    """(left, right, top, bottom), as far as the padding goes; with them a kernel takes in a
    padding, and zero times infinity would be no number."""
    weight = functional.pad(random(16, 1, 5, 5, seed=1), [-each for each in zeros])
    weight = functional.pad(weight, zeros)
    bias = random(16, seed=2)
    own = Convolution(weight, bias, (2, 2), (1, 1), (1, 1), 16).laid_out()
    left = (5 - zeros[2] - zeros[3], 5 - min(zeros[0], 1) - zeros[1])
    assert own.depthwise.used.size == left
    images = random(2, 16, 10, 12).contiguous(memory_format=LAST).requires_grad_()
    assert isinstance(own._way(images), Depthwise)
    exact, settings = images.detach().double().requires_grad_(), (2, 1, 1, 16)
    expected = functional.conv2d(exact, weight.double(), bias.double(), *settings)
    coming = random(*expected.shape, seed=3)
    (found,) = torch.autograd.grad(own(images), images, coming)
    (true,) = torch.autograd.grad(expected, exact, coming.double())
    assert torch.allclose(own(images).double(), expected, atol=1e-4)
    assert torch.allclose(found.double(), true, atol=1e-4)
    if zeros == (0, 0, 0, 1):
        maps = images.detach()
        maps[0, :, 3, 4] = torch.inf  # which the first row of results meets with zeros alone
        assert bool(own(maps)[0, :, 0].isfinite().all())
        assert not bool(own(maps)[0, :, 1].isfinite().all())


@needs_compiler
@pytest.mark.parametrize("threads", [1, 5])
def test_what_is_no_number_passes_a_bottleneck_as_its_convolutions(threads: int) -> None:
    window, place, bounds = (
        Window((3, 3), (1, 1), (1, 1)),
        Window((1, 1), (1, 1), (0, 0)),
        (0.0, 6.0),
    )
    maps = random(2, 8, 9, 17).contiguous(memory_format=LAST)
    maps[1, 2, 4, 8] = torch.nan
    first, last = random(32, 8, 1, 1, seed=1), random(8, 32, 1, 1, seed=2)
    own, coming = random(9, 32, seed=3), random(2, 8, 9, 17, seed=4).contiguous(memory_format=LAST)
    kernels = convolution.packed_kernel(first), convolution.packed_kernel(last)
    kernels_back = convolution.packed_back(first), convolution.packed_back(last)
    size, held = (9, 17), Rectifying(bounds)
    with using(threads):
        one = convolution.convolved(maps, kernels[0], None, place, (32, *size), held)
        two = depthwise.convolved(one, own, None, window, size, held)
        three = convolution.convolved(two, kernels[1], None, place, (8, *size))
        steps = bottleneck.Step(kernels[0]), bottleneck.Step(own), bottleneck.Step(kernels[1])
        found, marks = bottleneck.there(maps, steps, (bounds, bounds), window, (8, *size))
        passing = [Rectifying(bounds, each) for each in (two, one)]
        back = convolution.convolved_gradient(
            coming, kernels_back[1], place, (32, *size), passing[0]
        )
        back = depthwise.convolved_gradient(back, own, window, size, passing[1])
        back = convolution.convolved_gradient(back, kernels_back[0], place, (8, *size))
        steps = [bottleneck.Step(each) for each in (kernels_back[1], own, kernels_back[0])]
        gradient = bottleneck.back(
            coming, (steps[0], steps[1], steps[2]), marks, window, (8, *size)
        )
    assert int(three.isnan().sum()) == 9 * 8
    assert torch.equal(found.nan_to_num(9), three.nan_to_num(9))
    assert torch.equal(found.isnan(), three.isnan())
    assert torch.equal(gradient, back)


@needs_compiler
def test_rows_of_the_stem_and_of_depthwise_convolutions_are_strangers_to_the_bit() -> None:
    first = Convolution(random(16, 3, 3, 3, seed=1), None, (2, 2), (1, 1), (1, 1), 1).laid_out()
    own = Convolution(random(16, 1, 5, 5, seed=2), None, (2, 2), (2, 2), (1, 1), 16).laid_out()
    order = torch.tensor([4, 2, 0, 1, 3])
    results = []
    for maps in (random(5, 3, 18, 20), random(5, 3, 18, 20)[order]):
        images = maps.contiguous(memory_format=LAST).requires_grad_()
        result = own(first(images))
        assert isinstance(own._way(images), Depthwise)
        results.append((result, torch.autograd.grad(result.square().sum(), images)[0]))
    (here, mine), (there, theirs) = results
    assert torch.equal(here[order], there)
    assert torch.equal(mine[order], theirs)


@needs_compiler
def test_convolutions_work_for_the_rectifiers_beside_them(network: Network) -> None:
    plan = accelerated(network, 64, 64).rewrites
    rectifiers = [each for each in plan.values() if isinstance(each, Rectifier)]
    # one after the stem, two a block but the first; one before the head that a pool reads
    assert len(rectifiers) == 1 + 1 + 15 * 2 + 1
    assert all(each.before is not None for each in rectifiers)
    assert [each.after is None for each in rectifiers] == [False] * 32 + [True]
    for rectifier in rectifiers[:-1]:
        before, after = plan[rectifier.before or (0, "")], plan[rectifier.after or (0, "")]
        assert isinstance(before, Convolution)
        assert isinstance(after, Convolution)
        assert before.held is not None
        assert after.within is not None
        assert before.held.bounds == after.within.bounds == (0.0, 6.0)


class Narrow(nn.Module):
    """A depthwise convolution below every bound, and one that gets its maps one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.own = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(8, 4, 1)
        self.own.bias = nn.Parameter(torch.full((8,), -9.0))
        nn.init.uniform_(self.own.weight, 0.1, 0.3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(functional.relu6(self.own(self.first(images))))


@needs_compiler
@pytest.mark.parametrize("is_autocast", [False, True])
def test_redirected_gradients_pass_what_is_held(*, is_autocast: bool) -> None:
    torch.manual_seed(0)
    network = network_of(Narrow(), rows=12, columns=12, dtype=torch.float32)
    plan = accelerated(network, 12, 12)
    assert any(isinstance(each, Rectifier) and each.before for each in plan.rewrites.values())
    prefix = Prefix(network, ["last"], rows=12, columns=12)
    rows = torch.tensor([True, False])
    plan = plan.redirecting(rows).reading(prefix.wanted.operations)
    images = random(2, 3, 12, 12).contiguous(memory_format=LAST).requires_grad_()
    with torch.autocast("cpu", enabled=is_autocast):
        (said,) = prefix(images, substitute=plan).values()
        (plain,) = prefix(images).values()
    assert torch.allclose(said, plain, atol=1e-5)
    (found,) = torch.autograd.grad(said.float().sum(), images)
    assert found.flatten(1).any(dim=1).tolist() == [True, False]


@needs_compiler
def test_a_map_without_a_batch_is_not_taken_for_held() -> None:
    weight = random(4, 1, 3, 3, seed=1)
    own = Convolution(weight, None, (1, 1), (1, 1), (1, 1), 4)
    assert own.can_hold(random(1, 4, 8, 8))
    assert not own.can_hold(random(4, 8, 8))
    assert not own.can_pass(random(4, 8, 8))


@needs_compiler
def test_the_gradient_of_an_empty_batch_is_empty() -> None:
    own = Convolution(random(4, 3, 3, 3), None, (1, 1), (1, 1), (1, 1), 1)
    images = torch.zeros(0, 3, 8, 8, requires_grad=True)
    assert torch.autograd.grad(own(images).sum(), images)[0].shape == (0, 3, 8, 8)


@needs_compiler
def test_a_tall_kernel_of_few_colors_is_torchs() -> None:
    """The kernel in C keeps as many rows of the pictures as it is tall."""
    own = Convolution(random(8, 3, 256, 1), None, (64, 1), (0, 0), (1, 1), 1)
    assert own._way(random(1, 3, 256, 8)) is None


@needs_compiler
def test_what_is_read_before_a_rectifier_changes_no_mate(network: Network) -> None:
    before = "blocks.1.0.conv_dw/pre"
    plan = accelerated(network, 64, 64).rewrites.values()
    beside = [each.held for each in plan if isinstance(each, Convolution) and each.held]
    assert any(network.operation(before, 64, 64) in each.between for each in beside)
    mine, other = (
        default_recipe(network, featviz.Channel(key, 1), steps=8, size=64)
        for key in ("blocks.2", before)
    )
    alone, beside = optimize_batch(network, [mine, mine]), optimize_batch(network, [mine, other])
    assert torch.equal(alone.course[:, 0], beside.course[:, 0])
    assert torch.equal(alone.images[0], beside.images[0])
    prefix = Prefix(network, [before, "blocks.2"], rows=64, columns=64)
    fast = accelerated(network, 64, 64).reading(prefix.wanted.operations)
    images = random(1, 3, 64, 64).contiguous(memory_format=LAST)
    said, plain = prefix(images, substitute=fast)[before], prefix(images)[before]
    assert torch.allclose(said, plain, atol=1e-4 * float(plain.abs().max()))
    assert float(plain.min()) < 0


@needs_compiler
def test_a_map_of_another_precision_is_read_as_what_it_says() -> None:
    images, moved = random(1, 3, 6, 7), translation(torch.tensor([[0.5, -1.25]]))
    border = {"rows": 6, "columns": 7, "border": Reflect()}
    same = resample(images, moved, **border)
    assert torch.equal(resample(images, moved.double(), **border), same)
