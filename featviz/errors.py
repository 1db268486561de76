"""Every error that featviz raises on purpose, one class a cause; each writes its own sentence.

FeatvizError
|-- UnknownName          a network, layer, label, preset or key that is not there
|-- OutOfRange           a channel, position or number outside what exists
|-- Malformed            a selection, expression or file that cannot be read
|-- DoesNotFit           weights, pictures or layers whose shapes disagree
|-- NotAvailable         a device, package or file that this machine lacks
`-- NotFinite            weights or activations that are NaN or infinite
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class FeatvizError(Exception):
    """Anything that a user can act on: one line that names the thing, what is there, what to do."""


@contextmanager
def said_of(place: str) -> Iterator[None]:
    """Errors raised in this context begin with a place, such as the key of a config."""
    try:
        yield
    except FeatvizError as error:
        error.args = (f"{place}: {error}",)
        raise


class UnknownName(FeatvizError):
    """A name was asked for that is not among the known ones."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, inside: str = "", see: str = ""
    ) -> None:
        names = list(known)
        nearest = get_close_matches(name, names, n=3, cutoff=0.4)
        there = ", ".join(names[:8]) or "none"
        if nearest:
            is_short = len(nearest) < len(names) <= 4
            hint = f"nearest: {', '.join(nearest)}{f'; there is: {there}' if is_short else ''}"
        elif see:
            hint = f"see {see}"
        else:
            hint = f"there is: {there}{', ...' if len(names) > 8 else ''}"
        place = f" in {inside}" if inside else ""
        super().__init__(f"there is no {kind} {name!r}{place}; {hint}")


class OutOfRange(FeatvizError):
    """A number lies outside the range that exists."""

    def __init__(self, kind: str, value: object, *, low: object, high: object, where: str) -> None:
        is_a_kind = isinstance(low, str) and low == high
        there = f"{low} numbers only" if is_a_kind else f"{low} to {high}"
        super().__init__(f"{kind} {value} is out of range: {where} has {there}")


class Malformed(FeatvizError):
    """A text or file cannot be read as what it should be."""

    def __init__(self, kind: str, text: str, *, expected: str) -> None:
        super().__init__(f"cannot read {kind} {text!r}: expected {expected}")


class DoesNotFit(FeatvizError):
    """Two things that should match in shape, size or kind do not."""

    def __init__(self, what: str, *, got: object, expected: object, hint: str = "") -> None:
        tail = f"; {hint}" if hint else ""
        super().__init__(f"{what}: got {got}, expected {expected}{tail}")


class NotAvailable(FeatvizError):
    """This machine lacks a device, package, file or operation."""

    def __init__(self, what: str, *, there: str) -> None:
        super().__init__(f"{what} is not available; {there}")


class NotFinite(FeatvizError):
    """A value is NaN or infinite."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not finite (NaN or infinity)")
