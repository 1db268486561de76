"""Everything that decides the pixels of a picture, as data with a digest."""

import hashlib
import math
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from featviz.engine import algebra, custom, fading, objectives, penalties, serial
from featviz.engine.algebra import Objective
from featviz.engine.given import GivenImage
from featviz.engine.sizing import auto_size
from featviz.errors import DoesNotFit, Malformed, OutOfRange, UnknownName
from featviz.image import parameterizations, transforms, warp
from featviz.image.parameterizations import Fourier, Parameterization, Shape
from featviz.image.spectrum import lucid_gain_sd
from featviz.image.transforms import Stack, lucid, standard
from featviz.network.network import Network

DECIDED = {
    "network": "none: the network given first decides it",
    "network_name": "none: the network given first decides it",
    "objective": "none: the objective given second decides it",
    "shape": "none: give size=, in pixels",
}
"""Fields of Recipe that are no settings."""
FORMAT = 1
"""Of the JSON; a reader refuses other ones."""


Decay = bool | Literal["parabola", "cubic"]
"""How a rate falls; a yes is half a cosine, by which pictures of earlier recipes are named."""
_POWERS = {"parabola": 2, "cubic": 3}


@dataclass(frozen=True)
class Adam:
    """Gradient ascent with Adam's step; each picture has its own state.

    Source: Kingma and Ba 2015, "Adam". Over the steps of the recipe the rate falls from
    `learning_rate` to 0 where it `decays`: as a parabola, 1 - t**2, as a cubic, 1 - t**3, or, with
    True, as half a cosine (Loshchilov and Hutter 2017, "SGDR"). The short memory (betas of .3 and
    .99 for the usual .9 and .999) suits a gradient that each step's transforms turn another way:
    LOG.md has the trials.
    """

    learning_rate: float = 0.4
    decays: Decay = "parabola"
    beta1: float = 0.3
    beta2: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        """Raises OutOfRange, UnknownName."""
        if self.decays not in (True, False, *_POWERS):
            raise UnknownName("decay", str(self.decays), [*_POWERS, "True", "False"])
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise OutOfRange(
                "learning_rate",
                self.learning_rate,
                low="above 0",
                high="any",
                where=type(self).__name__,
            )
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise OutOfRange(
                "epsilon", self.epsilon, low="above 0", high="any", where=type(self).__name__
            )
        for name, value in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= value < 1:
                raise OutOfRange(name, value, low=0, high="below 1", where=type(self).__name__)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step, counted from 0, among `steps`."""
        if not self.decays:
            return self.learning_rate
        done = step / steps
        if isinstance(self.decays, str):
            return self.learning_rate * (1 - done ** _POWERS[self.decays])
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class FactoredAdam(Adam):
    """Adam for few steps: a row and a column of coefficients share their second moments.

    The moment of coefficient (i, j) is v = r_i c_j / mean(r), of means r, c of squares over a row
    and a column of its color. A step divides by v**(3/8) * V**(1/8) for Adam's v**(1/2), with the
    mean V of all of the picture's, so that the size of the gradient cancels as it does there. A
    gradient of 2**56 or more counts as no number.

    Source: the factors, Shazeer and Stern 2018, "Adafactor", section 3, without its clipping: a
    step may be larger than the rate; a power below 1/2, Chen and Gu 2018, "Padam". The short
    memory and the power are our own trials' (LOG.md); of roots of roots, so that no library's
    power rounds one row otherwise than the next.
    """

    decays: Decay = "cubic"
    beta2: float = 0.9


@dataclass(frozen=True)
class Plateau:
    """Stop a picture when the mean value over `window` steps rises by less than `tolerance`.

    The rise is taken from one window to the next, relative to the size of the value, and only
    looked at after `minimum` steps; the recipe's own steps are the maximum.
    """

    minimum: int = 64
    window: int = 16
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        """Raises OutOfRange."""
        if self.window < 1 or self.minimum < 1:
            raise OutOfRange(
                "window or minimum", (self.window, self.minimum), low=1, high="any", where="Plateau"
            )
        if not math.isfinite(self.tolerance):
            raise OutOfRange(
                "tolerance", self.tolerance, low="finite", high="finite", where="Plateau"
            )


@dataclass(frozen=True)
class Recipe:
    """What is asked for: the same recipe is the same picture, up to rounding.

    `network` is the fingerprint, `network_name` how to load it (not part of the digest). A
    recipe of `count` above 1 is that many pictures, with seeds `seed`, `seed + 1`, ..., which a
    coupled objective compares. `start`: begin from this image, not from noise.
    `redirected_steps`: rectifiers have redirected gradients in the first so many steps; a picture
    whose unit has not stirred by then begins again from noise of `wake_sd` (0: it does not).
    """

    network: str
    network_name: str
    objective: Objective
    shape: Shape
    parameterization: Parameterization = field(default_factory=Fourier)
    transforms: Stack = field(default_factory=standard)
    optimizer: Adam = field(default_factory=Adam)
    steps: int = 192
    stop: Plateau | None = None
    seed: int = 0
    count: int = 1
    start: GivenImage | None = None
    redirected_steps: int = 16
    wake_sd: float = 0.2

    def __post_init__(self) -> None:
        """Raises OutOfRange, DoesNotFit."""
        for name, value, low in (
            ("steps", self.steps, 1),
            ("count", self.count, 1),
            ("redirected_steps", self.redirected_steps, 0),
        ):
            if value < low:
                raise OutOfRange(name, value, low=low, high="any", where="a recipe")
        if not 0 <= self.wake_sd < 0.5:
            raise OutOfRange("wake_sd", self.wake_sd, low=0, high="below 0.5", where="a recipe")
        if not 0 <= self.seed < 2**62:
            raise OutOfRange("seed", self.seed, low=0, high="2**62 - 1", where="a recipe")
        if self.count == 1 and self.objective.is_coupled:
            raise DoesNotFit(
                "an objective that compares pictures",
                got="count 1",
                expected="a count of 2 or more",
            )

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits that name what is asked for."""
        data = {k: v for k, v in self.to_data().items() if k != "network_name"}
        return hashlib.sha256(serial.canonical(data).encode()).hexdigest()[:32]

    def to_data(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"format": FORMAT, **VOCABULARY.to_data(self)}

    def to_json(self) -> str:
        """Its canonical JSON."""
        return serial.canonical(self.to_data())

    @classmethod
    def from_data(cls, data: Any) -> "Recipe":
        """The recipe that `to_data` wrote. Raises Malformed, UnknownName, DoesNotFit."""
        if not isinstance(data, dict) or data.get("format") != FORMAT or data.get("is") != "Recipe":
            raise Malformed("a recipe", str(data)[:60], expected=f"a recipe of format {FORMAT}")
        return VOCABULARY.from_data({k: v for k, v in data.items() if k != "format"})

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """The recipe of a JSON text. Raises Malformed, UnknownName, DoesNotFit."""
        return cls.from_data(serial.parsed(text, "a recipe"))


