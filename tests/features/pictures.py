"""Pictures for tests: of every mode, encoded in every format."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


def noise(mode: str, size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture in which no two places look the same."""
    drawn, (width, height) = np.random.default_rng(seed), size
    if mode == "I;16":
        return Image.fromarray(drawn.integers(0, 2**16, (height, width), np.uint16))
    if mode == "I":
        return Image.fromarray(drawn.integers(0, 70_000, (height, width), np.int32))
    if mode == "F":
        return Image.fromarray(drawn.random((height, width), np.float32) * 300)
    picture = Image.fromarray(drawn.integers(0, 256, (height, width, 4), np.uint8), "RGBA")
    return picture.convert("RGB").quantize(17) if mode == "P" else picture.convert(mode)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as a file."""
    made = io.BytesIO()
    picture.save(made, kind, **options)
    return made.getvalue()


def plain(shade: int, size: tuple[int, int] = (20, 30)) -> bytes:
    """A small grey picture as a PNG."""
    return encoded(Image.new("RGB", size, (shade,) * 3), "PNG")
