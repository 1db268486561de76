"""A CPU that passes for a CUDA device: code chooses what it chooses there, and Triton's kernels
run in the interpreter. What a device would refuse while a step is recorded raises."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from featviz.kernels import cuda

CUDA = torch.device("cuda", 0)
_FROM_HOST = torch.ops.aten.lift_fresh.default
"""Made by `torch.tensor`, whose values come from Python."""
_ops = torch.ops.aten
_BY_INDEX = {
    _ops.index.Tensor,
    _ops.index_put.default,
    _ops.index_put_.default,
    _ops._index_put_impl_.default,
    _ops._unsafe_index.Tensor,
}
"""By a mask, whose size depends on values, or by numbers."""
_TO_HOST = {
    *(Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.type),
    *(Tensor.__array__, Tensor.__repr__, Tensor.__format__, Tensor.__dlpack__),
}


@contextmanager
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All tensors say that they are on CUDA."""
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "current_device", lambda: 0)
        patched.setattr(cuda, "_runs", lambda: True)
        patched.setattr(torch.autograd, "grad", _gradient)
        with _Pretending():
            yield


class _Pretending(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return True
        if func == Tensor.device.__get__:
            return CUDA
        if func == torch.nn.functional.local_response_norm and args[0].dtype == torch.float16:
            return func(args[0].float(), *args[1:], **kwargs).half()  # a CPU has no other
        return func(*tree_map(_here, args), **tree_map(_here, kwargs or {}))


def _here(value: Any) -> Any:
    is_device = isinstance(value, (str, torch.device))
    return "cpu" if is_device and str(value).startswith("cuda") else value


def _gradient(output: Tensor, at: Tensor) -> tuple[Tensor, ...]:
    """torch's own of that name, which would leave the mode."""
    whole, flags = (torch.ones_like(output),), (False, False)
    return _engine_run_backward((output,), whole, *flags, (at,), False, accumulate_grad=False)  # noqa: FBT003


class _Staying(TorchFunctionMode):
    """Refuses to bring tensors to the host, which on a CPU is no operation of its own. A copy into
    a tensor that is there looks like any other."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        told = (*args, *(kwargs or {}).values())
        devices = (torch.device(each) for each in told if isinstance(each, (str, torch.device)))
        if func in _TO_HOST or (func == Tensor.to and any(each.type == "cpu" for each in devices)):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


class Recordable(TorchDispatchMode):
    """Refuses what a CUDA graph cannot hold: looks at values, shapes that depend on them, and
    values that come from the host or go there."""

    def __enter__(self) -> "Recordable":
        self._staying = _Staying()
        self._staying.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._staying.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        looks = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & {*func.tags}
        if func in _BY_INDEX:
            masks = torch.bool, torch.uint8
            looks = any(each is not None and each.dtype in masks for each in args[1])
        if looks or func == _FROM_HOST:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))
