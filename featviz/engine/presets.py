"""The words that commands and configs use for parameterizations and transform stacks."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from featviz.image.parameterizations import Fourier, Pixel
from featviz.image.transforms import Stack, lucid, standard, strong

TRANSFORMS: Mapping[str, Callable[[], Stack]] = MappingProxyType(
    {"standard": standard, "strong": strong, "lucid": lucid, "none": Stack}
)
PARAMETERIZATIONS: Mapping[str, type[Fourier] | type[Pixel]] = MappingProxyType(
    {"fourier": Fourier, "pixel": Pixel}
)
