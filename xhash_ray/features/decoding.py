"""Encoded pictures to pixels, in a process of its own that may hang, crash or be killed.

`Decoder` and `decode_here` give the same: the first is fast and loses nobody but the guilty picture, the second is
a loop that says what is meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xhash_ray.features.arena import Arena, shared_file
from xhash_ray.features.decoder_child import Child
from xhash_ray.features.decoder_main import attempt
from xhash_ray.features.decoder_run import Decoded, Decoding
from xhash_ray.features.faults import ENCODED_LIMIT, Fault, fault_of, unfit
from xhash_ray.features.framing import Framing, decode_one

MEMORY_LIMIT = 2 * 1024**3  # bytes; 64 million pixels in Pillow are a quarter of a gibibyte, a codec's copies more
WORK = "xhash_ray.features.framing:decode_one"


def decode_here(
    images: Sequence[bytes], preprocessing: Mapping[str, Any], encoded_limit: int = ENCODED_LIMIT
) -> Decoded:
    """Decodes in this process, one picture after the other; what a picture does to it, it suffers."""
    framing, errors = Framing(preprocessing), {}
    pixels: dict[int, np.ndarray] = {}
    for position, content in enumerate(images):
        try:
            outcome = unfit(content, encoded_limit) or attempt(decode_one, content, framing)
        except MemoryError as error:
            outcome = fault_of(error, content)
        if isinstance(outcome, Fault):
            errors[position] = outcome
        else:
            pixels[position] = planes(outcome, framing)
    empty = np.empty((0, 3, framing.height, framing.width), np.uint8)
    return Decoded(list(pixels), np.stack(list(pixels.values())) if pixels else empty, errors)


def planes(interleaved: bytes, framing: Framing) -> np.ndarray:
    """The bytes of [height, width, 3] as uint8 [3, height, width], C-contiguous."""
    pixels = np.frombuffer(interleaved, np.uint8).reshape(framing.height, framing.width, 3)
    return pixels.transpose(2, 0, 1).copy()


class Decoder:
    """A decoder in a process of its own, which is started when it is first needed and whenever it was lost.

    One picture costs nobody else: one that takes too long or kills the process is a fault, and the others go on in
    a new one. The process ends with this one, also with one that is killed. For one thread at a time.

    Args:
        preprocessing: open_clip's; see `Framing`.
        timeout_s: For one picture.
        encoded_limit: Bytes of an encoded picture.
        memory_limit: Bytes that the process may have for itself. A picture that needs more is a "crash", where
            without limit the kernel would end whichever process it likes.
        work: The function that makes pixels of a picture, as "module:name"; with the contract of `decode_one`.
    """

    def __init__(
        self,
        preprocessing: Mapping[str, Any],
        timeout_s: float = 20.0,
        *,
        encoded_limit: int = ENCODED_LIMIT,
        memory_limit: int = MEMORY_LIMIT,
        work: str = WORK,
    ) -> None:
        self.framing, self.timeout_s, self.encoded_limit = Framing(preprocessing), timeout_s, encoded_limit
        self.settings: dict[str, Any] = {"preprocessing": dict(preprocessing), "work": work}
        self.settings |= {"encoded_limit": encoded_limit, "memory_limit": memory_limit}
        self.file = shared_file()
        self.arena = Arena(self.file.fileno(), self.framing.pixel_bytes, encoded_limit)
        self.child: Child | None = None
        self.running: Decoding | None = None
        self.serial = 1  # of the next picture

    def decode(self, images: Sequence[bytes]) -> Decoded:
        """Decodes pictures.

        Raises:
            XhashError: when no decoder can be started.
        """
        return self.begin(images).finish()

    def begin(self, images: Sequence[bytes]) -> Decoding:
        """Sets the decoder to work and returns; `finish` of what is returned waits. Drops what was not finished."""
        if self.running is not None:
            self.drop()
        self.running = Decoding(self, images)
        return self.running

    def started(self) -> Child:
        """The process, a new one if there is none."""
        if self.child is None:
            self.child = Child(self.file.fileno(), self.arena, self.settings)
        return self.child

    def drop(self) -> None:
        """Ends the process."""
        self.running = None
        if self.child is not None:
            self.child.close()
            self.child = None

    def close(self) -> None:
        """Ends the process and gives the shared memory back."""
        self.drop()
        self.file.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
