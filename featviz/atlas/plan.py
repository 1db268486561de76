"""What a config means: a list of pictures, and the recipe of each."""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any

from featviz.atlas.config import AtlasConfig
from featviz.atlas.directions import directions_of
from featviz.atlas.entry import Entry, Technique
from featviz.atlas.store import FORMAT
from featviz.engine.algebra import Objective
from featviz.engine.batch import check
from featviz.engine.execution import Execution, execution
from featviz.engine.objectives import Channel, Likeness, Neuron, of_unit, title
from featviz.engine.picture import check_channels
from featviz.engine.presets import adjusted, transforms_under
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import default_slots, fitting_slots, objectives_of
from featviz.errors import DoesNotFit, said_of
from featviz.network.network import Network
from featviz.network.zoo import load
from featviz.units import parse_unit, split_key


@dataclass(frozen=True)
class Plan:
    """The pictures of a config, in its order, none twice, and their recipes, each once."""

    config: AtlasConfig
    entries: tuple[Entry, ...]
    recipes: tuple[Recipe, ...] = field(compare=False, repr=False)

    def lacking(self, there: Collection[Entry]) -> list[Recipe]:
        """The recipes of which a picture is not among these."""
        missing = {entry.digest for entry in self.entries if entry not in there}
        digests = dict.fromkeys(entry.digest for entry in self.entries)  # as the recipes stand
        named = zip(digests, self.recipes, strict=True)
        return [recipe for digest, recipe in named if digest in missing]

    @property
    def kinds(self) -> list[Recipe]:
        """A recipe of each size, count and set of layers: each costs as much as those like it."""
        kinds = {(each.shape, each.count, each.objective.layers): each for each in self.recipes}
        return list(kinds.values())

    def to_data(self) -> dict[str, Any]:
        """As JSON can hold it."""
        entries = [asdict(entry) for entry in self.entries]
        return {"format": FORMAT, "config": self.config.given(), "entries": entries}


def network_of(config: AtlasConfig, weights: str | None = None) -> Network:
    """The network of a config, with these weights in place of its own where they are given.

    Raises what `load` raises, and DoesNotFit where no image file holds its pictures.
    """
    with said_of("'network' of the config"):
        network = load(config.network, weights=config.weights if weights is None else weights)
        check_channels(network.preprocessing.channels)
    return network


def execution_of(
    asked: Plan, network: Network, *, device: str | None, memory: int | None
) -> Execution:
    """How the pictures of a plan are made: all with the same number of slots.

    `memory`: bytes that may be used; None for most of what is free. Raises UnknownName,
    OutOfRange, NotAvailable.
    """
    place: dict[str, Any] = {"device": device or "cpu", "dtype": asked.config.dtype}
    most = asked.config.slots or default_slots(asked.recipes, place["device"])
    slots = fitting_slots(network, asked.kinds, most, **place, memory=memory)
    return execution(slots=slots, **place, weights=network.weights)


def plan(config: AtlasConfig, network: Network) -> Plan:
    """Everything that the config asks of the network.

    Raises UnknownName, OutOfRange, Malformed, DoesNotFit, NotAvailable, NotFinite before anything
    is rendered.
    """
    recipes: dict[str, Recipe] = {}
    entries: list[Entry] = []
    moulds = _Moulds(config, network)
    for wanted in _wanted(config, network):
        for seed in config.seeds:
            recipe = moulds.recipe(wanted, seed)
            digest = recipe.digest
            if digest not in recipes:
                recipes[digest] = recipe
                entries += (wanted.entry(digest, index, seed) for index in range(recipe.count))
    most = max((recipe.count for recipe in recipes.values()), default=1)
    if config.slots is not None and most > config.slots:
        raise DoesNotFit(
            "'slots' of the config", got=config.slots, expected=f"at least {most}, diversity.count"
        )
    return Plan(config, tuple(entries), tuple(recipes.values()))


@dataclass(frozen=True)
class _Wanted:
    """Something of which a picture, or a set of `count`, is made with each seed."""

    objective: Objective
    """Resolved."""
    technique: Technique
    address: str
    title: str
    layer: str | None
    channel: int | None
    is_view: bool
    count: int = 1
    is_sure: bool = False
    """Nothing can be wrong with it that is not wrong with all others of its layer."""

    def entry(self, digest: str, index: int, seed: int) -> Entry:
        of_several = f", {index + 1} of {self.count}" if self.count > 1 else ""
        return Entry(
            digest=digest,
            index=index,
            address=self.address,
            layer=self.layer,
            channel=self.channel,
            technique=self.technique,
            title=f"{self.title}{of_several}",
            seed=seed,
            is_view=self.is_view,
        )


