"""What can be maximized in a network: neurons, channels, directions, whole layers, class logits.

Sources: Olah et al. 2017, "Feature Visualization" (neuron, channel, layer, logit,
diversity); Olah et al. 2018, "The Building Blocks of Interpretability" and Carter et al. 2019,
"Activation Atlas" (direction times a power of its cosine).
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from featviz.engine.algebra import Objective, Own, OwnValue, Term, check_number, short
from featviz.engine.seen import IMAGE, Grid, Seen
from featviz.errors import DoesNotFit, OutOfRange
from featviz.network.network import Network
from featviz.shapes import PerImage
from featviz.units import Position, Unit, layer_key, split_key

Place = int | Literal["center"]
Numbers = tuple[float, ...] | list[float] | Tensor | NDArray[Any]
"""What a vector may be given as; it is kept as a tuple of floats."""

COSINE_FLOOR = 0.1
NORM_FLOOR = 1e-4


@dataclass(frozen=True)
class OfLayer(Term):
    """A measurement of one read point, which is its first field."""

    layer: str

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.layer,)

    def resolve_term(self, network: Network) -> Term:
        return self if self.layer == IMAGE else replace(self, layer=network.read_point(self.layer))


@dataclass(frozen=True)
class Channel(OfLayer):
    """Mean activation of one channel over its map (or over tokens)."""

    varies = ("channel",)
    is_linear = True
    channel: int

    def __post_init__(self) -> None:
        """Raises DoesNotFit, OutOfRange where the channel is no number from 0."""
        object.__setattr__(self, "channel", _channel(self.channel, "a channel's objective"))

    def __str__(self) -> str:
        return f"channel({self.layer}, {self.channel})"

    def resolve_term(self, network: Network) -> Term:
        network.check_channel(self.layer, self.channel)
        return super().resolve_term(network)

    def own(self, grids: Mapping[str, Grid]) -> tuple[OwnValue, ...]:
        return (self.channel,)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        (channels,) = own
        return seen.read(self.layer).at(channels).mean(dim=1)


@dataclass(frozen=True)
class Neuron(OfLayer):
    """Activation of one neuron: a channel at a row and column counted from the top left.

    For tokens `row` is the token. The center is rows // 2, columns // 2.
    """

    varies = ("channel", "row", "column")
    is_linear = True
    channel: int
    row: Place = "center"
    column: Place = "center"

    def __post_init__(self) -> None:
        """Raises DoesNotFit, OutOfRange where the channel is no number from 0."""
        object.__setattr__(self, "channel", _channel(self.channel, "a neuron"))
        _check_places(self.row, self.column)

    def __str__(self) -> str:
        return f"neuron({self.layer}, {self.channel}, {self.row}, {self.column})"

    def resolve_term(self, network: Network) -> Term:
        network.check_channel(self.layer, self.channel)
        return super().resolve_term(network)

    def own(self, grids: Mapping[str, Grid]) -> tuple[OwnValue, ...]:
        return self.channel, grids[self.layer].index(self.row, self.column, layer=self.layer)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        channels, places = own
        return seen.read(self.layer).at(channels, places)


@dataclass(frozen=True)
class DeepDream(OfLayer):
    """Mean square of a whole layer. Source: Mordvintsev et al. 2015, "Inceptionism"."""

    def __str__(self) -> str:
        return f"deepdream({self.layer})"

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        return seen.read(self.layer).values.square().mean(dim=(1, 2))


@dataclass(frozen=True)
class Direction(OfLayer):
    """Mean over sites of the dot product with a vector, times max(0.1, cosine)**power.

    Source: Carter et al. 2019, "Activation Atlas", as in Lucid's `_dot_cossim`: the norms in the
    cosine are raised by 1e-4, and with power 0 the value is the dot product alone.
    """

    varies = ("vector",)
    vector: Numbers
    cosine_power: float = 0.0

    def __post_init__(self) -> None:
        """Takes a tensor, an array or a list as well. Raises OutOfRange, DoesNotFit."""
        object.__setattr__(self, "vector", _numbers(self.vector))
        check_number("cosine_power", self.cosine_power, low=0, where="a direction")

    def __str__(self) -> str:
        return f"direction({self.layer}, {list(self.vector)}, {self.cosine_power})"

    def resolve_term(self, network: Network) -> Term:
        _check_vector(network, self.layer, len(self.vector))
        return super().resolve_term(network)

    def own(self, grids: Mapping[str, Grid]) -> tuple[OwnValue, ...]:
        return (_numbers(self.vector),)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        (vectors,) = own
        values = seen.read(self.layer).values
        return _dot_cosine(values, vectors.to(values.dtype), self.cosine_power).mean(dim=1)


@dataclass(frozen=True)
class NeuronDirection(OfLayer):
    """A `Direction` read at one row and column; the center is rows // 2, columns // 2."""

    varies = ("vector", "row", "column")
    vector: Numbers
    row: Place = "center"
    column: Place = "center"
    cosine_power: float = 0.0

    def __post_init__(self) -> None:
        """Takes a tensor, an array or a list as well. Raises OutOfRange, DoesNotFit."""
        object.__setattr__(self, "vector", _numbers(self.vector))
        check_number("cosine_power", self.cosine_power, low=0, where="a direction")
        _check_places(self.row, self.column)

    def __str__(self) -> str:
        vector = list(self.vector)
        return f"direction({self.layer}, {vector}, {self.row}, {self.column}, {self.cosine_power})"

    def resolve_term(self, network: Network) -> Term:
        _check_vector(network, self.layer, len(self.vector))
        return super().resolve_term(network)

    def own(self, grids: Mapping[str, Grid]) -> tuple[OwnValue, ...]:
        return _numbers(self.vector), grids[self.layer].index(
            self.row, self.column, layer=self.layer
        )

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        vectors, places = own
        values = seen.read(self.layer).values
        here = values[torch.arange(len(values), device=values.device), :, places].unsqueeze(-1)
        return _dot_cosine(here, vectors.to(values.dtype), self.cosine_power).squeeze(1)


