"""One direction of an evaluation: counts of tied groups from codes or from float scores, and their measures summed."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from xhash_ray.evaluation.counting import count_pairs
from xhash_ray.evaluation.measures import every_measure
from xhash_ray.evaluation.protocol import Protocol, curve_places
from xhash_ray.evaluation.published import DEFINITIONS, ranked

MAX_QUERIES, MAX_COUNTERS = 512, 4_000_000  # counted at once: 64 MB of counters in all


@dataclass(frozen=True)
class Sides:
    """Queries and items of one direction.

    Attributes:
        kind: "codes" or "features".
        queries: uint8 [q, bits / 8] or float32 [q, d], in rows of length 1 where scores are taken.
        items: uint8 [n, bits / 8] or float32 [n, d].
        query_labels: uint64 [q, words].
        labels: uint64 [n, words].
        own: int64 [q], the item each query does not see, -1 for none; None for no query.
    """

    kind: str
    queries: np.ndarray
    items: np.ndarray
    query_labels: np.ndarray
    labels: np.ndarray
    own: np.ndarray | None = None

    def overlap(self, query: int) -> Int64[np.ndarray, " n"]:
        """Labels that each item has in common with a query."""
        return np.bitwise_count(self.labels & self.query_labels[query]).sum(axis=1, dtype=np.int64)

    @property
    def levels(self) -> int:
        """Overlaps that can occur, 0 included."""
        return 1 + int(np.bitwise_count(self.query_labels).sum(axis=1, dtype=np.int64).max(initial=1))


def sums_of(sides: Sides, protocol: Protocol, threads: int | None = None) -> dict[str, Any]:
    """Every measure summed over the queries, by name, and `queries`, their number.

    The cut-offs are the protocol's, then those of the curve. Of a definition also `NAME/counted`, the queries that it
    does not leave out.
    """
    cutoffs = [*protocol.cutoffs, *curve_places(len(sides.items))]
    sums: dict[str, Any] = {"queries": len(sides.queries)}
    if sides.kind == "features":
        sides = replace(sides, queries=unit_rows(sides.queries), items=unit_rows(sides.items))
        parts = counts_by_score(sides)
    else:
        parts = counts_by_distance(sides, sides.levels, threads)
    for counts in parts:
        for name, values in every_measure(counts, cutoffs, by_radius=sides.kind == "codes").items():
            sums[name] = sums.get(name, 0) + values.sum(axis=0)
    for query in range(len(sides.queries) if protocol.definitions else 0):
        along = overlaps_along_ranking(sides, query)
        for name in protocol.definitions:
            value = DEFINITIONS[name](along, protocol.k)[0]
            sums[name] = sums.get(name, 0) + np.nan_to_num(value)
            sums[f"{name}/counted"] = sums.get(f"{name}/counted", 0) + float(not np.isnan(value))
    return sums


def counts_by_distance(
    sides: Sides, levels: int, threads: int | None
) -> Iterator[Int64[np.ndarray, "q distances levels"]]:
    """Counts of some queries at a time, as many as keep the counters small; at least one part."""
    step = max(1, min(MAX_QUERIES, MAX_COUNTERS // ((sides.queries.shape[1] * 8 + 1) * levels)))
    for start in range(0, max(1, len(sides.queries)), step):
        part = slice(start, start + step)
        codes, labels = sides.queries[part], sides.query_labels[part]
        counts = count_pairs(codes, sides.items, labels, sides.labels, levels, threads)
        if sides.own is not None:
            drop_own(counts, codes, labels, sides, sides.own[part])
        yield counts


def drop_own(counts: np.ndarray, codes: np.ndarray, labels: np.ndarray, sides: Sides, own: np.ndarray) -> None:
    """Takes each query's own item out of its counts."""
    rows = np.flatnonzero(own >= 0)
    items = own[rows]
    distances = np.bitwise_count(codes[rows] ^ sides.items[items]).sum(axis=1, dtype=np.int64)
    overlaps = np.bitwise_count(labels[rows] & sides.labels[items]).sum(axis=1, dtype=np.int64)
    counts[rows, distances, np.minimum(overlaps, counts.shape[2] - 1)] -= 1


def counts_by_score(sides: Sides) -> Iterator[Int64[np.ndarray, "one groups levels"]]:
    """Counts of one query at a time, its items grouped by equal cosine, highest first; at least one part."""
    levels = sides.levels
    if not len(sides.queries):
        yield np.zeros((0, 1, levels), dtype=np.int64)
    for query, vector in enumerate(sides.queries):
        scores, overlap = seen_by(sides, query, -(sides.items @ vector), sides.overlap(query))
        _, groups = np.unique(scores, return_inverse=True)
        total = int(groups.max(initial=0)) + 1
        counted = np.bincount(groups * levels + overlap, minlength=total * levels)
        yield counted.reshape(1, total, levels).astype(np.int64)


def overlaps_along_ranking(sides: Sides, query: int) -> Int64[np.ndarray, "one n"]:
    """Labels in common along one query's ranking, ties by database row."""
    if sides.kind == "codes":
        scores = np.bitwise_count(sides.items ^ sides.queries[query]).sum(axis=1, dtype=np.uint16)
    else:
        scores = -(sides.items @ sides.queries[query])
    scores, overlap = seen_by(sides, query, scores, sides.overlap(query))
    return ranked(scores[None], overlap[None])


def seen_by(sides: Sides, query: int, scores: np.ndarray, overlap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and overlaps without the query's own item."""
    if sides.own is None or sides.own[query] < 0:
        return scores, overlap
    return np.delete(scores, sides.own[query]), np.delete(overlap, sides.own[query])


def unit_rows(features: np.ndarray) -> Float[np.ndarray, "n d"]:
    """float32 [n, d] with rows of length 1; zero rows stay zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, 1e-12), dtype=np.float32)
