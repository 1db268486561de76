"""Objectives of one's own: plain functions of recorded activations that declare their layers."""

import hashlib
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import FunctionType

from torch import Tensor

from featviz.engine.algebra import Objective, Own, Term
from featviz.engine.seen import Seen
from featviz.errors import DoesNotFit, Malformed, NotAvailable, OutOfRange, UnknownName
from featviz.network.network import Network
from featviz.shapes import PerImage

Argument = str | int | float | bool
Measure = Callable[..., Tensor]


@dataclass(frozen=True)
class Custom(Term):
    """A function `module:name` of {read point: activations} that gives one number per picture.

    `source` is a digest of the function's text, so that another function of the same name is
    another objective.
    """

    function: str
    read_points: tuple[str, ...]
    arguments: tuple[tuple[str, Argument], ...]
    source: str
    call: Measure | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises OutOfRange when an argument is not finite."""
        for name, value in self.arguments:
            if isinstance(value, float) and not math.isfinite(value):
                raise OutOfRange(name, value, low="finite", high="finite", where=self.function)

    def __str__(self) -> str:
        words = ", ".join(f"{name}={value!r}" for name, value in self.arguments)
        return f"{self.function}({words})"

    @property
    def reads(self) -> tuple[str, ...]:
        return self.read_points

    def resolve_term(self, network: Network) -> Term:
        for layer in self.read_points:
            network.layer(layer)
        return self if self.call is not None else replace(self, call=imported(self))

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        measure = self.call if self.call is not None else imported(self)
        values = measure({key: seen.raw[key] for key in self.read_points}, **dict(self.arguments))
        count = seen.images.shape[0]
        shape = getattr(values, "shape", None)
        if shape != (count,):
            got = type(values).__name__ if shape is None else tuple(shape)
            raise DoesNotFit(
                f"what {self.function} returns",
                got=got,
                expected=f"one number per image, ({count},)",
            )
        return values


def objective(*layers: str) -> Callable[[Measure], Callable[..., Objective]]:
    """A decorator that turns a function of recorded activations into an objective.

        @featviz.objective("{layer}")
        def peak(recorded, layer, channel):
            return recorded[layer][:, channel].amax(dim=(1, 2))

        featviz.render(network, peak(layer="blocks.2", channel=3) - 0.5 * featviz.Channel(...))

    `layers` are read points, in which {names} are filled from the arguments. The function gets a
    mapping from read point to activations as the network gives them and returns a tensor of
    shape (batch,). It must treat every picture alone. It is stored by its import path.

    Raises DoesNotFit where the function has more than its text and arguments to go by: variables
    of a function around it.
    """

    def decorate(measure: Measure) -> Callable[..., Objective]:
        _check_plain(measure)
        path = f"{measure.__module__}:{measure.__qualname__}"
        source = _digest(measure)

        def make(**arguments: Argument) -> Objective:
            try:
                inspect.signature(measure).bind({}, **arguments)
                reads = tuple(layer.format(**arguments) for layer in layers)
            except (TypeError, KeyError) as error:
                raise DoesNotFit(
                    f"the arguments of {path}", got=sorted(arguments), expected=str(error)
                ) from error
            pairs = tuple(sorted(arguments.items()))
            return Custom(path, reads, pairs, source, call=measure)

        make.__name__ = measure.__name__
        make.__doc__ = measure.__doc__
        make.measure = measure  # type: ignore[attr-defined]  # found again by `imported`
        return make

    return decorate


@lru_cache(maxsize=64)  # a step should not read source files
def imported(custom: Custom) -> Measure:
    """The function that a stored objective names. Raises NotAvailable, UnknownName, Malformed."""
    module_name, separator, name = custom.function.partition(":")
    if not separator:
        raise Malformed("a custom objective", custom.function, expected="MODULE:FUNCTION")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise NotAvailable(
            f"the module {module_name!r} of objective {custom.function!r}",
            there="put it on the Python path",
        ) from error
    found: Mapping[str, object] = vars(module)
    if name not in found:
        raise UnknownName("objective", name, found, inside=module_name)
    measure = getattr(found[name], "measure", None)
    if measure is None or _digest(measure) != custom.source:
        raise DoesNotFit(
            f"the objective {custom.function!r}",
            got="other source text",
            expected="the function that the recipe was made with",
        )
    return measure


def _check_plain(measure: Measure) -> None:
    if not isinstance(measure, FunctionType):
        kind = type(measure).__name__
        raise DoesNotFit("an objective of one's own", got=kind, expected="a function (def)")
    if free := measure.__code__.co_freevars:
        raise DoesNotFit(
            f"the objective {measure.__qualname__!r}",
            got=f"the variable {', '.join(free)} of the function around it",
            expected="a function of its arguments alone",
            hint="pass it as an argument",
        )


def _digest(measure: Measure) -> str:
    try:
        text = inspect.getsource(measure)
    except (OSError, TypeError):  # typed into an interpreter: the name is all there is
        text = measure.__qualname__
    defaults = [
        repr(each.default)
        for each in inspect.signature(measure).parameters.values()
        if each.default is not each.empty
    ]  # their values are not in the text of `def f(recorded, k=k)`
    return hashlib.sha256("\n".join([text, *defaults]).encode()).hexdigest()[:16]
