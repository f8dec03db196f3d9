"""From one query to one answer: groups asked at once, merged, and what is missing said.

A router serves one generation at a time. `prepare` has every group load the next one, `flip` sends queries there: they
carry their generation, so those under way end in the old one and none mixes both.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from xhash_ray import telemetry
from xhash_ray.errors import BadInput, Overloaded, XhashError
from xhash_ray.index.generations import Generation, current, read
from xhash_ray.serving.answers import Answer, Kind, Query, Scanned, merge_answers, rescored
from xhash_ray.serving.backends import Backend, Lost, Unloaded
from xhash_ray.serving.certificates import Summary, certain, least_distance
from xhash_ray.serving.coalescing import Coalescer
from xhash_ray.serving.groups import shards_of_groups
from xhash_ray.serving.observing import Spent

LOADING_S = 3600.0
ITEM_TIMEOUT_S = 10.0
PROBE_S = 3.0
SLOW_S = 0.05  # so long the next batch waits for a group that is slower than the rest
LOST_PATIENCE_S = 0.5  # and for one that nobody answered for the last time
BATCHES_AT_ONCE, BATCHES_WAITING = 2, 32


class Served(NamedTuple):
    """What is served.

    Attributes:
        generation: Of the index.
        summaries: Of every group, by modality.
        schema: Of the metadata of all groups, the id among it.
    """

    generation: Generation
    summaries: list[dict[str, Summary]]
    schema: pa.Schema


class Merged(NamedTuple):
    """An answer of all groups that answered.

    Attributes:
        answer: Their hits, merged, and rescored where that was asked for.
        kth: The k-th distance, or that of the last candidate; None without hits.
        missing: Numbers of the shards that nobody answered for.
        certain: So many first hits are those of the complete answer.
        served: What was searched.
        spent: Where the time went.
    """

    answer: Answer
    kth: int | None
    missing: list[int]
    certain: int
    served: Served
    spent: Spent


class Shared(NamedTuple):
    """A scan that queries share.

    Attributes:
        calls: To all groups.
        place: Of a query in their answers.
        started_s: On the clock of time.perf_counter.
    """

    calls: list[asyncio.Task[Any]]
    place: int
    started_s: float


class Router:
    """Asks all groups.

    Args:
        uri: The index's folder.
        backends: The groups of its shards.
        batch: Single queries that share a scan at most; of 64 callers one half is scanned while the other is answered.
        waiting: Single queries that may wait.
    """

    def __init__(self, uri: str, backends: Sequence[Backend], batch: int = 32, waiting: int = 512) -> None:
        self.uri, self.backends = uri, list(backends)
        self.served: Served | None = None
        self.coalescer = Coalescer(self.start_kind, most=batch, bound=waiting, until=self.until_next)
        self.turns, self.batches_waiting, self.batches_waited = asyncio.Semaphore(BATCHES_AT_ONCE), 0, 0
        self.lost: set[int] = set()

    async def chosen(self, number: int | None) -> Generation:
        """A generation of the index, the current one by default.

        Raises:
            BadInput: for one that does not exist.
        """
        if number is None:
            return await asyncio.to_thread(current, self.uri)
        return await asyncio.to_thread(read, self.uri, number)

    async def prepare(self, chosen: Generation) -> Served:
        """Has all groups load a generation; queries still go to the one before it.

        Raises:
            XhashError: when a group cannot load it.
        """
        deadline_s = time.monotonic() + LOADING_S
        loaded: list[Any] = await asyncio.gather(
            *(backend.call("prepare", deadline_s, chosen.number) for backend in self.backends),
            return_exceptions=True,
        )
        for answer in loaded:
            if isinstance(answer, BaseException):
                raise answer if isinstance(answer, XhashError) else unready(chosen.number, answer)
        schema = pa.unify_schemas([each.schema for each in loaded], promote_options="permissive")
        return Served(chosen, [each.summaries for each in loaded], schema)

    def flip(self, prepared: Served) -> Served:
        """From now on queries go to what all groups have prepared."""
        self.served = prepared
        return prepared

    def ready(self) -> Served:
        """What is served.

        Raises:
            Overloaded: while nothing is.
        """
        if self.served is None:
            raise Overloaded("a search", "no generation is loaded yet", "Ask again when /readyz says so")
        return self.served

    async def search(self, served: Served, kind: Kind, query: Query, deadline_s: float) -> Merged:
        """One query of what was served when it came, which shares a scan with others that wait.

        Groups that do not answer by its own deadline are missing from its answer, whatever others wait for.

        Raises:
            Overloaded: when too many wait, or the deadline passes before its turn.
            BadInput: for a filter that is none, or rescoring by what is not known.
        """
        key, asked_s = (served.generation.number, kind), time.perf_counter()
        shared: Shared = await self.coalescer.ask(key, (query, deadline_s), deadline_s)
        parts = await parts_of(shared.calls, deadline_s)
        return self.merged(parts, shared.place, kind, query, served, max(0.0, shared.started_s - asked_s))

    async def start_kind(self, key: Any, asked: Sequence[tuple[Query, float]]) -> list[Shared]:
        """Asks all groups for queries of one generation and kind; each waits for the calls as long as it likes."""
        (number, kind), queries = key, [query for query, _ in asked]
        started_s = time.perf_counter()
        telemetry.observe("xhash_queries_per_scan", len(queries))
        calls = self.calls("search", max(deadline_s for _, deadline_s in asked), number, kind, queries)
        return [Shared(calls, place, started_s) for place in range(len(asked))]

    async def until_next(self, shared: Sequence[Shared]) -> None:
        """Ends when all groups have answered, or all but such as have kept the others waiting for a while."""
        _, late = await asyncio.wait(shared[0].calls, return_when=asyncio.FIRST_COMPLETED)
        if late:
            await asyncio.wait(late, timeout=SLOW_S)

    async def search_together(
        self, served: Served, kind: Kind, queries: Sequence[Query], deadline_s: float
    ) -> list[Merged]:
        """A batch of one kind, scanned at once when it is its turn. Errors as of `search`."""
        asked_s = time.perf_counter()
        async with self.turn(deadline_s):
            queue_s = time.perf_counter() - asked_s
            telemetry.observe("xhash_queries_per_scan", len(queries))
            calls = self.calls("search", deadline_s, served.generation.number, kind, queries)
            parts = await parts_of(calls, deadline_s)
        return [self.merged(parts, place, kind, query, served, queue_s) for place, query in enumerate(queries)]

    @contextlib.asynccontextmanager
    async def turn(self, deadline_s: float) -> AsyncIterator[None]:
        """A batch's turn.

        Raises:
            Overloaded: when too many wait, or the deadline passes before.
        """
        if self.batches_waiting >= BATCHES_WAITING:
            raise Overloaded("a batch", f"{self.batches_waiting} others wait", "Ask again in a second")
        self.batches_waiting += 1
        self.batches_waited = max(self.batches_waited, self.batches_waiting)
        try:
            await asyncio.wait_for(self.turns.acquire(), max(0.0, deadline_s - time.monotonic()))
        except TimeoutError:
            raise Overloaded("a batch", "its time was over before its turn", "Ask again") from None
        finally:
            self.batches_waiting -= 1
        try:
            yield
        finally:
            self.turns.release()

    def calls(self, method: str, deadline_s: float, *arguments: Any) -> list[asyncio.Task[Any]]:
        """All groups being asked; whoever leaves before they answer leaves nothing behind."""
        made = [
            asyncio.ensure_future(self.ask_group(number, method, deadline_s, *arguments))
            for number in range(len(self.backends))
        ]
        for call in made:
            call.add_done_callback(lambda call: call.cancelled() or call.exception())
        return made

    async def ask_group(self, number: int, method: str, deadline_s: float, *arguments: Any) -> Any:
        """One group's answer; one that nobody answered for lately is not waited for long.

        Raises:
            Lost: when nobody answers. XhashError: as the method does.
        """
        if number in self.lost:
            deadline_s = min(deadline_s, time.monotonic() + LOST_PATIENCE_S)
        try:
            answer = await self.backends[number].call(method, deadline_s, *arguments)
        except Lost:
            self.lost.add(number)
            raise
        except Unloaded as error:
            raise Lost(str(error)) from None
        self.lost.discard(number)
        return answer

    def merged(
        self, found: Sequence[Any], place: int, kind: Kind, query: Query, served: Served, queue_s: float
    ) -> Merged:
        """One query's answer out of those of the groups."""
        lost = [number for number, part in enumerate(found) if isinstance(part, Lost)]
        scanned: list[Scanned] = [part for part in found if not isinstance(part, Lost)]
        answer = merge_answers([part.answers[place] for part in scanned], kind.k)
        spent = Spent(queue_s, *max(((each.scan_s, each.fetch_s) for each in scanned), key=sum, default=(0.0, 0.0)))
        kth = answer.hits[-1][0] if answer.hits else None
        if kind.rescore:
            answer = rescored(answer, kind.keep or kind.k)
        if not lost:
            return Merged(answer, kth, [], len(answer.hits), served, spent)
        code = np.frombuffer(query.code, np.uint8)
        bounds = [least_distance(served.summaries[number][kind.target], code) for number in lost]
        dealt = shards_of_groups(served.generation.shards, len(self.backends))
        missing = [shard for number in lost for shard in dealt[number]]
        # Distances bound what is missing, scores do not.
        sure = 0 if kind.rescore else certain([distance for distance, _ in answer.hits], bounds)
        return Merged(answer, kth, missing, sure, served, spent)

    async def probe(self, served: Served) -> list[bool]:
        """Which groups answer, asked for a pair that nobody has: also where no search comes to find that out."""
        number, deadline_s = served.generation.number, time.monotonic() + PROBE_S
        asked = [backend.call("item", deadline_s, number, "") for backend in self.backends]
        found = await asyncio.gather(*(asyncio.wait_for(each, PROBE_S) for each in asked), return_exceptions=True)
        answering = [not isinstance(each, BaseException) for each in found]
        self.lost.difference_update(number for number, answers in enumerate(answering) if answers)
        return answering

    def waited(self) -> int:
        """How many searches and batches have waited at once since this was asked last."""
        batches, self.batches_waited = self.batches_waited, self.batches_waiting
        return self.coalescer.waited() + batches

    async def item(self, served: Served, identity: str, deadline_s: float) -> dict[str, Any]:
        """A stored pair.

        Raises:
            BadInput: for an id that no shard holds.
            Overloaded: when the shard that might hold it does not answer.
        """
        found: dict[str, Any] = await self.found("item", served, identity, deadline_s)
        return found

    async def feature(self, served: Served, identity: str, modality: str, deadline_s: float) -> bytes:
        """float32 [d], the stored feature of a pair. Errors as of `item`; BadInput when the index has no features."""
        return bytes(await self.found("feature", served, identity, deadline_s, modality))

    async def found(self, method: str, served: Served, identity: str, deadline_s: float, *more: Any) -> Any:
        """What the one group says that holds a pair, as soon as it does: the others have nothing to add."""
        number, asked, lost = served.generation.number, f"the pair '{identity[:200]}'", False
        for call in asyncio.as_completed(self.calls(method, deadline_s, number, identity, *more)):
            try:
                part = await call
            except Lost:
                lost = True
            else:
                if part is not None:
                    return part
        if lost:
            raise Overloaded(asked, "a group of shards does not answer", "Ask again")
        raise BadInput(asked, "not in this index", "Check the id")


async def parts_of(calls: Sequence[asyncio.Task[Any]], deadline_s: float) -> list[Any]:
    """What every group answers, Lost for those that do not by a deadline.

    Raises:
        XhashError: what is wrong with the queries, as the groups say.
    """
    _, late = await asyncio.wait(calls, timeout=max(0.0, deadline_s - time.monotonic()))
    parts = [Lost("it is late") if call in late else call.exception() or call.result() for call in calls]
    for part in parts:
        if isinstance(part, BaseException) and not isinstance(part, Lost):
            raise part
    return parts


def unready(number: int, error: BaseException) -> XhashError:
    """The error for a group that does not answer."""
    found = f"a group of shards does not answer ({str(error)[:200] or type(error).__name__})"
    return Overloaded(f"generation {number}", found, "See the logs of the shards, and ask again")
