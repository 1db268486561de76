"""A stored picture made again from what its file carries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featviz.engine.execution import Execution, execution
from featviz.engine.picture import Picture, read_evidence
from featviz.engine.recipe import Recipe
from featviz.engine.render import render_each
from featviz.errors import DoesNotFit, Malformed
from featviz.network.network import Network


@dataclass(frozen=True)
class Stored:
    """What a picture's file says of how it was made."""

    recipe: Recipe
    index: int
    execution: Execution


def stored(path: str | Path) -> Stored:
    """The recipe and execution in a file that `Picture.save` wrote.

    Raises NotAvailable, Malformed, UnknownName, DoesNotFit.
    """
    data = read_evidence(path)
    try:
        recipe = Recipe.from_data(data["recipe"])
        how: dict[str, Any] = dict(data["execution"])
        versions = tuple((str(name), str(value)) for name, value in how.pop("versions"))
        return Stored(recipe, int(data["index"]), Execution(**how, versions=versions))
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(
            "the picture", str(path), expected=f"a whole recipe and execution ({error})"
        ) from error


def again(
    network: Network,
    source: Stored,
    *,
    slots: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> tuple[Picture, list[str]]:
    """The picture, rendered as recorded unless told otherwise, and what differs from the record.

    With no difference its file is equal to the byte. Raises DoesNotFit when the network is
    not the recipe's.
    """
    recorded = source.execution
    how = execution(
        slots=recorded.slots if slots is None else slots,
        device=recorded.device if device is None else device,
        dtype=recorded.dtype if dtype is None else dtype,
        weights=recorded.weights,
    )
    pictures = {p.index: p for p in render_each(network, [source.recipe], how)}
    if source.index not in pictures:
        raise DoesNotFit(
            "the picture's index", got=source.index, expected=f"below {source.recipe.count}"
        )
    return pictures[source.index], recorded.differences(how)