def default_recipe(network: Network, objective: Objective, /, **settings: Any) -> Recipe:
    """A recipe with the default settings, and any given ones.

    `settings` are fields of Recipe, and `size`: a side in pixels, (rows, columns) or "auto", as
    large as what the objective reads can see (`featviz.engine.sizing`); `start`
    may be a tensor (channel, row, column) in [0, 1]. Networks that are not of three channels get
    plain color.

    Raises DoesNotFit, UnknownName, OutOfRange; the objective is resolved and checked.
    """
    known = [each.name for each in fields(Recipe)]
    for name in DECIDED.keys() & settings.keys():
        raise DoesNotFit(f"the setting {name!r}", got="one", expected=DECIDED[name])
    for name in settings:
        if name not in (*known, "size"):
            raise UnknownName("setting", name, [*known, "size"])
    size = settings.pop("size", None)
    channels = network.preprocessing.channels
    settings.setdefault(
        "parameterization", Fourier(color="decorrelated" if channels == 3 else "plain")
    )
    start = settings.get("start")
    if isinstance(start, Tensor):
        settings["start"] = GivenImage.of(start)
    described = {
        "network": network.fingerprint,
        "network_name": network.name,
        "objective": (resolved := objective.resolve(network)),
        "shape": Shape(channels, *_size(size, network, resolved, settings.get("transforms"))),
    }
    return serial.made(Recipe, {**described, **settings})


def _size(
    size: object, network: Network, objective: Objective, transforms: Stack | None
) -> tuple[int, int]:
    """Rows and columns of a side, of a pair, or of "auto" or None. Raises DoesNotFit."""
    match size:
        case None | "auto":
            return auto_size(network, objective.layers, transforms or standard())
        case int(side) if side > 0:
            return side, side
        case (int(rows), int(columns)) if rows > 0 and columns > 0:
            return rows, columns
    raise DoesNotFit(
        "the size", got=repr(size), expected='pixels, (rows, columns) in pixels, or "auto"'
    )


def fast_preset(recipe: Recipe) -> Recipe:
    """The same picture in 28 steps, of pixels in 32: for looking at many units, not for the best
    of each.

    Source: our own trials (LOG.md). A row of pixels has no scale of its own, as one of frequencies
    has, so that they keep their optimizer.
    """
    if isinstance(recipe.parameterization, Fourier):
        return replace(recipe, steps=28, optimizer=FactoredAdam())
    return replace(recipe, steps=32)


def lucid_preset(recipe: Recipe) -> Recipe:
    """The same picture with Lucid's settings: 512 steps of Adam at .05, its transforms, its noise.

    Source: tensorflow/lucid 0.3.10, optvis/render.py and param/spatial.py. The learning rate is
    carried over to our unit gain, so that a step moves the picture as far as Lucid's does.
    Deviation: the spectrum's coefficients are Hartley's, and each picture draws its own
    transforms.
    """
    gain = lucid_gain_sd(recipe.shape.rows, recipe.shape.columns)
    color = "decorrelated" if recipe.shape.channels == 3 else "plain"
    return replace(
        recipe,
        parameterization=Fourier(sd=0.0028, color=color),
        transforms=lucid(),
        optimizer=Adam(learning_rate=0.05 * gain, decays=False, beta1=0.9, beta2=0.999),
        wake_sd=0.0,
        steps=512,
    )


VOCABULARY = serial.Vocabulary(
    [
        Recipe,
        Adam,
        FactoredAdam,
        Plateau,
        GivenImage,
        Shape,
        algebra.WeightedSum,
        custom.Custom,
        fading.Fading,
        objectives.Channel,
        objectives.Neuron,
        objectives.DeepDream,
        objectives.Direction,
        objectives.NeuronDirection,
        objectives.TensorDirection,
        objectives.Logit,
        objectives.Likeness,
        objectives.Misalignment,
        penalties.TotalVariation,
        penalties.L1,
        penalties.L2,
        penalties.Roughness,
        penalties.ImageDistance,
        parameterizations.Pixel,
        parameterizations.Fourier,
        transforms.Stack,
        transforms.Pad,
        transforms.Crop,
        transforms.Jitter,
        transforms.Scale,
        transforms.Rotate,
        transforms.Flip,
        transforms.Noise,
        transforms.Blur,
        warp.Reflect,
        warp.Fill,
    ]
)