@dataclass(frozen=True)
class TensorDirection(OfLayer):
    """A direction with a shape: the center of the map against (channel, row, column) values.

    `values` are flattened in that order; the crop starts at (map - shape) // 2. The cosine is
    taken at each position, as for `Direction`, and the mean over the positions of the shape.
    """

    varies = ("values",)
    shape: tuple[int, int, int]
    values: Numbers
    cosine_power: float = 0.0

    def __post_init__(self) -> None:
        """Takes a tensor, an array or a list as well. Raises OutOfRange, DoesNotFit."""
        object.__setattr__(self, "values", _numbers(self.values))
        check_number("cosine_power", self.cosine_power, low=0, where="a tensor direction")
        sides = tuple(_whole(side, "a tensor direction's shape") for side in self.shape)
        if len(sides) != 3 or min(sides) < 1:
            raise OutOfRange("shape", sides, low=(1, 1, 1), high="any", where="a tensor direction")
        object.__setattr__(self, "shape", sides)

    def __str__(self) -> str:
        shape, values = list(self.shape), list(self.values)
        return f"tensor_direction({self.layer}, {shape}, {values}, {self.cosine_power})"

    def resolve_term(self, network: Network) -> Term:
        _check_vector(network, self.layer, self.shape[0])
        expected = self.shape[0] * self.shape[1] * self.shape[2]
        if len(self.values) != expected:
            raise DoesNotFit(
                f"a tensor direction of shape {self.shape}",
                got=f"{len(self.values)} values",
                expected=expected,
            )
        return super().resolve_term(network)

    def own(self, grids: Mapping[str, Grid]) -> tuple[OwnValue, ...]:
        grid = grids[self.layer]
        if self.shape[1] > grid.rows or self.shape[2] > grid.columns:
            raise DoesNotFit(
                f"a tensor direction in layer {self.layer!r}",
                got=f"{self.shape[1]}x{self.shape[2]}",
                expected=f"at most the map's {grid.rows}x{grid.columns}",
            )
        return (_numbers(self.values),)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        maps = seen.read(self.layer)
        channels, rows, columns = self.shape
        top, left = (maps.grid.rows - rows) // 2, (maps.grid.columns - columns) // 2
        whole = maps.values.unflatten(2, (maps.grid.rows, maps.grid.columns))
        crop = whole[:, :, top : top + rows, left : left + columns].flatten(2)
        vectors = own[0].to(crop.dtype).unflatten(1, (channels, rows * columns))
        return _dot_cosine(crop, vectors, self.cosine_power).mean(dim=1)


@dataclass(frozen=True)
class Logit(Term):
    """The logit of a class, by index or by label; what it reads is found by `resolve`."""

    label: int | str

    def __str__(self) -> str:
        return f"logit({self.label!r})"

    @property
    def reads(self) -> tuple[str, ...]:
        raise DoesNotFit("a class logit", got="no network", expected="objective.resolve(network)")

    def resolve_term(self, network: Network) -> Term:
        index = network.label_index(self.label) if isinstance(self.label, str) else self.label
        return Channel(network.output_layer(), index).resolve_term(network)

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        return seen.read(self.reads[0]).values


@dataclass(frozen=True)
class Likeness(OfLayer):
    """Mean cosine between a picture's Gram matrix at a layer and those of its recipe's others.

    Subtract it to make the pictures of one recipe differ. 0 for a recipe of one picture.

    Source: Olah et al. 2017, "Feature Visualization", section "Diversity". With A of channel x
    site, the inner product of two Gram matrices is the squared norm of A_i^T A_j, so the
    smaller of the two forms is used. Deviation: a mean over the other pictures, where Lucid
    divides the sum over pairs by their number of pictures.
    """

    couples = True

    def __str__(self) -> str:
        return f"likeness({self.layer})"

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        values = seen.read(self.layer).values
        sets = values.unflatten(0, (-1, seen.count))
        _, count, channels, sites = sets.shape
        if sites <= channels:
            pairs = torch.einsum("gics,gjct->gijst", sets, sets).square().sum(dim=(3, 4))
        else:
            grams = torch.einsum("gics,gids->gicd", sets, sets).flatten(2)
            pairs = grams @ grams.transpose(1, 2)
        norms = pairs.diagonal(dim1=1, dim2=2).clamp(min=NORM_FLOOR**4).sqrt()
        cosines = pairs / (norms.unsqueeze(1) * norms.unsqueeze(2))
        others = 1 - torch.eye(count, dtype=cosines.dtype, device=cosines.device)
        return ((cosines * others).sum(dim=2) / max(count - 1, 1)).flatten()


