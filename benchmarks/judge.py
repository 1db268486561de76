"""One measure for pictures of any tool: the unit's value, held-out changes, the unit's rank."""

import io
import statistics
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from benchmarks.natural import photographs_of
from featviz.engine.render import hwc_uint8_from_images, images_from_hwc_uint8
from featviz.engine.seen import see
from featviz.network.network import Network
from featviz.network.recording import Prefix

REFERENCES = 64
DRAWS = 16
CORNER_SHARE = 0.06
"""How far a held-out perspective moves a corner at most, in sides of the picture."""
SHOWN = ("", "_native", "_saved")
SCORES = tuple(f"{kind}{shown}" for kind in ("score", "held_out") for shown in SHOWN)


class Judge:
    """Scores pictures of one network's units, one way for all peers, in float32.

    `photographs`: a folder of reference images for the ranks; None for pink noise.
    """

    def __init__(self, network: Network, photographs: Path | None) -> None:
        self.network = network
        self.photographs = photographs
        self._statistics = lru_cache(self._measured)

    def scores(self, layer: str, channel: int, picture: Path, side_px: int) -> dict[str, float]:
        """The unit's mean over the picture, and over its held-out draws, shown in three ways.

        As presented: `side_px` wide, resized as Lucent does; `_native`: at the network's own
        size; `_saved`: as it is. `rank`: how many channels of the layer the presented picture
        excites more, each by its own mean and sd over references of the same size.
        """
        with Image.open(picture) as file:
            whole = images_from_hwc_uint8(np.array(file.convert("RGB"))[None])
        images = torch.cat([whole, held_out(whole)])
        shown = {
            "": interpolate(images, side_px, mode="bilinear", align_corners=True),
            "_native": interpolate(images, self.network.size, mode="bilinear", align_corners=False),
            "_saved": images,
        }
        means = {name: self._means(layer, each) for name, each in shown.items()}
        found: dict[str, float] = {}
        for name, each in means.items():
            own = each[:, channel].tolist()
            found |= {f"score{name}": own[0], f"held_out{name}": statistics.mean(own[1:])}
        middle, spread = self._statistics(layer, side_px)
        standard = (means[""][0] - middle) / spread
        return {**found, "rank": int((standard > standard[channel]).sum())}

    def _means(self, layer: str, images: Tensor) -> Tensor:
        """Channel means, (image, channel)."""
        prefix = Prefix(self.network, [layer], rows=images.shape[2], columns=images.shape[3])
        means = []
        with torch.no_grad():
            for part in images.split(16):
                seen = see(prefix(self.network.to_input(part)), prefix.layers, part)
                means.append(seen.maps[layer].values.mean(dim=2))
        return torch.cat(means)

    def _measured(self, layer: str, size: int) -> tuple[Tensor, Tensor]:
        """Each channel's mean and standard deviation; a tenth of the median one at least.

        Without that floor, channels that are silent on the references would outrank all others.
        """
        means = self._means(layer, references(self.photographs, size))
        spread = means.std(dim=0)
        return means.mean(dim=0), spread.clamp(min=max(0.1 * float(spread.median()), 1e-6))


@lru_cache(maxsize=4)
def references(photographs: Path | None, size: int) -> Tensor:
    """REFERENCES photographs, or as many images of seeded 1/f noise, mean .5 and sd .2, clipped."""
    if photographs is not None:
        images = photographs_of(photographs, size)
        return images[:: -(-len(images) // REFERENCES)]
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(REFERENCES, 3, size, size, generator=generator)
    frequency = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size))
    spectrum = torch.fft.rfft2(white) / frequency.clamp(min=1 / size)
    noise = torch.fft.irfft2(spectrum, s=(size, size))
    middle, sd = noise.mean(dim=(2, 3), keepdim=True), noise.std(dim=(2, 3), keepdim=True)
    return (0.5 + 0.2 * (noise - middle) / sd).clamp(0, 1)


def held_out(picture: Tensor) -> Tensor:
    """DRAWS variants, always the same, by what neither side trained for, in this order.

    A perspective that stretches a quadrilateral inside the picture to its whole, so that nothing
    is to be filled; a gamma in [.8, 1.25]; JPEG of quality 75.
    """
    generator = torch.Generator().manual_seed(1)
    last = picture.shape[-1] - 1
    corners = torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1]])
    variants = []
    for _ in range(DRAWS):
        moved = CORNER_SHARE * torch.rand(4, 2, generator=generator)
        gamma = 1.25 ** (2 * torch.rand(1, generator=generator).item() - 1)
        variant = functional.perspective(
            picture,
            ((corners + moved * (1 - 2 * corners)) * last).round().int().tolist(),
            (corners * last).tolist(),
            interpolation=InterpolationMode.BILINEAR,
        )
        variants.append(_through_jpeg(variant.clamp(0, 1) ** gamma))
    return torch.cat(variants)


def _through_jpeg(image: Tensor) -> Tensor:
    file = io.BytesIO()
    Image.fromarray(hwc_uint8_from_images(image)[0]).save(file, format="JPEG", quality=75)
    return images_from_hwc_uint8(np.array(Image.open(file))[None])
