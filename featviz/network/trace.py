"""One observed forward pass: every operation, what it read, and which module's output it made.

Nothing here interprets the operations; `layers` says what is a unit and what is a view.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from featviz.network.places import Place, places
from featviz.network.watch import Watch, plain_name

INPUT = -1
"""Stands in `Operation.inputs` for the network's input."""


@dataclass(frozen=True)
class Operation:
    """One torch function that returned a floating-point tensor."""

    index: int
    """The how-manieth of the pass, counted by `Watch` from 0."""
    name: str
    """See `watch.plain_name`."""
    module: str
    """Path of the innermost module that was running; "" is the network itself."""
    inputs: tuple[int, ...]
    """The operations whose results it read, in the order of its arguments, `INPUT` for the
    network's input. What does not depend on the input is left out."""
    parameters: tuple[str, ...]
    """Names of the parameters it read, directly or computed from nothing but parameters. A
    parameter with several names goes by its first."""
    weight_size: int
    """Values of the first such argument: all of its parameter's, or of a piece."""
    shape: tuple[int, ...]
    is_whole: bool
    """It read each of its inputs as that operation left it, not a piece (of `chunk`, `split`),
    a rewritten part or the result of something invisible."""
    strides: tuple[int, ...] = field(repr=False, compare=False)
    address: int = field(repr=False, compare=False)
    """Start of the result's memory: operations that share it are views of one tensor."""


@dataclass(frozen=True)
class Trace:
    """What one forward pass did; the same at every input of the same shape."""

    operations: tuple[Operation, ...]
    outputs: Mapping[str, int]
    """Module path -> operation that made its output in its last call, by order of completion.
    Left out: modules whose output is not one tensor (a tuple, a dict), or not the untouched
    result of an operation (the input itself, a piece of a split, a custom autograd Function)."""
    input_shape: tuple[int, ...]
    places: Mapping[int, Place] = field(default_factory=dict[int, Place])
    """Operations whose result has the pictures elsewhere than on its first axis; see `places`."""


def trace(module: nn.Module, example: Tensor) -> Trace:
    """Run `module` on `example`, in eval mode and without gradients, and say what it did.

    It runs beforehand as well, since networks may compute something once and keep it, and again
    on made-up pictures to say where each operation has them.

    Modules, training flags, hooks and modes are left as they were, whatever happens. A module
    that stands under several names goes by its first. Invisible are the insides of scripted
    modules and custom autograd Functions: provenance goes through them from the inputs of the
    call, or of the module around it, to the results.
    """
    with undisturbed(module):
        module(example.detach().clone())
        pixels = example.detach().clone()
        tracer = _Tracer(module, pixels)
        with ExitStack() as hooks:
            for path, part in module.named_modules():
                tracer.follow(path, part, hooks)
            with tracer:
                module(pixels)
        known = {each.index: (each.name, each.shape) for each in tracer.operations if each.inputs}
        found = places(module, example, known)
    return Trace(tuple(tracer.operations), tracer.outputs, tuple(example.shape), found)


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Run `module` in eval mode and without gradients; its training flags come back at the end."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in flags:
            part.training = False
        with torch.inference_mode(mode=False), torch.no_grad():
            yield
    finally:
        for part, flag in flags:
            part.training = flag


@dataclass(frozen=True)
class _Origin:
    """Where the present value of a tensor comes from."""

    made: int | None
    """The operation whose result it is as a whole and still; None if there is no such."""
    reads: tuple[int, ...]
    """What an operation that reads it has read; empty for a constant."""
    parameters: tuple[str, ...] = ()


