"""The two kinds of transforms: those that move pixels, and those that change their values."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor

from featviz.errors import OutOfRange
from featviz.image.warp import Affine
from featviz.shapes import Images, Seeds, Steps

Draws = Float[Tensor, "batch draw"]
"""What one member drew, one row a picture; no columns for members that draw nothing."""


class Geometric(ABC):
    """A member that moves pixels."""

    @abstractmethod
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Draws:
        """Each row's own draw; another place in the stack is another stream."""

    @abstractmethod
    def affine(self, draws: Draws, rows: int, columns: int) -> Affine:
        """From pixels of its output to pixels of its input, which has `rows` and `columns`."""

    @abstractmethod
    def output_size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of its output."""

    def reach_px(self, distance_px: float) -> float:  # noqa: ARG002
        """How far at most it moves what lies at this distance from the center."""
        return 0.0


class Photometric(ABC):
    """A member that changes values and keeps the size."""

    @abstractmethod
    def draw(self, seeds: Seeds, steps: Steps, *, place: int = 0) -> Tensor:
        """Each row's own draw; another place in the stack is another stream."""

    @abstractmethod
    def apply(self, images: Images, draws: Tensor) -> Images:
        """A pure function of images and draws; the result may leave [0, 1]."""


def check(
    name: str, value: int | float, *, low: int | float, where: str, high: int | float = float("inf")
) -> None:
    """Raises OutOfRange where a member's field is outside its range; NaN always is."""
    if not (low <= value <= high and value < float("inf")):  # false for NaN too
        raise OutOfRange(name, value, low=low, high=high, where=where)
