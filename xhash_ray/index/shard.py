"""One shard: codes in memory, and the k nearest of them by (distance, id).

Rows of a segment are sorted by id, so the kernel's order (distance, row) is the order (distance, id) within it; answers
of segments, and of shards, are merged by (distance, id). Whatever the segments and shards, the list is the one that a
single scan of everything would give.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from xhash_ray.core.parts import are_few, search_each, search_parts
from xhash_ray.core.rescoring import asymmetric_scores, cosine_scores
from xhash_ray.core.topk import check_k
from xhash_ray.errors import BadInput
from xhash_ray.index.generations import Generation
from xhash_ray.index.naming import Found, Naming
from xhash_ray.index.segments import MODALITIES, Segment, SegmentFacts, live_mask, open_segment, read_deleted
from xhash_ray.progress import Progress
from xhash_ray.storage.codes import FEATURE_COLUMNS

LOADING_THREADS = 4


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

    @functools.cached_property
    def starts(self) -> list[int]:
        """The number of each segment's first row, and of one past the last."""
        return [0, *np.cumsum([segment.facts.rows for segment in self.segments]).tolist()]

    @functools.cached_property
    def naming(self) -> Naming:
        """Ids, by which ties are broken."""
        return Naming([segment.ids for segment in self.segments])

    def search(
        self,
        queries: np.ndarray,
        target: str,
        k: int,
        threads: int | None = None,
        masks: Sequence[np.ndarray | None] | None = None,
    ) -> list[list[Hit]]:
        """The answers of `nearest` as hits, by which shards are merged. Arguments and errors as of it."""
        found = self.nearest(queries, target, k, threads, masks)
        return [
            [Hit(distance, name, self.number, row) for (distance, name), row in zip(each.hits, each.rows, strict=True)]
            for each in found
        ]

    def nearest(
        self,
        queries: np.ndarray,
        target: str,
        k: int,
        threads: int | None = None,
        masks: Sequence[np.ndarray | None] | None = None,
    ) -> list[Found]:
        """The k nearest codes of a modality.

        Args:
            queries: uint8 [q, bits / 8].
            target: "image" or "text".
            k: At least 1.
            threads: Cores to use; all this process may use by default.
            masks: bool [rows] of every segment: rows that count, deleted ones not among them; by default all others.

        Raises:
            BadInput: for an unknown modality or k below 1.
        """
        if target not in MODALITIES:
            raise BadInput("searching", f"target '{target}'", "Ask for image or text")
        codes = [segment.codes[target] for segment in self.segments]
        shown = masks if masks is not None else [segment.live for segment in self.segments]
        if not self.naming.are_many and not are_few(codes, queries):
            return self.naming.merged(search_each(codes, queries, k, threads, shown), k)
        found = search_parts(codes, queries, k, threads=threads, masks=shown)
        return self.naming.sparingly(found, k) if self.naming.are_many else self.naming.together(found, k)

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Metadata of some rows."""
        places = [self.place(number) for number in numbers]
        found: list[dict[str, Any]] = [{} for _ in numbers]
        for segment in {segment for segment, _ in places}:
            mine = [place for place, (number, _) in enumerate(places) if number == segment]
            table = self.segments[segment].table
            kept = table.select([name for name in table.column_names if name not in {"id", *FEATURE_COLUMNS}])
            if kept.num_columns:
                taken = kept.take(pa.array([places[place][1] for place in mine], pa.int64())).to_pylist()
                for place, row in zip(mine, taken, strict=True):
                    found[place] = row
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

    def agreements(self, numbers: Sequence[int], target: str, outputs: np.ndarray) -> np.ndarray:
        """Asymmetric scores of some rows, float32 [rows], of a query's hash outputs [bits]; see core.rescoring."""
        codes = np.stack([self.code(number, target) for number in numbers])
        return asymmetric_scores(codes, np.arange(len(codes))[None], outputs[None])[0]

    def cosines(self, numbers: Sequence[int], target: str, query: np.ndarray) -> np.ndarray:
        """Cosines of some rows' stored features, float32 [rows], with a query's feature [d].

        Raises:
            BadInput: when the index has no features.
            Mismatch: when the query's is of another length.
        """
        features = self.features(numbers, target)
        return cosine_scores(features, np.arange(len(features))[None], query[None])[0]

    def features(self, numbers: Sequence[int], modality: str) -> np.ndarray:
        """float16 [n, d] of some rows, read from disk.

        Raises:
            BadInput: when the index has no features.
        """
        places = np.array([self.place(number) for number in numbers]).reshape(-1, 2)
        found: dict[int, np.ndarray] = {}
        for part in np.unique(places[:, 0]).tolist():
            table, mine = self.segments[part].table, np.flatnonzero(places[:, 0] == part)
            if f"{modality}_feature" not in table.column_names:
                do = "Build it of codes that `xhash encode --keep-features` made, or rescore by outputs"
                raise BadInput("rescoring by features", "the index has no features", do)
            taken = table[f"{modality}_feature"].take(pa.array(places[mine, 1])).combine_chunks()
            rows = taken.flatten().to_numpy(zero_copy_only=False).reshape(len(mine), -1)
            found |= dict(zip(mine.tolist(), rows, strict=True))
        return np.stack([found[place] for place in range(len(numbers))])


def load_shard(
    generation: Generation,
    number: int,
    modalities: Sequence[str] = MODALITIES,
    threads: int = LOADING_THREADS,
    progress: Progress | None = None,
) -> Shard:
    """Loads the segments of a shard, some at once.

    Args:
        generation: Of the index.
        number: Of the shard.
        modalities: Whose codes are loaded: one half of the memory serves one direction.
        threads: Segments read and checked at once.
        progress: Told of rows that are there.

    Raises:
        BadInput: when a file is missing.
        Mismatch: when one is not what the generation says.
    """
    return load_shards(generation, [number], modalities, threads, progress)


def load_shards(
    generation: Generation,
    numbers: Sequence[int],
    modalities: Sequence[str] = MODALITIES,
    threads: int = LOADING_THREADS,
    progress: Progress | None = None,
    held: Sequence[Segment] = (),
) -> Shard:
    """Loads several shards as one, which bears the first one's number. Arguments and errors as of `load_shard`.

    Args:
        held: Segments in memory already, of the same modalities: where the generation has them, they are not loaded.
    """
    mine = [facts for facts in generation.segments if facts.shard in numbers]
    deleted = {since: deleted_in(generation, since) for since in {facts.since for facts in mine}}
    known = {segment.facts.name: segment for segment in held}

    def load(facts: SegmentFacts) -> Segment:
        there = known.get(facts.name)
        if there is not None and there.facts == facts:
            return replace(there, live=live_mask(there.ids, deleted[facts.since]))
        return open_segment(generation.uri, facts, deleted[facts.since], modalities)

    opened = []
    with ThreadPoolExecutor(threads) as pool:
        for segment in pool.map(load, mine):
            opened.append(segment)
            if progress:
                progress.add(segment.facts.rows)
    shard = Shard(numbers[0] if numbers else 0, tuple(opened))
    for segment in shard.segments if not shard.naming.are_many else []:
        segment.ids.ask_for_all()
    return shard


def deleted_in(generation: Generation, since: int) -> pa.Array | None:
    """The ids that are dead in segments of a generation."""
    later = [facts for facts in generation.tombstones if facts.since > since]
    return pa.concat_arrays([read_deleted(generation.uri, facts) for facts in later]) if later else None


def merge_hits(parts: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """Merges shards' answers to one query into the first k by (distance, id)."""
    return sorted(hit for part in parts for hit in part)[: check_k(k)]
