"""Why a picture could not be prepared, in words that rejects are counted by."""

from __future__ import annotations

import re
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from xhash_ray.features.containers import ends_early, format_of
from xhash_ray.storage.pictures import FORMATS, TooLarge

ENCODED_LIMIT = 64 * 1024**2  # bytes of an encoded picture; a larger file is hardly one picture
ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # differs from run to run, and reasons are compared between runs


class Fault(NamedTuple):
    """What is wrong with a picture.

    Attributes:
        kind: "missing image", "wrong type" (no picture format of ours), "oversized", "truncated" (the file ends
            early), "undecodable", "timeout" or "crash" (of the decoder).
        reason: A sentence for people.
    """

    kind: str
    reason: str


def unfit(content: bytes, limit: int = ENCODED_LIMIT) -> Fault | None:
    """What is wrong with an encoded picture before anybody looks into it.

    Args:
        content: The file.
        limit: Bytes that it may have.
    """
    if not content:
        return Fault("missing image", "image is empty")
    if len(content) > limit:
        return Fault("oversized", f"image of {len(content):,} encoded bytes, more than {limit:,}")
    return None


def fault_of(error: Exception, content: bytes) -> Fault:
    """What an error of decoding or framing says about a picture.

    Args:
        error: Whatever was raised; Pillow's readers let through what their formats run into.
        content: The file.
    """
    if isinstance(error, TooLarge | Image.DecompressionBombError):
        return Fault("oversized", said_by(error))
    if isinstance(error, MemoryError):
        return Fault("crash", "the decoder ran out of memory")
    name = format_of(content)
    if name is None:
        return Fault("wrong type", f"no {', '.join(FORMATS)}; it begins with {content[:16]!r}")
    if ends_early(name, content) or "truncated" in str(error).lower():
        return Fault("truncated", f"{name} of {len(content):,} bytes ends early: {said_by(error)}")
    return Fault("undecodable", f"{name} cannot be decoded: {said_by(error)}")


def said_by(error: Exception) -> str:
    """An error's words, without what differs from run to run."""
    if isinstance(error, UnidentifiedImageError):
        return "its header makes no sense"
    words = " ".join(str(error).split())
    return ADDRESS.sub("", words)[:200] or type(error).__name__
