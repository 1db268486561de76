"""What a recipe's pictures are judged by: the objective of one picture, and the unit in it."""

from dataclasses import dataclass

from featviz.atlas.standards import Spot
from featviz.engine.algebra import Objective, WeightedSum
from featviz.engine.objectives import Channel, Neuron
from featviz.engine.recipe import Recipe
from featviz.engine.seen import IMAGE, grid_of
from featviz.network.network import Network


@dataclass(frozen=True)
class Subject:
    """`objective`: without the terms that compare pictures; None where nothing is left.

    `channel`: that of the one unit which a picture is of, and `sign` -1 where it is of what makes
    the unit fire least; None where the objective asks the network for something else. `spots`:
    how the unit's layer is read, or the means of all layers that the objective reads.
    """

    objective: Objective | None
    spots: tuple[Spot, ...]
    channel: int | None = None
    sign: int = 1


def subject_of(network: Network, recipe: Recipe) -> Subject:
    """That of a recipe for this network. Raises UnknownName, OutOfRange, DoesNotFit."""
    terms = recipe.objective.resolve(network).terms
    alone = tuple((weight, term) for weight, term in terms if weight and not term.couples)
    objective = WeightedSum(alone) if alone else None
    heard = [(weight, term) for weight, term in alone if term.reads != (IMAGE,)]
    weight, term = heard[0] if len(heard) == 1 else (0.0, None)
    if isinstance(term, (Channel, Neuron)):
        spot = Spot(term.layer, _site(network, term, recipe))
        return Subject(objective, (spot,), term.channel, 1 if weight > 0 else -1)
    layers = () if objective is None else objective.layers
    return Subject(objective, tuple(Spot(layer) for layer in layers))


def _site(network: Network, term: Channel | Neuron, recipe: Recipe) -> int | None:
    if isinstance(term, Channel):
        return None
    layer = network.layer(term.layer, recipe.shape.rows, recipe.shape.columns)
    return grid_of(layer).index(term.row, term.column, layer=term.layer)
