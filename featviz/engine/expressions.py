"""Objectives from text: `channel(blocks.4, 7) - 0.5 * channel(blocks.4, 3)`; the inverse of str().

SUM      [-] PRODUCT (("+" | "-") PRODUCT)*
PRODUCT  FACTOR (("*" | "/") FACTOR)*      at most one factor is an objective
FACTOR   NUMBER | "-" FACTOR | "(" SUM ")" | NAME "(" ARGUMENTS ")" | UNIT ADDRESS
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from featviz.engine import objectives, penalties, serial
from featviz.engine.algebra import Objective, Term
from featviz.errors import Malformed, UnknownName
from featviz.units import parse_unit

Value = Objective | float

_TOKEN = re.compile(
    r"\s*(?:(?P<address>\w[\w.]*(?:/(?:pre|post))?:\d+(?:@(?:center|\d+\s*,\s*\d+))?)"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))"
    r"|(?P<name>[A-Za-z_]\w*)(?=\s*\()"
    r"|(?P<sign>[-+*/()]))"
)
_CALCULATES = re.compile(r"\+|\s[-*/]|[-*/]\s|:.*:")
_ONE_COLON = re.compile(r"[^\s:]+:[\s\d,*/@-]*$")  # what follows can only be meant as channels

FUNCTIONS: Mapping[str, type[Term]] = {
    "channel": objectives.Channel,
    "neuron": objectives.Neuron,
    "deepdream": objectives.DeepDream,
    "direction": objectives.Direction,  # with a row and column, objectives.NeuronDirection
    "tensor_direction": objectives.TensorDirection,
    "logit": objectives.Logit,
    "likeness": objectives.Likeness,
    "misalignment": objectives.Misalignment,
    "total_variation": penalties.TotalVariation,
    "l1": penalties.L1,
    "l2": penalties.L2,
    "roughness": penalties.Roughness,
}


def parse_objective(text: str) -> Objective:
    """The objective that `text` writes. Raises Malformed, UnknownName, DoesNotFit."""
    return _Parser(text).whole()


def is_expression(text: str) -> bool:
    """Whether `text` must be meant as an expression: it calls or calculates.

    False for a text that may be a selection, such as `2*curve:3`, where `2*curve` is a glob.
    """
    return "(" in text or (_CALCULATES.search(text) is not None and not _ONE_COLON.match(text))


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def whole(self) -> Objective:
        value = self._sum()
        if self.text[self.at :].strip() or not isinstance(value, Objective):
            raise self._error()
        return value

    def _sum(self) -> Value:
        value = self._product()
        while sign := self._take("+", "-"):
            other = self._product()
            if isinstance(value, Objective) != isinstance(other, Objective):
                raise self._error()
            value = value + other if sign == "+" else value - other  # type: ignore[operator]
        return value

    def _product(self) -> Value:
        value = self._factor()
        while sign := self._take("*", "/"):
            other = self._factor()
            both = isinstance(other, Objective) and (sign == "/" or isinstance(value, Objective))
            if both or (sign == "/" and other == 0):
                raise Malformed(
                    "the objective",
                    self.text,
                    expected="objectives multiplied or divided by numbers only, and not by 0",
                )
            value = value * other if sign == "*" else value / other  # type: ignore[operator]
        return value

    def _factor(self) -> Value:
        if self._take("-"):
            return -self._factor()
        if self._take("("):
            value = self._sum()
            if not self._take(")"):
                raise self._error()
            return value
        start = self.at
        match = self._next()
        if match and match["number"]:
            return float(match["number"])
        if match and match["address"]:
            return objectives.of_unit(parse_unit(match["address"]))
        if match and match["name"]:
            return self._call(match["name"])
        self.at = start
        raise self._error()

    def _call(self, name: str) -> Objective:
        if name not in FUNCTIONS:
            raise UnknownName("objective", name, FUNCTIONS)
        kind, words = FUNCTIONS[name], _split(inside := self._inside())
        if kind is objectives.Direction and len(words) > 3:
            kind = objectives.NeuronDirection
        places = fields(kind)  # type: ignore[arg-type]  # every Term that is not abstract is a dataclass
        required = sum(each.default is MISSING for each in places)
        if not required <= len(words) <= len(places):
            raise Malformed(
                "the objective",
                f"{name}({inside})",
                expected=f"{name}({', '.join(each.name for each in places)})",
            )
        hints = get_type_hints(kind)
        given = {
            each.name: _unquoted(word) if hints[each.name] is str else _argument(word)
            for each, word in zip(places, words, strict=False)
        }
        return serial.made(kind, given)

    def _inside(self) -> str:
        start = self.text.index("(", self.at) + 1
        depth, end = 1, start
        while depth and end < len(self.text):
            depth += {"(": 1, ")": -1}.get(self.text[end], 0)
            end += 1
        if depth:
            raise self._error()
        self.at = end
        return self.text[start : end - 1]

    def _next(self) -> re.Match[str] | None:
        match = _TOKEN.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def _take(self, *signs: str) -> str:
        match = _TOKEN.match(self.text, self.at)
        if match and match["sign"] in signs:
            self.at = match.end()
            return match["sign"]
        return ""

    def _error(self) -> Malformed:
        rest = self.text[self.at :].strip()
        place = f" at {rest[:20]!r}" if rest else " at its end"
        return Malformed(
            "the objective",
            self.text,
            expected=f"terms such as 'channel(blocks.4, 7) - 0.5 * channel(blocks.4, 3)'{place}",
        )


def _split(inside: str) -> list[str]:
    """Arguments at the top level: commas inside brackets and quotes do not count."""
    words = re.findall(r"""(?:\[[^\]]*\]|'[^']*'|"[^"]*"|[^,])+""", inside)
    return [word.strip() for word in words if word.strip()]


def _unquoted(word: str) -> str:
    is_quoted = word[0] in "'\"" and word[-1] == word[0] and len(word) > 1
    return word[1:-1] if is_quoted else word


def _argument(word: str) -> Any:
    if (text := _unquoted(word)) != word:
        return text
    if word[0] == "[" and word[-1] == "]":
        return tuple(_argument(each) for each in _split(word[1:-1]))
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
