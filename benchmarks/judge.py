"""One measure for pictures of any tool: the unit's value, held-out changes, the unit's rank."""

import statistics
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from featviz.atlas.held_out import held_out
from featviz.atlas.references import folder_references, pink_references
from featviz.atlas.standards import Spot, Standards, seen_by
from featviz.engine.render import images_from_hwc_uint8
from featviz.image.parameterizations import Shape
from featviz.network.network import Network
from featviz.network.recording import Prefix

REFERENCES = 64
SHOWN = ("", "_native", "_saved")
SCORES = tuple(f"{kind}{shown}" for kind in ("score", "held_out") for shown in SHOWN)


class Judge:
    """Scores pictures of one network's units, one way for all peers, in float32.

    `photographs`: a folder of reference images for the ranks, of which REFERENCES are taken; None
    for as many of pink noise. Held-out changes and ranks are those of an atlas's evidence.
    """

    def __init__(self, network: Network, photographs: Path | None) -> None:
        self.network = network
        self.standards = Standards(
            network,
            pink_references(REFERENCES)
            if photographs is None
            else folder_references(photographs, most=REFERENCES),
        )

    def scores(self, layer: str, channel: int, picture: Path, side_px: int) -> dict[str, float]:
        """The unit's mean over the picture, and over its held-out draws, shown in three ways.

        As presented: `side_px` wide, resized as Lucent does; `_native`: at the network's own
        size; `_saved`: as it is. `rank`: how many channels of the layer the presented picture
        excites more, each by its own mean and sd over references of the same size.
        """
        whole = _whole(picture)
        images = torch.cat([whole, held_out(whole)[0]])
        shown = {
            "": interpolate(images, side_px, mode="bilinear", align_corners=True),
            "_native": interpolate(images, self.network.size, mode="bilinear", align_corners=False),
            "_saved": images,
        }
        spot = Spot(layer)
        means = {name: self._means(spot, each) for name, each in shown.items()}
        found: dict[str, float] = {}
        for name, each in means.items():
            own = each[:, channel].tolist()
            found |= {f"score{name}": own[0], f"held_out{name}": statistics.mean(own[1:])}
        spread = self.standards.spread(Shape(3, side_px, side_px), spot)
        standard = spread.standardised(means[""][:1])[0]
        return {**found, "rank": int((standard > standard[channel]).sum())}

    def score(self, layer: str, channel: int, picture: Path, side_px: int) -> float:
        """The `score` of `scores` alone."""
        shown = interpolate(_whole(picture), side_px, mode="bilinear", align_corners=True)
        return self._means(Spot(layer), shown)[0, channel].item()

    def _means(self, spot: Spot, images: Tensor) -> Tensor:
        """Channel means, (image, channel)."""
        prefix = Prefix(self.network, [spot.layer], rows=images.shape[2], columns=images.shape[3])
        return torch.cat([spot.read(seen_by(prefix, part)) for part in images.split(16)])


def _whole(picture: Path) -> Tensor:
    with Image.open(picture) as file:
        return images_from_hwc_uint8(np.array(file.convert("RGB"))[None])
