"""A group of shards as others see it: asked by generation, in this process or (runtime/serving.py) one hop away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from xhash_ray.errors import XhashError
from xhash_ray.serving.certificates import Summary
from xhash_ray.serving.groups import Answer, Holder, Kind


class Lost(Exception):
    """Nobody answered for a group of shards."""


class Backend(Protocol):
    """A group of shards, here or elsewhere."""

    async def call(self, method: str, deadline_s: float, *arguments: Any) -> Any:
        """A method of `GroupServer`.

        Args:
            method: Its name.
            deadline_s: On the clock of time.monotonic.
            arguments: Of it.

        Raises:
            Lost: when nobody answers in time.
            XhashError: as the method does.
        """


class GroupServer:
    """A group of shards in this process.

    Args:
        uri: The index's folder.
        part: Which group of the shards.
        parts: How many groups there are.
        threads: Cores of a search; all by default.
    """

    def __init__(self, uri: str, part: int = 0, parts: int = 1, threads: int | None = None) -> None:
        self.holder = Holder(uri, part, parts, threads)

    def prepare(self, generation: int) -> dict[str, Summary]:
        """Loads a generation; returns where its codes lie."""
        return self.holder.group(generation).summaries

    def search(self, generation: int, kind: Kind, codes: Sequence[bytes]) -> list[Answer]:
        """The answers to queries of one kind."""
        return self.holder.group(generation).search(kind, codes)

    def item(self, generation: int, identity: str) -> dict[str, Any] | None:
        """A stored pair; None for one that is not here."""
        return self.holder.group(generation).item(identity)


class InProcess:
    """A backend without a hop, and without another process to fail."""

    def __init__(self, server: GroupServer) -> None:
        self.server = server

    async def call(self, method: str, deadline_s: float, *arguments: Any) -> Any:
        """See `Backend`."""
        return await asyncio.to_thread(getattr(self.server, method), *arguments)


def raised(answer: Any) -> Any:
    """What came over a hop: errors of this project travel as values, raised ones would arrive wrapped."""
    if isinstance(answer, XhashError):
        raise answer
    return answer
