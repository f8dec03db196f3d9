"""From one query to one answer: groups asked at once, merged, and what is missing said.

A router serves one generation at a time. `activate` has every group load the next one, then flips: queries carry their
generation, so those under way end in the old one and none mixes both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xhash_ray.errors import BadInput, Overloaded, XhashError
from xhash_ray.index.generations import Generation, current, read
from xhash_ray.serving.backends import Backend, Lost
from xhash_ray.serving.certificates import Summary, certain, least_distance
from xhash_ray.serving.coalescing import Coalescer
from xhash_ray.serving.groups import Answer, Kind, merge_answers, shards_of_groups

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
        answer: Their hits, merged.
        missing: Numbers of the shards that nobody answered for.
        certain: So many first hits are those of the complete answer.
        served: What was searched.
    """

    answer: Answer
    missing: list[int]
    certain: int
    served: Served


class Router:
    """Asks all groups.

    Args:
        uri: The index's folder.
        backends: The groups of its shards.
        batch: Single queries that share a scan at most.
        waiting: Single queries that may wait.
    """

    def __init__(self, uri: str, backends: Sequence[Backend], batch: int = 64, waiting: int = 512) -> None:
        self.uri, self.backends = uri, list(backends)
        self.served: Served | None = None
        self.coalescer = Coalescer(self.search_kind, most=batch, bound=waiting)
        self.swapping = asyncio.Lock()

    async def chosen(self, number: int | None) -> Generation:
        """A generation of the index, the current one by default.

        Raises:
            BadInput: for one that does not exist.
        """
        if number is None:
            return await asyncio.to_thread(current, self.uri)
        return await asyncio.to_thread(read, self.uri, number)

    async def activate(self, chosen: Generation) -> Served:
        """Serves a generation as soon as all groups have it.

        Raises:
            XhashError: when a group cannot load it; then the old one stays.
        """
        async with self.swapping:
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
            self.served = Served(chosen, summaries)
            return self.served

    def ready(self) -> Served:
        """What is served.

        Raises:
            Overloaded: while nothing is.
        """
        if self.served is None:
            raise Overloaded("a search", "no generation is loaded yet", "Ask again when /readyz says so")
        return self.served

    async def search(self, served: Served, kind: Kind, code: bytes, deadline_s: float) -> Merged:
        """One query of what was served when it came, which shares a scan with others that wait.

        Raises:
            Overloaded: when too many wait, or the deadline passes before its turn.
            BadInput: for a filter that is none.
        """
        key = (served.generation.number, kind)
        merged: Merged = await self.coalescer.ask(key, (code, deadline_s, served), deadline_s)
        return merged

    async def search_together(
        self, served: Served, kind: Kind, codes: Sequence[bytes], deadline_s: float
    ) -> list[Merged]:
        """A batch of one kind, scanned at once."""
        return await self.search_kind((served.generation.number, kind), [(code, deadline_s, served) for code in codes])

    async def search_kind(self, key: Any, queries: Sequence[tuple[bytes, float, Served]]) -> list[Merged]:
        """Queries of one generation and kind, through all groups."""
        (number, kind), codes = key, [code for code, _, _ in queries]
        served, deadline_s = queries[0][2], max(deadline for _, deadline, _ in queries)
        calls = (backend.call("search", deadline_s, number, kind, codes) for backend in self.backends)
        found = await asyncio.gather(*calls, return_exceptions=True)
        for part in found:
            if isinstance(part, BaseException) and not isinstance(part, Lost):
                raise part
        return [self.merged(found, place, kind, code, served) for place, code in enumerate(codes)]

    def merged(self, found: Sequence[Any], place: int, kind: Kind, code: bytes, served: Served) -> Merged:
        """One query's answer out of those of the groups."""
        lost = [number for number, part in enumerate(found) if isinstance(part, Lost)]
        there = [part[place] for part in found if not isinstance(part, Lost)]
        answer = merge_answers(there, kind.k)
        query = np.frombuffer(code, np.uint8)
        bounds = [least_distance(served.summaries[number][kind.target], query) for number in lost]
        dealt = shards_of_groups(served.generation.shards, len(self.backends))
        missing = [shard for number in lost for shard in dealt[number]]
        return Merged(answer, missing, certain([distance for distance, _ in answer.hits], bounds), served)

    async def item(self, served: Served, identity: str, deadline_s: float) -> dict[str, Any]:
        """A stored pair.

        Raises:
            BadInput: for an id that no shard holds.
            Overloaded: when the shard that might hold it does not answer.
        """
        number = served.generation.number
        calls = (backend.call("item", deadline_s, number, identity) for backend in self.backends)
        found = await asyncio.gather(*calls, return_exceptions=True)
        for part in found:
            if isinstance(part, dict):
                return part
        for part in found:
            if isinstance(part, Lost):
                raise Overloaded(f"the pair '{identity[:200]}'", "a group of shards does not answer", "Ask again")
            if isinstance(part, BaseException):
                raise part
        raise BadInput(f"the pair '{identity[:200]}'", "not in this index", "Check the id")


def unready(number: int, error: BaseException) -> XhashError:
    """The error for a group that does not answer."""
    found = f"a group of shards does not answer ({str(error)[:200] or type(error).__name__})"
    return XhashError(f"generation {number}", found, "See the logs of the shards")
