"""Frozen values to JSON and back: recipes, objectives, parameterizations, transforms."""

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from featviz.errors import DoesNotFit, Malformed, NotFinite, UnknownName

Data = Any
"""What JSON can hold."""

_PLAIN = frozenset((str, int, float, bool, type(None)))


class Vocabulary:
    """The classes that may stand in a file, by their name."""

    def __init__(self, classes: Iterable[type]) -> None:
        self._classes: Mapping[str, type] = {each.__name__: each for each in classes}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._classes)

    def to_data(self, value: object) -> Data:
        """`value` with each dataclass as {"is": its name, field: ...} and tuples as lists."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if is_dataclass(kind):
            data: dict[str, Data] = {"is": kind.__name__}
            for name, hint, may_widen in _written(kind):
                each = getattr(value, name)
                data[name] = self.to_data(_widened(each, hint) if may_widen else each)
            return data
        if isinstance(value, (tuple, list)):
            return [self.to_data(each) for each in value]
        return value

    def from_data(self, data: Data) -> Any:
        """The value that `to_data` wrote. Raises UnknownName, DoesNotFit, Malformed."""
        if isinstance(data, list):
            return tuple(self.from_data(each) for each in data)
        if not isinstance(data, dict):
            return data
        name = data.get("is")
        if not isinstance(name, str) or name not in self._classes:
            raise UnknownName("kind of value", str(name), self._classes)
        given = {key: self.from_data(value) for key, value in data.items() if key != "is"}
        return made(self._classes[name], given)


def made(kind: type, given: dict[str, Any]) -> Any:
    """A value of `kind`, its fields checked against their annotations.

    Raises UnknownName, DoesNotFit.
    """
    hints = _hints(kind)
    for key, value in given.items():
        if key not in hints:
            raise UnknownName("field", key, hints, inside=kind.__name__)
        if not _fits(value, hints[key]):
            got, expected = repr(value)[:60], _words(hints[key])
            raise DoesNotFit(f"{kind.__name__}.{key}", got=got, expected=expected)
    try:
        return kind(**given)
    except TypeError as error:
        raise DoesNotFit(
            f"a stored {kind.__name__}", got=sorted(given), expected=str(error)
        ) from error


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, of those that are compared, in their order."""
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind) if each.compare}


@cache
def _written(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type, and whether `_widened` may change it, of the fields of `_hints`."""
    return tuple((name, hint, _has_float(hint)) for name, hint in _hints(kind).items())


def _has_float(hint: Any) -> bool:
    return hint is float or any(map(_has_float, get_args(hint)))


def canonical(data: Data) -> str:
    """JSON with sorted keys and no spaces: the same text for the same content. Raises NotFinite."""
    try:
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise NotFinite("a number of what is to be stored") from error


def parsed(text: str, what: str) -> Data:
    """The JSON content of `text`. Raises Malformed."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise Malformed(what, text[:60], expected=f"JSON ({error})") from error


def _widened(value: object, hint: Any) -> object:
    """Whole numbers as floats where floats are meant, -0 as 0: equal values must be equal text."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) and int not in arguments:
        fitting = (each for each in arguments if _fits(value, each))
        return _widened(value, next(fitting, Any))
    if hint is float and isinstance(value, (int, float)):
        return float(value) + 0.0
    if origin is tuple and isinstance(value, tuple):
        hints = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(map(_widened, value, hints))
    return value


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is tuple:
        return _fits_tuple(value, arguments)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


def _fits_tuple(value: object, arguments: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple):
        return False
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return all(_fits(each, arguments[0]) for each in value)
    return len(value) == len(arguments) and all(map(_fits, value, arguments))


def _words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
