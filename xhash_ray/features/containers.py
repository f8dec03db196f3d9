"""What a picture file says about itself without being decoded: its format, and whether it ends early.

Asked only about files that could not be decoded, to say why. Pillow's own errors differ by format, by version and
by the byte at which a file was cut; the formats' lengths do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# Format -> literals at offsets, all of which must be there.
SIGNATURES: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("JPEG", ((0, b"\xff\xd8\xff"),)),
    ("PNG", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("WEBP", ((0, b"RIFF"), (8, b"WEBP"))),
    ("GIF", ((0, b"GIF87a"),)),
    ("GIF", ((0, b"GIF89a"),)),
    # "BM" may begin a sentence, so the length of the second header must be one that exists.
    *(("BMP", ((0, b"BM"), (14, bytes([length, 0, 0, 0])))) for length in (12, 40, 52, 56, 64, 108, 124)),
    *(("TIFF", ((0, magic),)) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")),
    *(("AVIF", ((4, b"ftyp"), (8, brand))) for brand in (b"avif", b"avis", b"mif1", b"msf1")),
)
LEAST = 2  # bytes of a signature, below which anything could be anything
JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)  # none of stuffing, padding, restarts


def format_of(content: bytes) -> str | None:
    """The format that a file's first bytes name, as far as it has any; None for no picture format of ours."""
    for name, literals in SIGNATURES:
        if len(content) < literals[0][0] + LEAST:
            continue
        if all(content[at : at + len(part)] == part[: max(0, len(content) - at)] for at, part in literals):
            return name
    return None


def ends_early(name: str, content: bytes) -> bool:
    """Whether a file lacks its end, by the lengths and end marks of its format.

    Args:
        name: From `format_of`.
        content: The file.
    """
    try:
        return ENDINGS[name](content)
    except IndexError:  # the walk itself ran into the end
        return True


def jpeg_ends_early(content: bytes) -> bool:
    """No end-of-image mark after segments and scans; marks inside segments, of thumbnails, do not count."""
    at = 2
    while found := JPEG_MARKER.search(content, at):
        mark = found[1][0]
        if mark == 0xD9:
            return False
        alone = mark in (0x01, 0xD8)
        at = found.end() + (0 if alone else number(content, found.end(), 2))
    return True


def png_ends_early(content: bytes) -> bool:
    """No IEND, or a chunk that is longer than what is left."""
    at = 8
    while True:
        length, kind = number(content, at, 4), content[at + 4 : at + 8]
        at += 12 + length
        if at > len(content):
            return True
        if kind == b"IEND":
            return False


def gif_ends_early(content: bytes) -> bool:
    """No trailer after the blocks; a byte that begins no block is damage of another kind."""
    at = 13 + colours(content[10])
    while (block := content[at]) in (0x21, 0x2C):
        at += 2 if block == 0x21 else 11 + colours(content[at + 9])
        while length := content[at]:
            at += 1 + length
        at += 1
    return False


def colours(flags: int) -> int:
    """Bytes of a GIF's colour table."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def webp_ends_early(content: bytes) -> bool:
    """Shorter than RIFF says."""
    return len(content) < 8 + number(content, 4, 4, "little")


def bmp_ends_early(content: bytes) -> bool:
    """Shorter than the file header says, or than where it says that pixels begin."""
    return len(content) < max(number(content, 2, 4, "little"), number(content, 10, 4, "little") + 1)


def tiff_ends_early(content: bytes) -> bool:
    """Its first directory reaches behind the end; of strips that do so Pillow itself says "truncated"."""
    order = "little" if content[:1] == b"I" else "big"
    wide = 8 if b"+" in content[:4] else 4  # bytes of an offset; BigTIFF's are twice as long
    first = number(content, wide, wide, order)
    count = number(content, first, wide // 2 if wide == 4 else wide, order)
    return first + wide // 2 + count * (4 + 2 * wide) > len(content)


def avif_ends_early(content: bytes) -> bool:
    """A box of the outermost level that is longer than what is left."""
    at = 0
    while at < len(content):
        length = number(content, at, 4)
        if length == 1:
            length = number(content, at + 8, 8)
        if length == 0:  # to the end of the file, wherever that is
            return False
        at += max(8, length)
    return at > len(content)


def number(content: bytes, at: int, length: int, order: str = "big") -> int:
    """An unsigned number in a file.

    Raises:
        IndexError: where the file ends before it.
    """
    if at + length > len(content):
        raise IndexError(at)
    return int.from_bytes(content[at : at + length], "little" if order == "little" else "big")


ENDINGS: dict[str, Callable[[bytes], bool]] = {
    "JPEG": jpeg_ends_early,
    "PNG": png_ends_early,
    "GIF": gif_ends_early,
    "WEBP": webp_ends_early,
    "BMP": bmp_ends_early,
    "TIFF": tiff_ends_early,
    "AVIF": avif_ends_early,
}
