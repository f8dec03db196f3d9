"""One shard: codes in memory, and the k nearest of them by (distance, id).

Rows of a segment are sorted by id, so the kernel's order (distance, row) is the order (distance, id) within it; answers
of segments, and of shards, are merged by (distance, id). Whatever the segments and shards, the list is the one that a
single scan of everything would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from xhash_ray.core.hamming import search
from xhash_ray.core.topk import check_k
from xhash_ray.errors import BadInput
from xhash_ray.index.generations import Generation
from xhash_ray.index.segments import MODALITIES, Segment, open_segment, read_deleted


class Hit(NamedTuple):
    """One answer: compares by (distance, id), so a sorted list of hits is an answer in its order."""

    distance: int
    id: str
    shard: int
    row: int


@dataclass(frozen=True)
class Shard:
    """A shard in memory.

    Attributes:
        number: Its position in the index.
        segments: Of it; a row number counts through them in order.
    """

    number: int
    segments: tuple[Segment, ...]

    @property
    def starts(self) -> list[int]:
        """The number of each segment's first row, and of one past the last."""
        return [0, *np.cumsum([segment.facts.rows for segment in self.segments]).tolist()]

    def search(self, queries: np.ndarray, target: str, k: int, threads: int | None = None) -> list[list[Hit]]:
        """The k nearest codes of a modality.

        Args:
            queries: uint8 [q, bits / 8].
            target: "image" or "text".
            k: At least 1.
            threads: Cores to use; all this process may use by default.

        Raises:
            BadInput: for an unknown modality or k below 1.
        """
        if target not in MODALITIES:
            raise BadInput("searching", f"target '{target}'", "Ask for image or text")
        parts = [self.in_segment(number, queries, target, check_k(k), threads) for number in range(len(self.segments))]
        return [merge_hits([part[query] for part in parts], k) for query in range(len(queries))]

    def in_segment(self, number: int, queries: np.ndarray, target: str, k: int, threads: int | None) -> list[list[Hit]]:
        """The k nearest of one segment."""
        segment, start = self.segments[number], self.starts[number]
        hits = search(segment.codes[target], queries, k, threads=threads, mask=segment.live)
        return [
            [
                Hit(int(distance), name, self.number, start + int(row))
                for distance, row, name in zip(distances, rows, segment.ids(rows), strict=True)
            ]
            for distances, rows in zip(hits.distances, hits.rows, strict=True)
        ]

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Metadata of some rows."""
        found: list[dict[str, Any]] = []
        for number in numbers:
            segment, row = self.place(number)
            kept = self.segments[segment].table.drop_columns(["id"])
            found += kept.take(pa.array([row], pa.int64())).to_pylist() if kept.num_columns else [{}]
        return found

    def place(self, number: int) -> tuple[int, int]:
        """The segment of a row, and its row there."""
        segment = int(np.searchsorted(self.starts, number, side="right")) - 1
        return segment, number - self.starts[segment]

    def find(self, identity: str) -> int | None:
        """The row of an id, None when the shard does not hold it."""
        for start, segment in zip(self.starts, self.segments, strict=False):
            row = segment.find(identity)
            if row is not None:
                return start + row
        return None

    def code(self, number: int, modality: str) -> np.ndarray:
        """uint8 [bits / 8] of one row."""
        segment, row = self.place(number)
        code: np.ndarray = self.segments[segment].codes[modality][row]
        return code


def load_shard(generation: Generation, number: int) -> Shard:
    """Loads the segments of a shard.

    Raises:
        BadInput: when a file is missing.
        Mismatch: when one is not what the generation says.
    """
    mine = [facts for facts in generation.segments if facts.shard == number]
    opened = [open_segment(generation.uri, facts, deleted_in(generation, facts.since)) for facts in mine]
    return Shard(number, tuple(opened))


def deleted_in(generation: Generation, since: int) -> pa.Array | None:
    """The ids that are dead in segments of a generation."""
    later = [facts for facts in generation.tombstones if facts.since > since]
    return pa.concat_arrays([read_deleted(generation.uri, facts) for facts in later]) if later else None


def merge_hits(parts: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """Merges shards' answers to one query into the first k by (distance, id)."""
    return sorted(hit for part in parts for hit in part)[: check_k(k)]
