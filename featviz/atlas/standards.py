"""What a network says to reference images: by what the responses to a picture are standardised."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.atlas.references import References
from featviz.engine.algebra import Objective
from featviz.engine.seen import Seen, see
from featviz.image.parameterizations import Shape
from featviz.network.network import Network
from featviz.network.recording import Prefix
from featviz.shapes import Images, PerImage

PIXELS_AT_ONCE = {"cpu": 17 * 128**2, "cuda": 17 * 512**2}
"""Of the images of a pass: 17 of 128 pixels on a CPU, which is enough for it to be quick."""
LEAST_SHARE = 0.1
"""The least standard deviation of a channel, as a share of the median one of its layer."""
LEAST_SD = 1e-6
EXEMPLARS = 8
"""Images that are named as the best for an objective, at most."""

Responses = Float[Tensor, "image channel"]
"""One number of every channel of a layer for each image."""


@dataclass(frozen=True)
class Spot:
    """How a layer is read: at one flat site, or (None) as the mean over all of them."""

    layer: str
    site: int | None = None

    def read(self, seen: Seen) -> Responses:
        """The responses of the layer's channels there."""
        values = seen.read(self.layer).values
        return values.mean(dim=2) if self.site is None else values[:, :, self.site]


@dataclass(frozen=True)
class Spread:
    """Each channel's mean and standard deviation over reference images.

    The deviation is LEAST_SHARE of the median one of the layer at least: without that floor,
    channels that are silent on the references would outrank all others.
    """

    middle: Float[Tensor, " channel"]
    sd: Float[Tensor, " channel"]

    @classmethod
    def of(cls, responses: Responses) -> "Spread":
        """That of some images; sums in float64."""
        exact = responses.double()
        sd = exact.std(dim=0, correction=0)
        floor = max(LEAST_SHARE * float(sd.nanmedian()), LEAST_SD)
        return cls(exact.mean(dim=0), sd.clamp(min=floor))

    def standardised(self, responses: Responses) -> Float[Tensor, "image channel"]:
        """Responses in standard deviations from the mean, float64 on the host."""
        return (responses.double().cpu() - self.middle) / self.sd


class Standards:
    """Spreads of layers and values of objectives over reference images, each measured once.

    The references pass in batches; one number for every channel and image is held until the last
    has passed, then two for every channel, and one for every image and objective.
    """

    def __init__(self, network: Network, references: References) -> None:
        self.network = network
        self.references = references
        self._spreads: dict[tuple[Shape, Spot], Spread] = {}
        self._values: dict[tuple[Shape, Objective], PerImage] = {}

    def learn(self, shape: Shape, spots: Iterable[Spot], objectives: Iterable[Objective]) -> None:
        """Measures what is not known yet at a size, all of it in one pass over the references."""
        new_spots = [each for each in dict.fromkeys(spots) if (shape, each) not in self._spreads]
        unknown = (each for each in dict.fromkeys(objectives) if (shape, each) not in self._values)
        new_objectives = list(unknown)
        if not new_spots and not new_objectives:
            return
        layers = [spot.layer for spot in new_spots]
        layers += [layer for objective in new_objectives for layer in objective.layers]
        responses: list[list[Tensor]] = [[] for _ in new_spots]
        values: list[list[Tensor]] = [[] for _ in new_objectives]
        prefix = Prefix(self.network, dict.fromkeys(layers), rows=shape.rows, columns=shape.columns)
        at_once = images_at_once(shape.rows, shape.columns, self.network.device)
        for start in range(0, self.references.count, at_once):
            numbers = range(start, min(start + at_once, self.references.count))
            seen = seen_by(prefix, self.references.images(numbers, shape))
            for spot, found in zip(new_spots, responses, strict=True):
                found.append(spot.read(seen).cpu())
            for objective, found in zip(new_objectives, values, strict=True):
                found.append(objective(seen).cpu())
        for spot, found in zip(new_spots, responses, strict=True):
            self._spreads[shape, spot] = Spread.of(torch.cat(found))
        for objective, found in zip(new_objectives, values, strict=True):
            self._values[shape, objective] = torch.cat(found)

    def spread(self, shape: Shape, spot: Spot) -> Spread:
        """That of a layer's channels."""
        self.learn(shape, [spot], [])
        return self._spreads[shape, spot]

    def values(self, shape: Shape, objective: Objective) -> PerImage:
        """An objective's value for every reference image."""
        self.learn(shape, [], [objective])
        return self._values[shape, objective]


def best_first(values: PerImage) -> list[int]:
    """The numbers of the images that an objective prefers, highest value first.

    None has the lowest value, which a rectified unit gives to all that leave it silent, nor one
    that is not finite. Where more than EXEMPLARS share the highest, as what silences a unit may,
    none is preferred. Of equal ones the first comes first.
    """
    finite = values[values.isfinite()]
    if len(finite) == 0 or int((finite == finite.max()).sum()) > EXEMPLARS:
        return []
    order = values.argsort(descending=True, stable=True).tolist()
    return [n for n in order if values[n].isfinite() and values[n] > finite.min()]


def images_at_once(rows: int, columns: int, device: torch.device) -> int:
    """How many images of a size pass a network together."""
    most = PIXELS_AT_ONCE.get(device.type, PIXELS_AT_ONCE["cpu"])
    return max(1, most // (rows * columns))


def seen_by(prefix: Prefix, images: Images) -> Seen:
    """What a network makes of pictures in [0, 1], without gradients.

    They pass in parts whose sizes follow from how many they are and how large.
    """
    network = prefix.network
    shown = images.to(network.device)
    parts = shown.split(images_at_once(shown.shape[2], shown.shape[3], network.device))
    with torch.no_grad():
        recorded = [prefix(_laid_out(network.to_input(part))) for part in parts]
        whole = {key: torch.cat([part[key] for part in recorded]) for key in recorded[0]}
        return see(whole if len(parts) > 1 else recorded[0], prefix.layers, shown)


def _laid_out(shown: Tensor) -> Tensor:
    return shown.contiguous(memory_format=torch.channels_last)