class _Moulds:
    """Recipes: what they have in common is made and checked once for each layer and count."""

    def __init__(self, config: AtlasConfig, network: Network) -> None:
        names = ("steps", "learning_rate", "transforms")
        self._given = {
            each: getattr(config, each) for each in names if each in config.model_fields_set
        }
        self._preset = config.preset
        self._settings: dict[str, Any] = {"size": config.size_px}
        moving = transforms_under(config.preset, self._given.get("transforms"))
        if moving is not None:  # known before the size is chosen
            self._settings["transforms"] = moving
        self._network = network
        self._made: dict[tuple[tuple[str, ...], int], Recipe] = {}

    def recipe(self, wanted: _Wanted, seed: int) -> Recipe:
        """The recipe of what is wanted. Raises what `check` raises."""
        key = wanted.objective.layers, wanted.count
        is_new = key not in self._made
        if is_new:
            self._made[key] = adjusted(
                default_recipe(
                    self._network, wanted.objective, count=wanted.count, **self._settings
                ),
                preset=self._preset,
                **self._given,
            )
        recipe = replace(self._made[key], objective=wanted.objective, seed=seed)
        if is_new or not wanted.is_sure:
            check(self._network, recipe)
        return recipe


def _wanted(config: AtlasConfig, network: Network) -> Iterator[_Wanted]:
    """All that is wanted; an error names the key that it is of."""
    for key, part in (("units", _units), ("pairs", _pairs), ("directions", _directions)):
        with said_of(f"{key!r} of the config"):
            yield from part(config, network)


def _units(config: AtlasConfig, network: Network) -> Iterator[_Wanted]:
    for wish in config.units:
        for objective in objectives_of(network, wish):
            if "(" not in wish and isinstance(objective, (Channel, Neuron)):
                yield from _of_unit(objective, config, network)
            else:
                address = " ".join(wish.split())
                yield _described(objective, network, technique="expression", address=address)


def _pairs(config: AtlasConfig, network: Network) -> Iterator[_Wanted]:
    for first, second in config.pairs:
        yield _pair(first, second, network)


def _directions(config: AtlasConfig, network: Network) -> Iterator[_Wanted]:
    for asked in config.directions:
        for label, name, direction in directions_of(network, asked):
            made = _described(
                direction,
                network,
                technique="direction",
                address=f"{direction.layer}:{label}",
                is_sure=True,
            )
            yield replace(made, title=f"{name} ({label})" if name else label)


def _of_unit(asked: Channel | Neuron, config: AtlasConfig, network: Network) -> Iterator[_Wanted]:
    """The pictures of a selected channel, or the one of a selected neuron."""
    if isinstance(asked, Neuron):
        made = _described(asked, network, technique="neuron")
        yield replace(made, channel=asked.channel)
        return
    layer = network.layer(asked.layer)
    has_map = prod(layer.sites) > 1
    plain = _described(asked, network, technique="channel", is_sure=True)
    plain = replace(plain, channel=asked.channel)
    for technique in config.techniques:
        match technique:
            case "neuron" if has_map or "channel" not in config.techniques:
                center = Neuron(asked.layer, asked.channel)
                made = _described(center, network, technique="neuron", is_sure=True)
                yield replace(made, channel=asked.channel)
            case "negative":
                negative = -plain.objective
                yield replace(
                    plain, objective=negative, technique="negative", title=title(negative)
                )
            case "diversity":
                likeness = config.diversity.weight * Likeness(asked.layer)
                yield replace(
                    plain,
                    objective=(asked - likeness).resolve(network),
                    technique="diversity",
                    count=config.diversity.count,
                )
            case "channel":
                yield plain


def _pair(first: str, second: str, network: Network) -> _Wanted:
    """The sum of two units. Raises DoesNotFit where they are one."""
    one, other = (of_unit(parse_unit(text)).resolve(network) for text in (first, second))
    if one == other:
        raise DoesNotFit("a pair", got=f"{first!r} and {second!r}", expected="two different units")
    address = f"{title(one)} + {title(other)}"
    made = _described(one + other, network, technique="pair", address=address)
    return replace(made, title=address)


def _only_channel(objective: Objective) -> int | None:
    """The channel of an objective that is one unit, as it is."""
    (weight, term), *others = objective.terms
    if others or weight != 1 or not isinstance(term, (Channel, Neuron)):
        return None
    return term.channel


def _described(
    objective: Objective,
    network: Network,
    *,
    technique: Technique,
    address: str = "",
    is_sure: bool = False,
) -> _Wanted:
    """`address`: its title where none is given."""
    resolved = objective.resolve(network)
    layers = {key if key in network.layers() else split_key(key)[0] for key in resolved.layers}
    return _Wanted(
        objective=resolved,
        technique=technique,
        address=address or title(resolved),
        title=title(resolved),
        layer=min(layers) if len(layers) == 1 else None,
        channel=_only_channel(resolved),
        is_view=any(network.layers()[layer].is_view for layer in layers),
        is_sure=is_sure,
    )
