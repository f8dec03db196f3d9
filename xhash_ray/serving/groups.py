"""Shards that one process holds, of one generation, searched as one: a hop and a scan for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from xhash_ray.core.hamming import count_below
from xhash_ray.core.shards import even_split
from xhash_ray.errors import BadInput
from xhash_ray.index.generations import Generation, read
from xhash_ray.index.naming import Found
from xhash_ray.index.segments import MODALITIES, Segment
from xhash_ray.index.shard import Shard, load_shards
from xhash_ray.progress import Progress
from xhash_ray.serving.answers import Answer, Kind, Query, Scanned
from xhash_ray.serving.certificates import Summary, joined, summarise
from xhash_ray.serving.filters import parse_filter, rows_passing
from xhash_ray.serving.kept import Kept

KEPT_FILTERS = 8  # a byte per row each
KEPT_GENERATIONS = 2


class Group:
    """Some shards of a generation in memory.

    Args:
        generation: Of the index.
        numbers: Of the shards.
        threads: Cores of a search; all by default.
        before: Another generation's group: segments that both have are loaded once.

    Raises:
        BadInput: when a file is missing.
        Mismatch: when one is not what the generation says.
    """

    def __init__(
        self, generation: Generation, numbers: Sequence[int], threads: int | None = None, before: Group | None = None
    ) -> None:
        self.bits, self.numbers, self.threads = generation.bits, tuple(numbers), threads
        progress = Progress(f"shards {', '.join(map(str, numbers))}")
        held = before.shard.segments if before else ()
        self.shard: Shard = load_shards(generation, numbers, progress=progress, held=held)
        self.filters: Kept[tuple[str, bytes | None], list[np.ndarray]] = Kept(KEPT_FILTERS)
        known = before.summary_of if before else {}
        self.summary_of: dict[str, dict[str, Summary]] = {
            each.facts.name: known.get(each.facts.name) or summaries(each, self.bits) for each in self.shard.segments
        }

    @property
    def schema(self) -> pa.Schema:
        """Of the metadata of all segments, the id and features among it."""
        schemas = [segment.table.schema for segment in self.shard.segments]
        return pa.unify_schemas([pa.schema([("id", pa.string())]), *schemas], promote_options="permissive")

    @property
    def rows(self) -> int:
        """Rows of all segments, deleted ones among them: so many codes a scan looks at."""
        return sum(segment.facts.rows for segment in self.shard.segments)

    @property
    def pairs(self) -> int:
        """Rows that can be found."""
        return sum(
            segment.facts.rows if segment.live is None else int(segment.live.sum()) for segment in self.shard.segments
        )

    def search(self, kind: Kind, queries: Sequence[Query]) -> Scanned:
        """Answers queries of one kind, and says how long that took.

        Raises:
            BadInput: for a filter that is none, an unknown target, or rescoring by what the index or a query lacks.
        """
        started_s = time.perf_counter()
        codes = np.frombuffer(b"".join(query.code for query in queries), np.uint8).reshape(len(queries), -1)
        masks = self.masks(kind.filter, kind.columns)
        found = self.shard.nearest(codes, kind.target, kind.k, self.threads, masks)
        counts: Sequence[int | None] = [None] * len(found)
        if kind.ties:
            counts = self.ties(codes, kind.target, found, masks)
        scores = [
            self.scores(kind, query, each.rows) if kind.rescore and each.rows else []
            for query, each in zip(queries, found, strict=True)
        ]
        scanned_s = time.perf_counter()
        metadata = [self.shard.rows(each.rows) for each in found] if kind.metadata else [[] for _ in found]
        fetch_s = time.perf_counter() - scanned_s if kind.metadata else 0.0
        parts = zip([each.hits for each in found], metadata, counts, scores, strict=True)
        return Scanned([Answer(*each) for each in parts], scanned_s - started_s, fetch_s)

    def scores(self, kind: Kind, query: Query, numbers: Sequence[int]) -> list[float]:
        """How near some rows are to a query by what is finer than distance; see core.rescoring."""
        by_features = kind.rescore == "features"
        known = query.feature if by_features else query.outputs
        if known is None:
            do = "Ask by text, image or vector, or without rescore"
            raise BadInput(f"rescoring by {kind.rescore}", "of this query only its code is known", do)
        scored = self.shard.cosines if by_features else self.shard.agreements
        scores: list[float] = scored(numbers, kind.target, np.frombuffer(known, np.float32)).tolist()
        return scores

    def ties(
        self, queries: np.ndarray, target: str, found: list[Found], masks: Sequence[np.ndarray | None]
    ) -> list[int]:
        """How many codes lie at each answer's last distance."""
        kth = np.array([each.hits[-1][0] if each.hits else -1 for each in found], dtype=np.int64)
        total = np.zeros(len(found), dtype=np.int64)
        for segment, mask in zip(self.shard.segments, masks, strict=True):
            codes = segment.codes[target]
            at_most, below = (count_below(codes, queries, each, self.threads, mask) for each in (kth + 1, kth))
            total += at_most - below
        counts: list[int] = total.tolist()
        return counts

    def masks(self, text: str | None, columns: bytes | None = None) -> list[np.ndarray | None]:
        """Which rows count, per segment; filters asked for lately are kept."""
        live = [segment.live for segment in self.shard.segments]
        if text is None or not live:
            return live
        passing = self.filters.get((text, columns), lambda: self.passing(text, columns))
        return [mask if alive is None else mask & alive for mask, alive in zip(passing, live, strict=True)]

    def passing(self, text: str, columns: bytes | None) -> list[np.ndarray]:
        """bool [rows] of every segment: for which rows a filter holds."""
        schema = self.schema if columns is None else pa.ipc.read_schema(pa.py_buffer(columns))
        expression = parse_filter(text, schema)
        return [rows_passing(with_columns(segment.table, schema), expression) for segment in self.shard.segments]

    def item(self, identity: str) -> dict[str, Any] | None:
        """Codes in hexadecimal and metadata of a pair; None when it is not here."""
        row = self.shard.find(identity)
        if row is None:
            return None
        codes = {f"{each}_code": self.shard.code(row, each).tobytes().hex() for each in MODALITIES}
        return {"id": identity, **codes, "metadata": self.shard.rows([row])[0]}

    def feature(self, identity: str, modality: str) -> bytes | None:
        """float32 [d], the stored feature of a pair; None where the pair is not here.

        Raises:
            BadInput: when the index has no features.
        """
        row = self.shard.find(identity)
        return None if row is None else self.shard.features([row], modality)[0].astype(np.float32).tobytes()

    @property
    def summaries(self) -> dict[str, Summary]:
        """Where the codes of each modality lie, for certificates; deleted ones count as well."""
        return {each: joined([known[each] for known in self.summary_of.values()], self.bits) for each in MODALITIES}


def with_columns(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A segment's rows with the columns of all segments, in the types that join them; what it lacks is missing."""
    if table.schema == schema:
        return table
    given = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(given, schema=schema)


def summaries(segment: Segment, bits: int) -> dict[str, Summary]:
    """Where a segment's codes lie, by modality."""
    return {each: summarise(segment.codes[each], bits) for each in MODALITIES}


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
        """The group in a generation: of its segments those are read from storage that no group here has yet."""
        before = self.groups.last()
        return Group(generation, shards_of_groups(generation.shards, self.parts)[self.part], self.threads, before)


def shards_of_groups(shards: int, groups: int) -> list[list[int]]:
    """Numbers of the shards of each group; the last ones have none where there are more groups than shards."""
    return [list(range(*ends)) for ends in even_split(shards, groups)]
