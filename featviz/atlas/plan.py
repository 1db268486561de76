"""What a config means: one recipe for each picture."""

from featviz.atlas.config import AtlasConfig
from featviz.engine.presets import TRANSFORMS
from featviz.engine.recipe import Adam, Recipe, default_recipe, lucid_preset
from featviz.engine.render import objectives_of
from featviz.network.network import Network


def plan(config: AtlasConfig, network: Network) -> list[Recipe]:
    """The recipes in the order of the config, none twice.

    Raises UnknownName, OutOfRange, Malformed, DoesNotFit before anything is rendered.
    """
    recipes = {}
    for wish in config.units:
        for objective in objectives_of(network, wish):
            for sign in (1, -1) if config.negative else (1,):
                recipe = default_recipe(
                    network,
                    sign * objective,
                    transforms=TRANSFORMS[config.transforms](),
                    optimizer=Adam(learning_rate=config.learning_rate),
                    steps=config.steps,
                    seed=config.seed,
                    size=config.size,
                )
                made = lucid_preset(recipe) if config.preset == "lucid" else recipe
                recipes[made.digest] = made
    return list(recipes.values())
