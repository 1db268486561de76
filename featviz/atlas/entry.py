"""What a plan says of one picture, and such entries read back from a store."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from featviz.atlas.store import PLAN, Store
from featviz.errors import Malformed

Technique = Literal["channel", "neuron", "negative", "diversity", "pair", "direction", "expression"]


@dataclass(frozen=True)
class Entry:
    """One picture that a config asks for: the index-th of the recipe of a digest.

    `address` is what it shows, as `featviz render` takes it where it is no direction; `layer` and
    `channel` are those of a unit. The layer is None where several are read, the channel for pairs,
    directions and expressions. `seed` is the recipe's.
    """

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    index: Annotated[int, Field(ge=0)]
    address: str
    layer: str | None
    channel: Annotated[int, Field(ge=0)] | None
    technique: Technique
    title: str
    seed: int
    is_view: bool

    @property
    def key(self) -> str:
        """Names the picture in the store."""
        return f"{self.digest}-{self.index}"


_ENTRIES = TypeAdapter(tuple[Entry, ...])


def entries_of(store: Store) -> tuple[Entry, ...] | None:
    """What the last build of a store asked for, none twice; None before the first.

    Raises Malformed.
    """
    data = store.plan_data()
    if data is None:
        return None
    try:
        entries = _ENTRIES.validate_python(data["entries"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        expected = f"entries as `featviz atlas` writes them ({where}: {first['msg'].lower()})"
        raise Malformed("the file", f"{store.place}/{PLAN}", expected=expected) from error
    return tuple({entry.key: entry for entry in entries}.values())
