"""What kernels presume of redirected gradients where they do the work of rectifiers, and whether it
was so.

A redirected gradient (see `featviz.engine.redirect`) is the true one but in rows where that is all
zero behind a rectifier and not before it. Kernels that let a gradient pass as they store it know
what is behind alone; so they go on with that, and where a row was blocked after all the step is
taken once more, rectifier by rectifier.
"""

import torch
from torch import Tensor

from featviz.kernels import kernels
from featviz.shapes import Flags


class Presumed:
    """That no gradient of some rows is blocked where kernels let it pass."""

    def __init__(self, rows: Flags) -> None:
        self.rows = rows
        self.is_refuted = False

    def look(self, *stirring: Flags) -> None:
        """In which rows the gradient is not all zero: at an operation's result, behind each
        rectifier of its work, and so on to its input.

        What lies just before a rectifier is not known: a row may be taken for blocked that is not.
        """
        if self.is_refuted:
            return
        stirs = torch.stack(stirring)
        is_blocked = stirs[:-1] & ~stirs[1:] & self.rows
        self.is_refuted = bool(is_blocked.any())


def stirs_by_row(values: Tensor) -> Flags:
    """Rows in which anything is not zero."""
    rows = None if values.is_cuda else kernels("rows", values)
    if rows is not None:
        return rows.stirred(values)
    return (values != 0).any(dim=tuple(range(1, values.ndim)))
