"""A group of shards as others see it: asked by generation, in this process or (runtime/serving.py) one hop away."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from xhash_ray import telemetry
from xhash_ray.errors import Overloaded, XhashError
from xhash_ray.serving.answers import Kind, Query, Scanned
from xhash_ray.serving.certificates import Summary
from xhash_ray.serving.groups import Group, Holder

REMEMBERED = 200
SCANS_AT_ONCE = 2  # one more would wait at the memory rather than work there


class Lost(Exception):
    """Nobody answered for a group of shards."""


class Unloaded(XhashError):
    """A replica that cannot load the generation it is asked for: as good as none, and not the caller's fault."""


class Prepared(NamedTuple):
    """What a router has to know of a group.

    Attributes:
        summaries: Where its codes lie, by modality.
        schema: Of its metadata, the id among it.
    """

    summaries: dict[str, Summary]
    schema: pa.Schema


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

    def prepare(self, generation: int) -> Prepared:
        """Loads a generation; returns what a router has to know of it."""
        group = self.holder.group(generation)
        return Prepared(group.summaries, group.schema)

    def search(self, generation: int, kind: Kind, queries: Sequence[Query]) -> Scanned:
        """The answers to queries of one kind."""
        group, number = self.group(generation), str(self.holder.part)
        found = group.search(kind, queries)
        telemetry.add("xhash_scanned_codes", group.rows * len(queries), group=number)
        telemetry.add("xhash_scanned_bytes", group.rows * group.bits // 8, group=number)
        telemetry.add("xhash_scan_busy_seconds", found.scan_s, group=number)
        return found

    def item(self, generation: int, identity: str) -> dict[str, Any] | None:
        """A stored pair; None for one that is not here."""
        return self.group(generation).item(identity)

    def feature(self, generation: int, identity: str, modality: str) -> bytes | None:
        """float32 [d], the stored feature of a pair; None for one that is not here."""
        return self.group(generation).feature(identity, modality)

    def group(self, generation: int) -> Group:
        """What is asked, loaded where this process is newer than the generation's activation.

        Raises:
            Unloaded: when it cannot be.
        """
        try:
            return self.holder.group(generation)
        except XhashError as error:
            raise Unloaded(error.asked, error.found, error.do) from None

    def in_time(self, method: str, expires_s: float, *arguments: Any) -> Any:
        """A method, unless its time is over before its turn.

        Args:
            method: Its name.
            expires_s: On the clock of time.monotonic.
            arguments: Of it.

        Raises:
            Overloaded: when it is. XhashError: as the method does.
        """
        if time.monotonic() > expires_s:
            raise Overloaded("a search", "its time was over before its turn", "Ask again")
        return getattr(self, method)(*arguments)


class InProcess:
    """A backend without a hop, and without another process to fail."""

    def __init__(self, server: GroupServer) -> None:
        self.server, self.turns = server, ThreadPoolExecutor(SCANS_AT_ONCE, "xhash-group")

    async def call(self, method: str, deadline_s: float, *arguments: Any) -> Any:
        """See `Backend`."""
        pool = None if method == "prepare" else self.turns  # loading keeps no search waiting
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, self.server.in_time, method, deadline_s, *arguments)


class Hedging:
    """Asks a second replica where the first takes longer than nearly all did lately.

    Dean and Barroso, The tail at scale, Communications of the ACM 2013: deferring the second request to the 95th
    percentile adds 5% of load and takes the tail away.

    Args:
        least_s: No second request before.
    """

    def __init__(self, least_s: float = 0.05) -> None:
        self.least_s = least_s
        self.lately: deque[float] = deque(maxlen=REMEMBERED)

    def patience_s(self) -> float:
        """How long the first is waited for."""
        if len(self.lately) < REMEMBERED // 4:
            return 1.0
        return max(self.least_s, sorted(self.lately)[int(len(self.lately) * 0.95)])

    async def first(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The first answer; an error only where nobody else is being asked any more."""
        started_s, asked = time.monotonic(), {asyncio.ensure_future(call())}
        try:
            await asyncio.wait(asked, timeout=self.patience_s())
            if not any(each.done() for each in asked):
                asked.add(asyncio.ensure_future(call()))
            while True:
                done, waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                good = [each for each in done if each.exception() is None]
                if good:
                    self.lately.append(time.monotonic() - started_s)
                if good or not waiting:
                    return (good or list(done))[0].result()
                asked = waiting
        finally:
            for each in asked:
                each.cancel()


def raised(answer: Any) -> Any:
    """What came over a hop: errors of this project travel as values, raised ones would arrive wrapped."""
    if isinstance(answer, XhashError):
        raise answer
    return answer
