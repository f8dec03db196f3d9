"""A picture as a small JPEG, upright and on white; whatever its file holds."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from xhash_ray.storage.pictures import open_picture

QUALITY = 82


def shrunk(content: bytes, side: int) -> bytes | None:
    """A JPEG that shows an encoded image.

    Args:
        content: The encoded file.
        side: Length of the longer side in pixels, at most; smaller images keep their size.

    Returns:
        None for what cannot be decoded, is not of FORMATS, or has more than PIXEL_LIMIT pixels.
    """
    try:
        with open_picture(content) as image:
            image.draft("RGB", (2 * side, 2 * side))  # JPEG can be decoded at an eighth of its size
            small = plain(ImageOps.exif_transpose(image), side)
        written = io.BytesIO()
        small.save(written, "JPEG", quality=QUALITY, optimize=True)
        return written.getvalue()
    except Exception:  # Pillow's readers let through whatever their formats run into
        return None


def plain(image: Image.Image, side: int) -> Image.Image:
    """A small RGB image without transparency: white shines through."""
    if not image.has_transparency_data:
        opaque = image.convert("RGB")
        opaque.thumbnail((side, side))
        return opaque
    layered = image.convert("RGBA")
    layered.thumbnail((side, side))
    white = Image.new("RGB", layered.size, "white")
    white.paste(layered, mask=layered.getchannel("A"))
    return white
