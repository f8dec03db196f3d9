"""From one query to one answer: groups asked at once, merged, and what is missing said.

A router serves one generation at a time. `prepare` has every group load the next one, `flip` sends queries there: they
carry their generation, so those under way end in the old one and none mixes both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from xhash_ray.errors import BadInput, Overloaded, XhashError
from xhash_ray.index.generations import Generation, current, read
from xhash_ray.serving.answers import Answer, Kind, Query, merge_answers, rescored
from xhash_ray.serving.backends import Backend, Lost
from xhash_ray.serving.certificates import Summary, certain, least_distance
from xhash_ray.serving.coalescing import Coalescer
from xhash_ray.serving.groups import shards_of_groups

LOADING_S = 3600.0


class Served(NamedTuple):
    """What is served.

    Attributes:
        generation: Of the index.
        summaries: Of every group, by modality.
    """

    generation: Generation
    summaries: list[dict[str, Summary]]


class Merged(NamedTuple):
    """An answer of all groups that answered.

    Attributes:
        answer: Their hits, merged, and rescored where that was asked for.
        kth: The k-th distance, or that of the last candidate; None without hits.
        missing: Numbers of the shards that nobody answered for.
        certain: So many first hits are those of the complete answer.
        served: What was searched.
        scan_s: Time that all groups took.
    """

    answer: Answer
    kth: int | None
    missing: list[int]
    certain: int
    served: Served
    scan_s: float


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
        self.coalescer = Coalescer(self.search_kind, most=batch, bound=waiting)

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
        loaded = await asyncio.gather(
            *(backend.call("prepare", deadline_s, chosen.number) for backend in self.backends),
            return_exceptions=True,
        )
        summaries = []
        for answer in loaded:
            if isinstance(answer, BaseException):
                raise answer if isinstance(answer, XhashError) else unready(chosen.number, answer)
            summaries.append(answer)
        return Served(chosen, summaries)

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

        Raises:
            Overloaded: when too many wait, or the deadline passes before its turn.
            BadInput: for a filter that is none, or rescoring by what is not known.
        """
        key = (served.generation.number, kind)
        merged: Merged = await self.coalescer.ask(key, (query, deadline_s, served), deadline_s)
        return merged

    async def search_together(
        self, served: Served, kind: Kind, queries: Sequence[Query], deadline_s: float
    ) -> list[Merged]:
        """A batch of one kind, scanned at once."""
        asked = [(query, deadline_s, served) for query in queries]
        return await self.search_kind((served.generation.number, kind), asked)

    async def search_kind(self, key: Any, asked: Sequence[tuple[Query, float, Served]]) -> list[Merged]:
        """Queries of one generation and kind, through all groups."""
        (number, kind), queries = key, [query for query, _, _ in asked]
        served, deadline_s = asked[0][2], max(deadline for _, deadline, _ in asked)
        started_s = time.perf_counter()
        calls = (backend.call("search", deadline_s, number, kind, queries) for backend in self.backends)
        found = await asyncio.gather(*calls, return_exceptions=True)
        scan_s = time.perf_counter() - started_s
        for part in found:
            if isinstance(part, BaseException) and not isinstance(part, Lost):
                raise part
        return [self.merged(found, place, kind, query, served, scan_s) for place, query in enumerate(queries)]

    def merged(
        self, found: Sequence[Any], place: int, kind: Kind, query: Query, served: Served, scan_s: float
    ) -> Merged:
        """One query's answer out of those of the groups."""
        lost = [number for number, part in enumerate(found) if isinstance(part, Lost)]
        answer = merge_answers([part[place] for part in found if not isinstance(part, Lost)], kind.k)
        kth = answer.hits[-1][0] if answer.hits else None
        if kind.rescore:
            answer = rescored(answer, kind.keep or kind.k)
        if not lost:
            return Merged(answer, kth, [], len(answer.hits), served, scan_s)
        code = np.frombuffer(query.code, np.uint8)
        bounds = [least_distance(served.summaries[number][kind.target], code) for number in lost]
        dealt = shards_of_groups(served.generation.shards, len(self.backends))
        missing = [shard for number in lost for shard in dealt[number]]
        # Distances bound what is missing, scores do not.
        sure = 0 if kind.rescore else certain([distance for distance, _ in answer.hits], bounds)
        return Merged(answer, kth, missing, sure, served, scan_s)

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
        """What the one group says that holds a pair."""
        number, asked = served.generation.number, f"the pair '{identity[:200]}'"
        calls = (backend.call(method, deadline_s, number, identity, *more) for backend in self.backends)
        found = await asyncio.gather(*calls, return_exceptions=True)
        for part in found:
            if part is not None and not isinstance(part, BaseException):
                return part
        for part in found:
            if isinstance(part, Lost):
                raise Overloaded(asked, "a group of shards does not answer", "Ask again")
            if isinstance(part, BaseException):
                raise part
        raise BadInput(asked, "not in this index", "Check the id")

    async def schema(self, served: Served, deadline_s: float) -> pa.Schema:
        """Of the metadata, the id among it, as the groups have it that answer.

        Raises:
            Overloaded: when none does.
        """
        calls = (backend.call("schema", deadline_s, served.generation.number) for backend in self.backends)
        found = await asyncio.gather(*calls, return_exceptions=True)
        schemas = [each for each in found if isinstance(each, pa.Schema)]
        if not schemas:
            raise Overloaded("the columns of the index", "no group of shards answers", "Ask again")
        return pa.unify_schemas(schemas, promote_options="permissive")


def unready(number: int, error: BaseException) -> XhashError:
    """The error for a group that does not answer."""
    found = f"a group of shards does not answer ({str(error)[:200] or type(error).__name__})"
    return XhashError(f"generation {number}", found, "See the logs of the shards")
