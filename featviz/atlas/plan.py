"""What a config means: one recipe for each picture."""

from typing import Any

from featviz.atlas.config import AtlasConfig
from featviz.engine.presets import adjusted, transforms_under
from featviz.engine.recipe import Recipe, default_recipe
from featviz.engine.render import objectives_of
from featviz.network.network import Network


def plan(config: AtlasConfig, network: Network) -> list[Recipe]:
    """The recipes in the order of the config, none twice.

    Raises UnknownName, OutOfRange, Malformed, DoesNotFit before anything is rendered.
    """
    names = ("steps", "learning_rate", "transforms")
    given = {name: getattr(config, name) for name in names if name in config.model_fields_set}
    settings: dict[str, Any] = {"seed": config.seed, "size": config.size}
    moving = transforms_under(config.preset, given.get("transforms"))
    if moving is not None:
        settings["transforms"] = moving
    recipes = {}
    for wish in config.units:
        for objective in objectives_of(network, wish):
            for sign in (1, -1) if config.negative else (1,):
                recipe = default_recipe(network, sign * objective, **settings)
                made = adjusted(recipe, preset=config.preset, **given)
                recipes[made.digest] = made
    return list(recipes.values())
