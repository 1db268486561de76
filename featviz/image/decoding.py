"""Images from bytes that may be damaged."""

import io
import struct

from PIL import Image, ImageOps

from featviz.errors import Malformed

NO_IMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError),
    *(struct.error, Image.DecompressionBombError),
)
"""What Pillow raises for bytes that are no whole image."""


def decoded(content: bytes, name: str) -> Image.Image:
    """A whole image, upright, its pixels read; `name` is for the error. Raises Malformed."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except NO_IMAGE as error:
        raise Malformed("the image", name, expected="a whole image file") from error
