"""The memory that a decoder and its parent share: encoded pictures on their way in, pixels on their way out.

    words 0..7         progress: [0] serial of the picture in work (0: none), [1] since when (float64, monotonic s)
    half 0, half 1     each: count, first serial, then per picture: offset, length, status; then its body

A body begins with one slot a picture, for pixels or for the words of a fault, and goes on with the encoded
pictures. While the decoder works on one half, the parent empties and fills the other. Nothing but the number of a
half goes through pipes, so neither side can ever wait for the other to read. Only what is touched takes memory.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from xhash_ray.features.faults import Fault

WORD = 8  # bytes of int64 and float64, in the machine's own order: both sides are the same machine
HEADER = 8 * WORD
ITEMS = 1024  # pictures of a half at most
TABLE = (2 + 3 * ITEMS) * WORD
CHUNK_BYTES = 4 * 1024**2  # of slots and pictures of a half: enough to wake seldom, and still in the cache
FAULT_BYTES = 512  # of a slot at least

PENDING, PIXELS, FAULT = range(3)  # status of a picture


def shared_file() -> IO[bytes]:
    """A file without a name, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("xhash-decoder", os.MFD_CLOEXEC), "r+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def slot_bytes(pixel_bytes: int) -> int:
    """Bytes kept for a picture's pixels, or its fault."""
    return aligned(max(pixel_bytes, FAULT_BYTES))


def aligned(length: int) -> int:
    """The next multiple of a cache line."""
    return -(-length // 64) * 64


class Half:
    """One chunk of pictures.

    Args:
        memory: Of the half.
        pixel_bytes: Of one framed picture.
    """

    def __init__(self, memory: memoryview, pixel_bytes: int) -> None:
        self.words, self.body = memory[:TABLE].cast("q"), memory[TABLE:]
        self.pixel_bytes, self.slot = pixel_bytes, slot_bytes(pixel_bytes)

    @property
    def count(self) -> int:
        """Pictures of the chunk."""
        return self.words[0]

    @property
    def first(self) -> int:
        """Serial of the first of them; the others follow."""
        return self.words[1]

    def fits(self, count: int, encoded: int) -> bool:
        """Whether so many pictures of so many bytes together are one chunk; a single one always is."""
        return count <= ITEMS and (count * self.slot + encoded <= CHUNK_BYTES or count == 1)

    def fill(self, contents: Sequence[bytes], first: int) -> None:
        """Puts encoded pictures in, of serials from `first`."""
        at = len(contents) * self.slot
        self.words[0], self.words[1] = len(contents), first
        for i, content in enumerate(contents):
            row = 2 + 3 * i
            self.words[row], self.words[row + 1], self.words[row + 2] = at, len(content), PENDING
            self.body[at : at + len(content)] = content
            at += len(content)

    def content(self, i: int) -> bytes:
        """A picture as it was put in."""
        at, length = self.words[2 + 3 * i], self.words[3 + 3 * i]
        return bytes(self.body[at : at + length])

    def status(self, i: int) -> int:
        """PENDING, PIXELS or FAULT."""
        return self.words[4 + 3 * i]

    def answer(self, i: int, outcome: bytes | Fault) -> None:
        """Puts a picture's pixels, or what is wrong with it, in its slot; the status comes last."""
        at, words = i * self.slot, self.words
        if isinstance(outcome, Fault):
            said = "\0".join(outcome).encode(errors="replace")[: self.slot]
            words[3 + 3 * i] = len(said)
            self.body[at : at + len(said)] = said
            words[4 + 3 * i] = FAULT
        else:
            self.body[at : at + self.pixel_bytes] = outcome
            words[4 + 3 * i] = PIXELS

    def fault(self, i: int) -> Fault:
        """What is wrong with a picture whose status is FAULT."""
        at, length = i * self.slot, self.words[3 + 3 * i]
        kind, reason = bytes(self.body[at : at + length]).decode(errors="replace").split("\0", 1)
        return Fault(kind, reason)


class Arena:
    """Both halves and the progress, mapped from a file that parent and decoder have open.

    Args:
        file: Descriptor of `shared_file`.
        pixel_bytes: Of one framed picture.
        encoded_limit: Bytes of the largest encoded picture.
    """

    def __init__(self, file: int, pixel_bytes: int, encoded_limit: int) -> None:
        size = TABLE + aligned(max(CHUNK_BYTES, slot_bytes(pixel_bytes) + encoded_limit))
        length = HEADER + 2 * size
        if os.fstat(file).st_size < length:
            os.ftruncate(file, length)
        memory = memoryview(mmap.mmap(file, length))
        self.serials, self.times = memory[:HEADER].cast("q"), memory[:HEADER].cast("d")
        self.halves = [Half(memory[at : at + size], pixel_bytes) for at in (HEADER, HEADER + size)]

    @property
    def working_on(self) -> int:
        """Serial of the picture in work, 0 for none."""
        return self.serials[0]

    @property
    def since(self) -> float:
        """When that was begun, in seconds of the monotonic clock, which all processes of a machine share."""
        return self.times[1]

    def begin(self, serial: int) -> None:
        """Says which picture is worked on from now, 0 for none."""
        self.times[1] = time.monotonic()
        self.serials[0] = serial
