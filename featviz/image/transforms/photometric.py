"""Members that change values."""

from dataclasses import dataclass
from math import ceil

from jaxtyping import Int64
from kornia.filters import gaussian_blur2d
from torch import Tensor
from typing_extensions import override

from featviz.errors import DoesNotFit
from featviz.image.seeds import normal_from_streams, streams, uniform
from featviz.image.transforms.kinds import Draws, Photometric, check
from featviz.shapes import Images, Seeds, Steps


@dataclass(frozen=True)
class Noise(Photometric):
    """Add independent normal noise to every value."""

    sd: float

    def __post_init__(self) -> None:
        """Raises OutOfRange when negative."""
        check("sd", self.sd, low=0, where="Noise")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Int64[Tensor, "batch 1"]:
        """The key of each row's noise, which has no size before it meets its picture."""
        return streams(seeds, steps, purpose=f"noise {place}")[:, None]

    @override
    def apply(self, images: Images, draws: Int64[Tensor, "batch 1"]) -> Images:
        """The noise depends on the size of the picture, but not on its batch."""
        count = images.shape[1] * images.shape[2] * images.shape[3]
        noise = normal_from_streams(draws[:, 0], count=count, dtype=images.dtype)
        return images + noise.reshape(images.shape) * self.sd


@dataclass(frozen=True)
class Blur(Photometric):
    """Gaussian blur, each picture its own, uniform between the two standard deviations."""

    sd_px_low: float
    sd_px_high: float

    def __post_init__(self) -> None:
        """Raises OutOfRange unless 0 <= low <= high <= 64."""
        check("sd_px_low", self.sd_px_low, low=0, where="Blur")
        check("sd_px_high", self.sd_px_high, low=self.sd_px_low, high=64, where="Blur")

    @override
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """The standard deviation in pixels."""
        numbers = uniform(seeds, steps, purpose=f"blur {place}", count=1)
        return self.sd_px_low + (self.sd_px_high - self.sd_px_low) * numbers

    @override
    def apply(self, images: Images, draws: Tensor) -> Images:
        """One kernel size for all, three times the largest standard deviation to each side.

        Raises DoesNotFit when the picture is smaller than the kernel reaches.
        """
        reach = ceil(3 * self.sd_px_high)
        if min(images.shape[-2:]) <= reach:
            raise DoesNotFit(
                "the side of a picture to blur",
                got=min(images.shape[-2:]),
                expected=f"more than {reach}",
            )
        # A standard deviation of 0 would divide 0 by 0; this one changes nothing either.
        sds = draws.clamp(min=1e-2).expand(-1, 2)
        return gaussian_blur2d(images, 2 * reach + 1, sds, border_type="reflect")
