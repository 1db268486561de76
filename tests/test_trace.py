"""A trace names every operation, follows each tensor to its makers, and leaves no mark."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from featviz.network.trace import INPUT, Trace, trace


class Everything(nn.Module):
    """In-place, functional, residual, split, shared and tuple-valued parts in one pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.left = nn.Conv2d(4, 4, 1)
        self.pair = Pair()

    def forward(self, images: Tensor) -> Tensor:
        x = self.act(self.conv(images))  # 0, 1
        first, second = x.chunk(2, dim=1)
        second = functional.relu(self.left(second))  # 2, 3
        joined = torch.cat([first, second], dim=1)  # 4
        joined += x  # 5
        halves = self.pair(self.act(joined))  # 6
        return halves.one + halves.two  # 7


class Halves(NamedTuple):
    one: Tensor
    two: Tensor


class Pair(nn.Module):
    def forward(self, x: Tensor) -> Halves:
        return Halves(*x.split(4, dim=1))


class Unseen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():  # as in a scripted module
            return 3 * x


class Applied(nn.Module):
    """A module made of a function, so that each case is a lambda."""

    def __init__(self, function: Any, **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def trace_of(module: nn.Module, *shape: int) -> Trace:
    return trace(module, torch.rand(*(shape or (2, 3, 6, 6))))


def inputs_of(function: Any, **parts: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(each.name, each.inputs) for each in trace_of(Applied(function, **parts)).operations]


def test_operations_and_what_they_read() -> None:
    operations = trace_of(Everything()).operations
    assert [(each.index, each.name, each.module, each.inputs) for each in operations] == [
        (0, "conv2d", "conv", (INPUT,)),
        (1, "relu", "act", (0,)),
        (2, "conv2d", "left", (1,)),  # through chunk
        (3, "relu", "", (2,)),
        (4, "cat", "", (1, 3)),
        (5, "add", "", (4, 1)),
        (6, "relu", "act", (5,)),
        (7, "add", "", (6, 6)),  # both halves
    ]
    assert [each.is_whole for each in operations] == [
        True,
        True,
        False,
        True,
        False,
        *[True] * 2,
        False,
    ]
    assert operations[0].parameters == ("conv.weight", "conv.bias")
    assert operations[2].shape == (2, 4, 6, 6)


def test_outputs_are_of_the_last_call_in_order_of_completion() -> None:
    # pair returns a tuple: no read point
    assert list(trace_of(Everything()).outputs.items()) == [
        ("conv", 0), ("left", 2), ("act", 6), ("", 7)
    ]  # fmt: skip


def test_an_operation_in_place_takes_over_the_tensor_and_its_aliases() -> None:
    def forward(_: Any, x: Tensor) -> Tensor:
        y = x * 2  # 0
        flat = y.flatten(1)  # 1: a view of all of y
        flat.add_(1)  # 2
        return y * 3  # 3: reads what 2 wrote

    assert inputs_of(forward)[3] == ("mul", (2,))


def test_a_part_written_in_place_mixes_old_and_new() -> None:
    def forward(_: Any, x: Tensor) -> Tensor:
        y = x * 2  # 0
        z = x * 5  # 1
        y[:, 0] = z[:, 1]  # 2: getitem; the assignment is no operation
        y[:, 2].mul_(3)  # 3: getitem, 4: mul
        return y + 1  # 5

    operations = trace_of(Applied(forward)).operations
    assert operations[4].name == "mul"
    assert set(operations[5].inputs) == {0, 2, 3, 4} - {3}
    assert not operations[5].is_whole


def test_a_rewritten_output_is_no_read_point() -> None:
    def forward(_: Any, x: Tensor) -> Tensor:
        y = x * 2
        y[:, 0] = 0.0
        return y

    assert "" not in trace_of(Applied(forward)).outputs


def test_constants_are_left_out_and_parameters_seen_through_computations() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        weight = self.conv.weight / self.conv.weight.std()  # 0, 1
        return functional.conv2d(x, weight) + torch.ones(4, 1, 1)  # 2, 3, 4

    operations = trace_of(Applied(forward, conv=nn.Conv2d(3, 4, 1))).operations
    assert [each.inputs for each in operations] == [(), (), (INPUT,), (), (2,)]
    assert operations[2].parameters == ("conv.weight",)


def test_provenance_goes_through_what_cannot_be_seen() -> None:
    seen = trace_of(
        Applied(
            lambda self, x: self.custom(self.first(x)) * 2,
            first=nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()),
            custom=Unseen(),
        )
    )
    assert [(each.name, each.inputs) for each in seen.operations] == [
        ("conv2d", (INPUT,)), ("relu", (0,)), ("mul", (1,))
    ]  # fmt: skip
    assert "custom" not in seen.outputs
    assert not seen.operations[2].is_whole


def test_operators_called_past_the_functions_have_their_plain_names() -> None:
    assert inputs_of(lambda _, x: torch.ops.aten.mul.Tensor(x, 3.0)) == [("mul", (INPUT,))]


def test_the_output_of_identity_is_the_operation_before_and_the_input_is_none() -> None:
    module = nn.Sequential(nn.Identity(), nn.Conv2d(3, 4, 1), nn.Identity())
    assert trace_of(module).outputs == {"1": 0, "2": 0, "": 0}


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_flags_and_example_are_as_before(fails: bool) -> None:  # noqa: FBT001
    def forward(self: Any, x: Tensor) -> Tensor:
        x.sub_(0.5)
        x = self.conv(x)
        if fails:
            raise ZeroDivisionError
        return x

    module = Applied(forward, conv=nn.Conv2d(3, 4, 1), idle=nn.Dropout())
    calls: list[str] = []
    conv = module.conv
    assert isinstance(conv, nn.Module)
    conv.eval()
    conv.register_forward_hook(lambda *_: calls.append("after"))
    conv.register_forward_pre_hook(lambda *_: calls.append("before"))
    hooks = [
        (dict(each._forward_hooks), dict(each._forward_pre_hooks)) for each in module.modules()
    ]
    example = torch.rand(1, 3, 4, 4)
    original = example.clone()
    if fails:
        with pytest.raises(ZeroDivisionError):
            trace(module, example)
    else:
        trace(module, example)
    runs = 1 if fails else 3  # to warm up, to trace, on a batch of two
    assert calls == ["before", "after"] * runs
    assert hooks == [
        (dict(each._forward_hooks), dict(each._forward_pre_hooks)) for each in module.modules()
    ]
    assert [each.training for each in module.modules()] == [True, False, True]
    assert torch.equal(example, original)
    module(example.clone()) if not fails else None
    assert len(calls) == (2 if fails else 8)  # nothing of ours is left to run


def test_batch_norm_runs_in_eval_mode_and_learns_nothing() -> None:
    module = nn.BatchNorm2d(3)
    trace_of(module)
    assert module.num_batches_tracked == 0
    assert torch.equal(module.running_mean, torch.zeros(3))  # type: ignore[arg-type]