@dataclass(frozen=True)
class Misalignment(OfLayer):
    """Mean square difference of a layer's activations to the neighbouring pictures of the recipe.

    Subtract it to align the pictures of an interpolation: neighbours at distance d in 1..4 count
    with weight decay**-d. Source: Mordvintsev et al. 2018, "Differentiable Image
    Parameterizations", section "Aligned neuron interpolation".
    """

    couples = True
    decay: float = 2.0

    def __post_init__(self) -> None:
        """Raises OutOfRange."""
        check_number("decay", self.decay, above=0, where="a misalignment")

    def __str__(self) -> str:
        return f"misalignment({self.layer}, {self.decay})"

    def evaluate(self, seen: Seen, own: Own) -> PerImage:
        sets = seen.read(self.layer).values.unflatten(0, (-1, seen.count))
        total = torch.zeros(sets.shape[:2], dtype=sets.dtype, device=sets.device)
        for distance in range(1, min(4, seen.count - 1) + 1):
            gap = (sets[:, distance:] - sets[:, :-distance]).square().mean(dim=(2, 3))
            weighted = gap / self.decay**distance / 2  # half to each picture of the pair
            ahead = torch.nn.functional.pad(weighted, (distance, 0))
            total = total + ahead + torch.nn.functional.pad(weighted, (0, distance))
        return total.flatten()


def of_unit(unit: Unit) -> Objective:
    """The objective of an address: its channel or, with a position, its neuron."""
    key = layer_key(unit.layer, unit.read)
    if unit.position is None:
        return Channel(key, unit.channel)
    if unit.position == "center":
        return Neuron(key, unit.channel)
    return Neuron(key, unit.channel, *unit.position)


def title(objective: Objective) -> str:
    """The address where the objective is one channel or neuron, else its expression, shortened."""
    weight, term = objective.terms[0]
    if len(objective.terms) > 1 or abs(weight) != 1 or not isinstance(term, (Channel, Neuron)):
        return short(objective)
    layer, read = split_key(term.layer)
    place: Position = None
    if isinstance(term, Neuron):
        is_center = isinstance(term.row, str) or isinstance(term.column, str)
        place = "center" if is_center else (int(term.row), int(term.column))
    return f"{'-' if weight < 0 else ''}{Unit(layer, term.channel, read, place)}"


def _dot_cosine(values: Tensor, vectors: Tensor, power: float) -> Tensor:
    """(batch, channel, site) against (batch, channel) or (batch, channel, site): (batch, site)."""
    against = vectors.unsqueeze(-1) if vectors.ndim == 2 else vectors
    dot = (values * against).sum(dim=1)
    if power == 0:
        return dot
    norms = (NORM_FLOOR + _norm(values)) * (NORM_FLOOR + _norm(against))
    return dot * (dot / norms).clamp(min=COSINE_FLOOR) ** power


def _norm(values: Tensor) -> Tensor:
    """Length over channels, with a gradient (of zero) at zero."""
    square = values.square().sum(dim=1)
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1).sqrt(), 0)


def _numbers(values: Numbers) -> tuple[float, ...]:
    """A vector of any kind as plain floats, flattened. Raises DoesNotFit, OutOfRange."""
    try:
        vector = torch.as_tensor(values, dtype=torch.float64).flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DoesNotFit("a vector", got=repr(values)[:60], expected="numbers") from error
    for value in vector[~vector.isfinite()][:1].tolist():
        raise OutOfRange("value", value, low="finite", high="finite", where="a vector")
    return tuple(vector.tolist())


def _whole(value: object, where: str) -> int:
    """A whole number of any kind, as an int. Raises DoesNotFit."""
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]  # what has no index is refused
    except TypeError as error:
        raise DoesNotFit(where, got=repr(value)[:60], expected="a whole number") from error


def _channel(value: object, where: str) -> int:
    channel = _whole(value, f"the channel of {where}")
    if channel < 0:
        raise OutOfRange("channel", channel, low=0, high="any", where="a layer")
    return channel


def _check_places(row: object, column: object) -> None:
    for name, place in (("row", row), ("column", column)):
        if place != "center":
            _whole(place, f"the {name} of a neuron, 'center' or a number")


def _check_vector(network: Network, layer: str, length: int) -> None:
    channels = network.layer(layer).channels
    if length != channels:
        raise DoesNotFit(
            f"a direction in layer {layer!r}", got=f"{length} values", expected=f"{channels}"
        )
