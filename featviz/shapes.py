"""The words for tensor shapes that annotations use; nothing here runs."""

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Images = Float[Tensor, "batch channel row column"]
"""Pictures; values in [0, 1] unless the docstring says otherwise."""

Activations = Float[Tensor, "batch ..."]
"""What a layer says: (batch, channel, row, column), (batch, feature) or (batch, token, feature)."""

PerImage = Float[Tensor, " batch"]
"""One number for each picture of a batch."""

Seeds = Int64[Tensor, " batch"]
"""Each picture's own seed."""

Steps = Int64[Tensor, " batch"]
"""The step that each picture is at, counted from 0."""

Rows = Int64[Tensor, " row"]
"""Numbers of some rows of a batch."""

Matrix = tuple[tuple[float, ...], ...]
"""Rows of a small matrix of constants."""

Flags = Bool[Tensor, " batch"]
"""A yes or no for each row of a batch."""
