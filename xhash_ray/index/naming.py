"""Which of the codes that were found come first: ids break the ties, wherever they lie.

Three ways to the same list: `together`, plain; `merged`, compiled, for ids that are in memory; `sparingly`, for ids so
many that they stay on disk, of which only the winners' and few others are read.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from xhash_ray.core.parts import Candidates, contenders
from xhash_ray.core.scanning import ABSENT
from xhash_ray.core.topk import Hits
from xhash_ray.index.ids import StoredIds

MANY_ID_BYTES = 2**30


class Found(NamedTuple):
    """One query's answer.

    Attributes:
        hits: (distance, id), in their order.
        rows: Of each, counted through all segments.
    """

    hits: list[tuple[int, str]]
    rows: list[int]


class Naming:
    """The ids of some segments.

    Args:
        ids: Of each.
    """

    def __init__(self, ids: Sequence[StoredIds]) -> None:
        self.ids = ids
        self.starts = np.cumsum([0, *(len(each) for each in ids)])
        self.addresses = np.array([each.addresses for each in ids], np.int64)

    @property
    def are_many(self) -> bool:
        """Whether ids are so many that memory cannot be expected to hold them all."""
        return sum(each.size_bytes for each in self.ids) > MANY_ID_BYTES

    def merged(self, found: Sequence[Hits], k: int) -> list[Found]:
        """The first k hits of every query by (distance, id), compiled: only the winners' ids are made strings."""
        from xhash_ray.core.naming import merging  # the compiler is loaded only when it pays

        queries, width = len(found[0].distances), max(hits.distances.shape[1] for hits in found)
        distances, rows = np.full((2, len(found), queries, width), ABSENT, np.int64)
        for part, hits in enumerate(found):
            distances[part, :, : hits.distances.shape[1]] = hits.distances
            rows[part, :, : hits.rows.shape[1]] = hits.rows
        best = np.full((3, queries, min(k, width * len(found))), -1, np.int64)
        counts = np.zeros(queries, np.int64)
        merging()(self.addresses, distances, rows, *best, counts)
        names = self.names_of(best[1], best[2])
        numbers = self.starts[best[1]] + best[2]
        every = zip(best[0].tolist(), names.tolist(), numbers.tolist(), counts.tolist(), strict=True)
        return [Found(list(zip(d[:count], n[:count], strict=True)), r[:count]) for d, n, r, count in every]

    def together(self, found: Sequence[Candidates], k: int) -> list[Found]:
        """The first k candidates of every query by (distance, id); ids of all queries are read at once."""
        left = [contenders(each, k) for each in found]
        parts, rows = (np.concatenate([each[field] for each in left]) for field in (1, 2))
        names, numbers = self.names_of(parts, rows).tolist(), (self.starts[parts] + rows).tolist()
        answers, first = [], 0
        for each in left:
            last = first + len(each.rows)
            whole = sorted(zip(each.distances.tolist(), names[first:last], numbers[first:last], strict=True))[:k]
            answers.append(answer(whole))
            first = last
        return answers

    def names_of(self, parts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """object, in the shape of parts: the id of every row, None where a part is below 0."""
        names = np.empty(parts.shape, dtype=object)
        for part in np.unique(parts[parts >= 0]).tolist():
            there = parts == part
            names[there] = self.ids[part].of(rows[there])
        return names

    def sparingly(self, found: Sequence[Candidates], k: int) -> list[Found]:
        """The first k candidates of every query by (distance, id): ids are read for those and few others.

        All that are nearer than the last distance are in; of those at it, which ascend by id in every segment, the
        first.
        """
        self.ask_for(found, k)
        answers = []
        for each in found:
            last = each.distances.max(initial=0)
            nearer = int((each.distances < last).sum())
            sure = sorted(self.entries(each, np.arange(nearer)))
            tied = [np.flatnonzero((each.distances == last) & (each.parts == part)) for part in np.unique(each.parts)]
            ordered = heapq.merge(*(self.one_by_one(each, places) for places in tied))
            answers.append(answer([*sure, *itertools.islice(ordered, k - nearer)]))
        return answers

    def ask_for(self, found: Sequence[Candidates], k: int) -> None:
        """Has the ids read that will be wanted, of all queries side by side: winners, and some of those tied."""
        wanted: list[list[np.ndarray]] = [[] for _ in self.ids]
        for each in found:
            nearer = each.distances < each.distances.max(initial=0)
            tied_wanted = 1 + 2 * (k - int(nearer.sum())) // max(1, len(self.ids))
            for part in np.unique(each.parts):
                mine = each.parts == part
                wanted[part] += [each.rows[mine & nearer], each.rows[mine & ~nearer][:tied_wanted]]
        rows = [np.concatenate(each) if each else None for each in wanted]
        for ask in (StoredIds.ask_for_starts, StoredIds.ask_for_names):
            for ids, mine in zip(self.ids, rows, strict=True):
                if mine is not None:
                    ask(ids, mine)

    def entries(self, found: Candidates, places: np.ndarray) -> list[tuple[int, str, int]]:
        """(distance, id, row) of some candidates."""
        parts, rows = found.parts[places], found.rows[places]
        names, numbers = self.names_of(parts, rows).tolist(), (self.starts[parts] + rows).tolist()
        return list(zip(found.distances[places].tolist(), names, numbers, strict=True))

    def one_by_one(self, found: Candidates, places: np.ndarray) -> Iterator[tuple[int, str, int]]:
        """Some candidates, whose ids are read only as far as somebody asks."""
        for place in places:
            yield from self.entries(found, place[None])


def answer(entries: Sequence[tuple[int, str, int]]) -> Found:
    """What was found, from (distance, id, row) in order."""
    return Found([entry[:2] for entry in entries], [entry[2] for entry in entries])