class _Tracer(Watch):
    """Follows tensors by identity; keeps all of them alive, so that no identity is used twice."""

    def __init__(self, module: nn.Module, pixels: Tensor) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.outputs: dict[str, int] = {}
        self._origins = _constants(module)
        self._alive: dict[int, list[Tensor]] = {}
        """Tensors by the address of their memory: aliases stand together."""
        self._calls: list[tuple[str, tuple[int, ...]]] = []
        """The modules that are running, outermost first, and what their arguments read."""
        self._arguments: list[_Origin] = []
        self._weight_size = 0
        self._changed: list[Tensor] = []
        self._keep(pixels, _Origin(INPUT, (INPUT,)))

    def follow(self, path: str, part: nn.Module, stack: ExitStack) -> None:
        """Note the calls of one module, until the stack is left."""

        def enter(_: nn.Module, args: Any, options: Any) -> None:
            reads = _reads(self._origin(each) for each in _tensors(args, options))
            self._calls.append((path, reads))

        def leave(_: nn.Module, _args: Any, _options: Any, output: Any) -> None:
            self._leave(path, output)

        before = part.register_forward_pre_hook(enter, prepend=True, with_kwargs=True)
        after = part.register_forward_hook(leave, with_kwargs=True)
        stack.callback(before.remove)
        stack.callback(after.remove)

    def run(self, name: str, function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:  # noqa: ARG002
        tensors = list(_tensors(args, options))
        self._arguments = [self._origin(each) for each in tensors]
        weights = (
            each.numel()
            for each, origin in zip(tensors, self._arguments, strict=True)
            if origin.parameters and not origin.reads
        )
        self._weight_size = next(weights, 0)
        versions = [_version(each) for each in tensors]
        result = function(*args, **options)
        self._changed = [
            each for each, old in zip(tensors, versions, strict=True) if _version(each) != old
        ]
        if not (isinstance(result, Tensor) and result.is_floating_point()):
            self._pass_through(result)
        return result

    def seen(
        self,
        index: int,
        name: str,
        args: tuple[Any, ...],  # noqa: ARG002
        options: dict[str, Any],  # noqa: ARG002
        result: Tensor,
    ) -> None:
        plain = plain_name(name)
        is_made_new = plain.startswith("new_") or plain.endswith("_like")
        inputs = () if is_made_new else _reads(self._arguments)
        parameters = _parameters(self._arguments)
        self.operations.append(
            Operation(
                index=index,
                name=plain,
                module=self._calls[-1][0] if self._calls else "",
                inputs=inputs,
                parameters=parameters,
                weight_size=self._weight_size,
                shape=tuple(result.shape),
                is_whole=all(each.made is not None for each in self._arguments if each.reads),
                strides=result.stride(),
                address=result.untyped_storage().data_ptr(),
            )
        )
        origin = _Origin(index, (index,)) if inputs else _Origin(index, (), parameters)
        for changed in self._changed:
            self._rewrite(changed, origin.reads, is_all_new=True)
        self._keep(result, origin)

    def _pass_through(self, result: Any) -> None:
        """Results that are not operations come from what the call read; `x[0] = y` is one too."""
        reads, parameters = _reads(self._arguments), _parameters(self._arguments)
        for changed in self._changed:
            self._rewrite(changed, reads, is_all_new=False)
        for each in _tensors(result):
            if id(each) not in self._origins:
                self._keep(each, _Origin(None, tuple(dict.fromkeys(reads)), parameters))

    def _rewrite(self, changed: Tensor, reads: tuple[int, ...], *, is_all_new: bool) -> None:
        """Tell all aliases of `changed` that their values come from `reads`, wholly or in part."""
        for alias in self._alive.get(changed.untyped_storage().data_ptr(), ()):
            old = self._origins[id(alias)]
            is_covered = is_all_new and changed.numel() >= alias.numel()
            kept = () if is_covered else old.reads
            self._origins[id(alias)] = _Origin(
                None, tuple(dict.fromkeys((*kept, *reads))), old.parameters
            )

    def _leave(self, path: str, output: Any) -> None:
        while self._calls[-1][0] != path:  # left behind by an exception that the network caught
            self._calls.pop()
        _, reads = self._calls.pop()
        for each in _tensors(output):
            if id(each) not in self._origins:
                self._keep(each, _Origin(None, reads))
        self.outputs.pop(path, None)
        made = self._origin(output).made if isinstance(output, Tensor) else None
        if made is not None and made != INPUT:
            self.outputs[path] = made

    def _origin(self, tensor: Tensor) -> _Origin:
        """What is known of a tensor; one from nowhere was made, unseen, of the module's inputs."""
        if id(tensor) not in self._origins:
            self._keep(tensor, _Origin(None, self._calls[-1][1] if self._calls else (INPUT,)))
        return self._origins[id(tensor)]

    def _keep(self, tensor: Tensor, origin: _Origin) -> None:
        if id(tensor) not in self._origins:
            self._alive.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)
        self._origins[id(tensor)] = origin


def _constants(module: nn.Module) -> dict[int, _Origin]:
    """Parameters, buffers and plain tensor attributes of all modules, by identity."""
    plain = [each for part in module.modules() for each in _tensors(vars(part))]
    found = {id(each): _Origin(None, ()) for each in (*plain, *module.buffers())}
    for name, parameter in module.named_parameters():
        found[id(parameter)] = _Origin(None, (), (name,))
    return found


def _tensors(*values: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and mappings, in order."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            yield from _tensors(*value.values())
        elif isinstance(value, tuple | list):
            yield from _tensors(*value)


def _version(tensor: Tensor) -> int:
    """How often the tensor or an alias was written to; inference tensors do not count that."""
    return 0 if tensor.is_inference() else tensor._version


def _reads(origins: Iterable[_Origin]) -> tuple[int, ...]:
    return tuple(index for origin in origins for index in origin.reads)


def _parameters(origins: Iterable[_Origin]) -> tuple[str, ...]:
    """Of the constants among the arguments; those behind an activation are that one's business."""
    names = (name for origin in origins if not origin.reads for name in origin.parameters)
    return tuple(dict.fromkeys(names))
