"""What a store knows of one picture: its recipe, how it came about, where its files are."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from pydantic import TypeAdapter, ValidationError

from featviz.engine.picture import Picture, Verdict
from featviz.engine.recipe import Recipe
from featviz.errors import DoesNotFit, Malformed

FORMAT = 1
"""Of the record's JSON; a reader refuses newer ones."""
_FILE = re.compile(r"(pictures|thumbnails|lossy)/(..)/(.+?)(\.[0-9a-f]{8})?\.[a-z]+")
_DIGEST = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Record:
    """One picture of a recipe, as JSON beside its file.

    `course` has the value of every step, under that step's transforms; `seconds` is the share of
    the build's wall time; `made` is UTC, ISO 8601. `files`: of each kind ("picture", "thumbnail",
    "lossy") the name in the store and the SHA-256 of what is in it. `reason` says why there is no
    picture worth having, where the verdict is not "rendered".
    """

    digest: str
    index: int
    recipe: dict[str, Any]
    verdict: Verdict
    reason: str
    score: float | None
    steps: int
    course: tuple[float | None, ...]
    execution: dict[str, Any]
    seconds: float
    made: str
    files: dict[str, tuple[str, str]]

    @property
    def key(self) -> str:
        """Names the picture in the store: DIGEST-INDEX."""
        return f"{self.digest}-{self.index}"

    def asked(self) -> Recipe:
        """The recipe. Raises Malformed, UnknownName, DoesNotFit."""
        return Recipe.from_data(self.recipe)

    def to_json(self) -> bytes:
        """Its JSON, on one line."""
        return (json.dumps({"format": FORMAT, **asdict(self)}) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, name: str) -> "Record":
        """The record that `to_json` wrote; `name` is for the error.

        Raises Malformed, and DoesNotFit where a newer featviz wrote it.
        """
        try:
            data = json.loads(content)
            if not isinstance(data, dict):
                raise TypeError("no JSON object")
            form = data.pop("format")
            if isinstance(form, int) and form > FORMAT:
                raise DoesNotFit(
                    f"the record {name!r}",
                    got=f"format {form}",
                    expected=f"{FORMAT}; a newer featviz made it",
                )
            if form != FORMAT:
                raise KeyError("format", form)
            known = {each.name for each in fields(cls)}
            if not data.keys() <= known:
                raise KeyError(*(data.keys() - known))
            return _checked(_RECORD.validate_python(data))
        except ValidationError as error:
            first = error.errors()[0]
            what = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
            raise Malformed("the record", name, expected=f"a whole record ({what})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Malformed("the record", name, expected=f"a whole record ({error})") from error


_RECORD = TypeAdapter(Record)


def _checked(record: Record) -> Record:
    """The record.

    Raises KeyError where it names files that are not its own, such as "../x", or lacks what every
    record has.
    """
    match record.recipe, record.execution:
        case (
            {"shape": {"rows": int(), "columns": int(), "channels": int()}},
            {"slots": int(), "device": str(), "dtype": str()},
        ):
            pass
        case _:
            raise KeyError("recipe or execution")
    if "picture" not in record.files:
        raise KeyError("picture")
    if not (_DIGEST.fullmatch(record.digest) and record.index >= 0):
        raise KeyError(record.key)
    for file, _ in record.files.values():
        parts = _FILE.fullmatch(file)
        if parts is None or (parts[2], parts[3]) != (record.digest[:2], record.key):
            raise KeyError(file)
    return record


def record_of(picture: Picture, *, seconds: float, files: dict[str, tuple[str, str]]) -> Record:
    """The record of a picture that was made just now."""
    evidence = picture.evidence()
    return Record(
        digest=evidence["digest"],
        index=picture.index,
        recipe=evidence["recipe"],
        verdict=picture.verdict,
        reason=REASONS[picture.verdict],
        score=evidence["score"],
        steps=picture.steps,
        course=tuple(value if isfinite(value) else None for value in picture.course),
        execution=evidence["execution"],
        seconds=seconds,
        made=datetime.now(tz=UTC).isoformat(timespec="seconds"),
        files=files,
    )


REASONS: dict[Verdict, str] = {
    "rendered": "",
    "dead": "what the network says never changed in any step",
    "not finite": "a value or a gradient became NaN or infinite",
}


def sha256(content: bytes) -> str:
    """Hexadecimal."""
    return hashlib.sha256(content).hexdigest()
