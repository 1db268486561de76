"""A contact sheet: the pictures of an atlas in rows, each with its objective and its score."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from featviz.atlas.record import Record
from featviz.atlas.store import Store
from featviz.engine.objectives import title
from featviz.errors import DoesNotFit

MOST = 1024
"""Pictures on one sheet."""
GAP_PX = 6
LINE_PX = 14
BACKGROUND = (250, 250, 250)
INK = (30, 30, 30)
FAINT = (150, 30, 30)


def contact_sheet(store: Store, records: Sequence[Record], *, columns: int) -> bytes:
    """A PNG of the pictures in order, `columns` to a row; below each its objective and its score.

    Verdicts other than "rendered" stand in red in place of the score. Raises DoesNotFit for none
    or more than MOST pictures, Malformed for a damaged one.
    """
    if not 1 <= len(records) <= MOST:
        raise DoesNotFit("a contact sheet", got=f"{len(records)} pictures", expected=f"1 to {MOST}")
    shapes = [record.recipe["shape"] for record in records]
    height = max(shape["rows"] for shape in shapes)
    width = max(shape["columns"] for shape in shapes)
    across = min(columns, len(records))
    down = -(-len(records) // across)
    cell_height, cell_width = height + 2 * LINE_PX + GAP_PX, width + GAP_PX
    sheet = Image.new(
        "RGB", (across * cell_width + GAP_PX, down * cell_height + GAP_PX), BACKGROUND
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for place, record in enumerate(records):
        left = GAP_PX + place % across * cell_width
        top = GAP_PX + place // across * cell_height
        with Image.open(io.BytesIO(store.read(record))) as picture:
            sheet.paste(picture.convert("RGB"), (left, top))
        is_good = record.verdict == "rendered" and record.score is not None
        score = f"{record.score:.4g}" if is_good else record.verdict
        name = _fitted(title(record.asked().objective), font, width)
        pen.text((left, top + height + 1), name, fill=INK, font=font)
        pen.text((left, top + height + LINE_PX), score, fill=INK if is_good else FAINT, font=font)
    file = io.BytesIO()
    sheet.save(file, format="PNG")
    return file.getvalue()


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text`, its front cut off where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    room = width - font.getlength("…")
    start = len(text)
    while start > 0 and (room := room - font.getlength(text[start - 1])) >= 0:
        start -= 1
    return f"…{text[start:]}"
