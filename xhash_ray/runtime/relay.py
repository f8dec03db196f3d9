"""What workers and controllers say, on the driver's terminal.

Ray Train calls its callbacks in a process of its own; a small actor holds their lines until the driver fetches them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray

POLL_S = 0.5


class Mailbox:
    """Messages in the order they came."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def put(self, message: Any) -> None:
        """Adds a message."""
        self.waiting.append(message)

    def take(self) -> list[Any]:
        """All messages since the last call."""
        taken, self.waiting = self.waiting, []
        return taken


@contextlib.contextmanager
def delivered(handle: Callable[[Any], None]) -> Iterator[Any]:
    """A mailbox whose messages are handled on this process while the block runs, and all of them before it ends."""
    mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
    done = threading.Event()

    def deliver() -> None:
        for message in ray.get(mailbox.take.remote()):
            handle(message)

    def watch() -> None:
        while not done.wait(POLL_S):
            deliver()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield mailbox
    finally:
        done.set()
        thread.join()
        deliver()
        ray.kill(mailbox)
