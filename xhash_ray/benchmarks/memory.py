"""How much memory a stretch of work takes on the whole machine, whichever processes do it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.1


class Fall:
    """How far available memory has fallen.

    Attributes:
        most_mb: The largest fall so far, in MB of 10**6 bytes.
    """

    def __init__(self) -> None:
        self.start_kb = available_kb()
        self.most_mb = 0.0

    def look(self) -> None:
        """Looks once."""
        self.most_mb = max(self.most_mb, (self.start_kb - available_kb()) * 1024 / 1e6)


def available_kb() -> int:
    """Memory that programs could still have. Source: proc(5), MemAvailable; caches of files count as available."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


@contextmanager
def fall_of_memory() -> Iterator[Fall]:
    """Looks ten times a second while the block runs."""
    fall, over = Fall(), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            fall.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield fall
    finally:
        over.set()
        thread.join()
