"""Encoded pictures from anywhere: which formats are opened, and how large they may be."""

from __future__ import annotations

import io

from PIL import Image

PIXEL_LIMIT = 64_000_000  # a larger picture is refused before it is decoded
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # Pillow's others would start programs, or read files


class TooLarge(ValueError):
    """A picture, or a step on the way to its frame, of more than PIXEL_LIMIT pixels."""


def open_picture(content: bytes) -> Image.Image:
    """A picture whose pixels are not decoded yet.

    Raises:
        TooLarge: for one with more than PIXEL_LIMIT pixels.
        Exception: whatever Pillow's readers run into.
    """
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.width * image.height > PIXEL_LIMIT:
        raise TooLarge(f"image of {image.width} x {image.height} pixels, more than {PIXEL_LIMIT:,}")
    return image
