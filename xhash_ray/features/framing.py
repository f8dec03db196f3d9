"""open_clip's image preprocessing up to the pixels, with Pillow alone: resize, crop or pad, RGB.

The same pixels as `open_clip.transform.image_transform_v2(..., is_train=False)` without its last two steps, which
make floats and normalise. Written anew because a decoder that imports torchvision needs three seconds to start,
and one that imports Pillow a tenth of one.

Sources: open_clip 3.3 `transform.py`, torchvision 0.29 `transforms/functional.py` and `_functional_pil.py`; the
tests compare with both on every mode, interpolation and many sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps

from xhash_ray.errors import BadInput, nearest
from xhash_ray.storage.pictures import PIXEL_LIMIT, TooLarge, open_picture

RESIZE_MODES = ("shortest", "longest", "squash")


class Framing:
    """Brings pictures of any mode and size to one size in RGB.

    Args:
        preprocessing: open_clip's: `size` (side, or height and width), `interpolation`, `resize_mode`,
            `fill_color`; missing ones are as open_clip has them. `mode`, `mean` and `std` play no part here.

    Raises:
        BadInput: for a resize mode that does not exist.
    """

    def __init__(self, preprocessing: Mapping[str, Any]) -> None:
        size = preprocessing.get("size", 224)
        self.height, self.width = (int(size), int(size)) if isinstance(size, (int, float)) else map(int, size)
        self.mode = preprocessing.get("resize_mode") or "shortest"
        if self.mode not in RESIZE_MODES:
            raise BadInput(f"resize_mode {self.mode}", "no such mode", nearest(self.mode, RESIZE_MODES))
        self.fill = preprocessing.get("fill_color", 0) if self.mode == "longest" else 0
        bilinear = preprocessing.get("interpolation") == "bilinear"
        # open_clip forgets the interpolation for frames that are no squares, and so do we.
        forgotten = self.mode == "shortest" and self.height != self.width
        self.filter = Image.Resampling.BILINEAR if bilinear and not forgotten else Image.Resampling.BICUBIC

    @property
    def pixel_bytes(self) -> int:
        """Of one framed picture."""
        return 3 * self.height * self.width

    def __call__(self, image: Image.Image) -> Image.Image:
        """A picture in RGB and of this size; itself when it is so already.

        Raises:
            TooLarge: when it is so narrow that resizing would make more than PIXEL_LIMIT pixels of it.
            Exception: whatever Pillow runs into when it decodes and converts.
        """
        if image.size != (self.width, self.height):
            image = self.centred(self.resized(image))
        return image if image.mode == "RGB" else image.convert("RGB")

    def resized(self, image: Image.Image) -> Image.Image:
        """The picture before it is cropped or padded."""
        height, width = self.target(image.height, image.width)
        if (width, height) == image.size:
            return image
        if width * height > PIXEL_LIMIT:
            found = f"image of {image.width} x {image.height} pixels, {width} x {height} when resized"
            raise TooLarge(f"{found}, more than {PIXEL_LIMIT:,}")
        return image.resize((width, height), self.filter)

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture is resized to; they differ in rounding, as open_clip's two ways do."""
        if self.mode == "squash":
            return self.height, self.width
        if self.mode == "shortest" and self.height == self.width:  # torchvision's Resize rounds down
            short, long = min(height, width), max(height, width)
            longer = int(self.height * long / short)
            return (longer, self.height) if width <= height else (self.height, longer)
        pick = max if self.mode == "longest" else min
        ratio = pick(height / self.height, width / self.width)
        return round(height / ratio), round(width / ratio)

    def centred(self, image: Image.Image) -> Image.Image:
        """The middle of a picture, with a border of the fill colour where it is too small."""
        across, down = max(0, self.width - image.width), max(0, self.height - image.height)
        if across or down:
            image = self.bordered(image, (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2))
        if image.size == (self.width, self.height):
            return image
        top, left = round((image.height - self.height) / 2), round((image.width - self.width) / 2)
        return image.crop((left, top, left + self.width, top + self.height))

    def bordered(self, image: Image.Image, border: tuple[int, int, int, int]) -> Image.Image:
        """A picture with a border (left, top, right, bottom) of the fill colour, in the picture's own mode."""
        bands = len(image.getbands())
        return ImageOps.expand(image, border, self.fill if bands == 1 else (self.fill,) * bands)


def decode_one(content: bytes, framing: Framing) -> bytes:
    """An encoded picture as the bytes of uint8 [height, width, 3].

    The first frame of an animation; EXIF's orientation is not applied, as open_clip does not.

    Raises:
        TooLarge: for more than PIXEL_LIMIT pixels.
        Exception: whatever Pillow's readers run into.
    """
    with open_picture(content) as image:
        return framing(image).tobytes()
