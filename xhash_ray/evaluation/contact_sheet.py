"""One picture of queries and what they found."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, LABEL_WIDTH, LINE_HEIGHT, HEAD = 96, 8, 250, 16, 34
RIGHT, WRONG, INK, PAPER, FAINT = "#2a8f4f", "#c0392b", "#222222", "#ffffff", "#777777"


@dataclass(frozen=True)
class Row:
    """One query with its hits.

    Attributes:
        text: The query's text, or what the query image shows.
        image: The query image's bytes, None for a text query.
        hits: Encoded images, nearest first.
        relevant: Whether each hit shares a label with the query.
        distances: Bits apart.
    """

    text: str
    image: bytes | None
    hits: Sequence[bytes]
    relevant: Sequence[bool]
    distances: Sequence[int]


def draw(title: str, rows: Sequence[Row]) -> bytes:
    """The contact sheet as a PNG: a query per row, hits framed green where a label is shared, red otherwise."""
    columns = max((len(row.hits) for row in rows), default=0)
    width = LABEL_WIDTH + columns * (CELL + GAP) + 2 * GAP
    height = HEAD + len(rows) * (CELL + LINE_HEIGHT + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, GAP), title, INK, font=ImageFont.load_default(16))
    for number, row in enumerate(rows):
        draw_row(sheet, pen, row, HEAD + GAP + number * (CELL + LINE_HEIGHT + GAP))
    content = io.BytesIO()
    sheet.save(content, "PNG", optimize=True)
    return content.getvalue()


def draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    """A query and its hits."""
    font = ImageFont.load_default(13)
    indent = GAP
    if row.image is not None:
        sheet.paste(thumbnail(row.image, CELL - 4), (GAP, top))
        indent += CELL
    lines = textwrap.wrap(row.text, 34 if row.image is None else 20)[:6]
    pen.multiline_text((indent, top), "\n".join(lines), INK, font=font, spacing=3)
    for column, content in enumerate(row.hits):
        left = LABEL_WIDTH + column * (CELL + GAP)
        sheet.paste(thumbnail(content, CELL - 6), (left + 3, top + 3))
        colour = RIGHT if row.relevant[column] else WRONG
        pen.rectangle((left, top, left + CELL - 1, top + CELL - 1), outline=colour, width=3)
        pen.text((left + 3, top + CELL), bits_apart(row.distances[column]), FAINT, font=ImageFont.load_default(11))


def bits_apart(distance: int) -> str:
    """A distance in words."""
    return f"{distance} bit{'' if distance == 1 else 's'}"


def thumbnail(content: bytes, side: int) -> Image.Image:
    """An encoded image as a square RGB picture."""
    with Image.open(io.BytesIO(content)) as image:
        return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
