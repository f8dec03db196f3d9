"""Shards that one process holds, of one generation, searched as one: a hop and a scan for all of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from xhash_ray.core.hamming import count_below
from xhash_ray.core.shards import even_split
from xhash_ray.index.generations import Generation, read
from xhash_ray.index.segments import MODALITIES
from xhash_ray.index.shard import Hit, load_shards
from xhash_ray.progress import Progress
from xhash_ray.serving.certificates import Summary, summarise
from xhash_ray.serving.filters import parse_filter, rows_passing
from xhash_ray.serving.kept import Kept

KEPT_FILTERS = 32
KEPT_GENERATIONS = 2


class Kind(NamedTuple):
    """What queries must have in common to share a scan.

    Attributes:
        target: "image" or "text".
        k: Hits wanted, at least 1.
        filter: See `filters`; None for all rows.
        ties: Whether codes at the k-th distance are counted.
        metadata: Whether hits come with their metadata.
    """

    target: str
    k: int
    filter: str | None = None
    ties: bool = False
    metadata: bool = True


class Answer(NamedTuple):
    """A group's answer to one query, by (distance, id).

    Attributes:
        hits: (distance, id).
        metadata: Of each hit; empty where it was not asked for.
        at_kth: How many codes lie at the last hit's distance; None where nobody asked.
    """

    hits: list[tuple[int, str]]
    metadata: list[dict[str, Any]]
    at_kth: int | None


class Group:
    """Some shards of a generation in memory.

    Args:
        generation: Of the index.
        numbers: Of the shards.
        threads: Cores of a search; all by default.

    Raises:
        BadInput: when a file is missing.
        Mismatch: when one is not what the generation says.
    """

    def __init__(self, generation: Generation, numbers: Sequence[int], threads: int | None = None) -> None:
        self.bits, self.numbers, self.threads = generation.bits, tuple(numbers), threads
        progress = Progress(f"shards {', '.join(map(str, numbers))}")
        self.shard = load_shards(generation, numbers, progress=progress)
        self.filters: Kept[str, list[np.ndarray]] = Kept(KEPT_FILTERS)

    @property
    def schema(self) -> pa.Schema:
        """Of the metadata, the id among it."""
        return self.shard.segments[0].table.schema if self.shard.segments else pa.schema([("id", pa.string())])

    def search(self, kind: Kind, codes: Sequence[bytes]) -> list[Answer]:
        """Answers queries of one kind.

        Raises:
            BadInput: for a filter that is none, or an unknown target.
        """
        queries = np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), self.bits // 8)
        masks = self.masks(kind.filter)
        found = self.shard.search(queries, kind.target, kind.k, self.threads, masks)
        counts: Sequence[int | None] = [None] * len(found)
        if kind.ties:
            counts = self.ties(queries, kind.target, found, masks)
        return [self.answer(hits, count, kind.metadata) for hits, count in zip(found, counts, strict=True)]

    def answer(self, hits: list[Hit], at_kth: int | None, metadata: bool) -> Answer:
        """Hits with what belongs to them."""
        rows = self.shard.rows([hit.row for hit in hits]) if metadata else []
        return Answer([(hit.distance, hit.id) for hit in hits], rows, at_kth)

    def ties(
        self, queries: np.ndarray, target: str, found: list[list[Hit]], masks: Sequence[np.ndarray | None]
    ) -> list[int]:
        """How many codes lie at each answer's last distance."""
        kth = np.array([hits[-1].distance if hits else -1 for hits in found], dtype=np.int64)
        total = np.zeros(len(found), dtype=np.int64)
        for segment, mask in zip(self.shard.segments, masks, strict=True):
            codes = segment.codes[target]
            at_most, below = (count_below(codes, queries, each, self.threads, mask) for each in (kth + 1, kth))
            total += at_most - below
        counts: list[int] = total.tolist()
        return counts

    def masks(self, text: str | None) -> list[np.ndarray | None]:
        """Which rows count, per segment; filters asked for lately are kept."""
        live = [segment.live for segment in self.shard.segments]
        if text is None or not live:
            return live
        passing = self.filters.get(text, lambda: self.passing(text))
        return [mask if alive is None else mask & alive for mask, alive in zip(passing, live, strict=True)]

    def passing(self, text: str) -> list[np.ndarray]:
        """bool [rows] of every segment: for which rows a filter holds."""
        expression = parse_filter(text, self.schema)
        return [rows_passing(segment.table, expression) for segment in self.shard.segments]

    def item(self, identity: str) -> dict[str, Any] | None:
        """Codes in hexadecimal and metadata of a pair; None when it is not here."""
        row = self.shard.find(identity)
        if row is None:
            return None
        codes = {f"{each}_code": self.shard.code(row, each).tobytes().hex() for each in MODALITIES}
        return {"id": identity, **codes, "metadata": self.shard.rows([row])[0]}

    @functools.cached_property
    def summaries(self) -> dict[str, Summary]:
        """Where the codes of each modality lie, for certificates."""
        segments = self.shard.segments
        return {each: summarise([segment.codes[each] for segment in segments], self.bits) for each in MODALITIES}


class Holder:
    """The generations of a group of shards that are in memory: the one that is served, and the next or the last.

    Args:
        uri: The index's folder.
        part: Which group this is.
        parts: How many there are; the shards of a generation are dealt evenly among them.
        threads: Cores of a search; all by default.
    """

    def __init__(self, uri: str, part: int = 0, parts: int = 1, threads: int | None = None) -> None:
        self.uri, self.part, self.parts, self.threads = uri, part, parts, threads
        self.groups: Kept[int, Group] = Kept(KEPT_GENERATIONS)

    def group(self, generation: int) -> Group:
        """The group in a generation, loaded where it is not there.

        Raises:
            BadInput: for a generation that does not exist, or lacks a file.
            Mismatch: for one whose files are not what it says.
        """
        return self.groups.get(generation, lambda: self.loaded(read(self.uri, generation)))

    def loaded(self, generation: Generation) -> Group:
        """The group in a generation, read from storage."""
        return Group(generation, shards_of_groups(generation.shards, self.parts)[self.part], self.threads)


def shards_of_groups(shards: int, groups: int) -> list[list[int]]:
    """Numbers of the shards of each group; the last ones have none where there are more groups than shards."""
    return [list(range(*ends)) for ends in even_split(shards, groups)]


def merge_answers(parts: Sequence[Answer], k: int) -> Answer:
    """One query's answer over several groups, by (distance, id)."""
    whole = sorted((hit, place, number) for number, part in enumerate(parts) for place, hit in enumerate(part.hits))[:k]
    hits = [hit for hit, _, _ in whole]
    metadata = [parts[number].metadata[place] for _, place, number in whole if parts[number].metadata]
    if any(part.at_kth is None for part in parts) or not hits:
        return Answer(hits, metadata, None)
    return Answer(hits, metadata, sum(count_at(part, hits[-1][0]) for part in parts))


def count_at(part: Answer, kth: int) -> int:
    """How many of a group's codes lie at the k-th distance of all: its last is counted, what is nearer is listed."""
    if part.hits and part.hits[-1][0] == kth:
        return part.at_kth or 0
    return sum(distance == kth for distance, _ in part.hits)
