"""What a decoder's process runs in tests: a decoder that hangs, dies or eats memory on pictures that ask for it.

Named by `Decoder(work=...)`; nothing in the package imports this.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from pathlib import Path

from xhash_ray.features.framing import Framing, decode_one

HOARD: list[bytearray] = []


def hoard(_: bytes) -> None:
    """Takes memory until there is none."""
    while True:
        HOARD.append(bytearray(2**24))


def killed(_: bytes) -> None:
    """What the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_once(folder: bytes) -> None:
    """The first of all decoders that come here."""
    marker = Path(os.fsdecode(folder)) / "once"
    if not marker.exists():
        marker.touch()
        killed(b"")


def until(path: bytes) -> None:
    """Waits for a file."""
    while not os.path.exists(path):
        time.sleep(0.001)


DEEDS = {
    b"hang": lambda _: re.match(r"(a+)+$", "a" * 60 + "b"),  # in C, for years, and with the interpreter's lock
    b"sleep": lambda seconds: time.sleep(float(seconds)),
    b"until": until,
    b"segfault": lambda _: ctypes.string_at(0),
    b"exit": lambda code: os._exit(int(code)),
    b"quit": lambda code: sys.exit(int(code)),
    b"hoard": hoard,
    b"killed": killed,
    b"killed once": killed_once,
}


def misbehave(content: bytes, framing: Framing) -> bytes:
    """Does what the bytes say, and gives black; decodes what says nothing."""
    word, _, rest = content.partition(b":")
    if word not in DEEDS:
        return b"too short" if word == b"short" else decode_one(content, framing)
    DEEDS[word](rest)
    return bytes(framing.pixel_bytes)
