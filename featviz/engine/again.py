"""A stored picture made again from what its file carries."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featviz.engine import serial
from featviz.engine.execution import Execution, execution, threads
from featviz.engine.picture import Picture, read_evidence
from featviz.engine.recipe import Recipe
from featviz.engine.render import render_each
from featviz.errors import Malformed, OutOfRange
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
        how = {**data["execution"]}
        how["versions"] = tuple((name, value) for name, value in how["versions"])
        return Stored(recipe, int(data["index"]), serial.made(Execution, how))
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
    on_progress: Callable[[float], None] | None = None,
) -> tuple[Picture, list[str]]:
    """The picture, rendered as recorded unless told otherwise, and what differs from the record.

    With no difference its file is equal to the byte. Raises DoesNotFit when the network is
    not the recipe's, OutOfRange when the recipe has no such picture.
    """
    recorded = source.execution
    last = source.recipe.count - 1
    if not 0 <= source.index <= last:
        raise OutOfRange("picture", source.index, low=0, high=last, where="the recipe")
    with threads(recorded.threads):
        how = execution(
            slots=recorded.slots if slots is None else slots,
            device=recorded.device if device is None else device,
            dtype=recorded.dtype if dtype is None else dtype,
            weights=recorded.weights,
        )
        made = render_each(network, [source.recipe], how, keeps_slots=True, on_progress=on_progress)
        pictures = {picture.index: picture for picture in made}
    return pictures[source.index], recorded.differences(how)
