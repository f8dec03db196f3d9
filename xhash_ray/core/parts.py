"""Codes that lie in several arrays, searched as one; between the arrays ties are the caller's to break.

Rows of one array are in the order that breaks ties (ids ascend in a segment), but no order holds between arrays. So
the answer is every code that can be among the k nearest, whatever that order is: all that are nearer than the k-th
distance, and of those at it the first k of each array.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from xhash_ray.core import hamming, scanning
from xhash_ray.core.topk import Hits, check_k


class Candidates(NamedTuple):
    """Of one query, ordered by (distance, part, row).

    Attributes:
        distances: int64 [c].
        parts: int64 [c], which array.
        rows: int64 [c], within it.
    """

    distances: Int64[np.ndarray, " c"]
    parts: Int64[np.ndarray, " c"]
    rows: Int64[np.ndarray, " c"]


def search_parts(
    parts: Sequence[UInt8[np.ndarray, "_ _"]],
    queries: UInt8[np.ndarray, "q bytes"],
    k: int,
    *,
    threads: int | None = None,
    masks: Sequence[Bool[np.ndarray, " _"] | None] | None = None,
) -> list[Candidates]:
    """Whatever can be among the k nearest of all parts, for each query; at least k where there are so many.

    A part is scanned for what can beat the parts before it, and threads share all of them: many small parts cost little
    more than one large one.

    Args:
        parts: uint8 [n, bits / 8] each.
        queries: uint8 [q, bits / 8].
        k: At least 1.
        threads: Cores to use; all this process may use by default.
        masks: bool [n] of each part, True for the codes that count; all by default.

    Raises:
        as `hamming.search`.
    """
    found = search_each(parts, queries, k, threads, masks)
    return [best_of(found, query, k) for query in range(len(queries))]


def search_each(
    parts: Sequence[UInt8[np.ndarray, "_ _"]],
    queries: UInt8[np.ndarray, "q bytes"],
    k: int,
    threads: int | None = None,
    masks: Sequence[Bool[np.ndarray, " _"] | None] | None = None,
) -> list[Hits]:
    """Of every part what can be among the k nearest of all: at most k hits by (distance, row), then ABSENT.

    Arguments and errors as of `search_parts`.
    """
    check_k(k)
    used = scanning.check_threads(threads)
    for codes in parts:
        hamming.check_codes(codes, queries)
    given = masks or [None] * len(parts)
    shown = [hamming.check_mask(mask, len(codes)) for codes, mask in zip(parts, given, strict=True)]
    if are_few(parts, queries):
        return [hamming.search(codes, queries, k, mask=mask) for codes, mask in zip(parts, given, strict=True)]
    return scanning.nearest(parts, queries, k, used, shown)


def are_few(parts: Sequence[UInt8[np.ndarray, "_ _"]], queries: UInt8[np.ndarray, "q bytes"]) -> bool:
    """Whether loading the compiler costs more than it saves."""
    return sum(map(len, parts)) * len(queries) < max(1, hamming.FEW_PAIRS)


def search_parts_reference(
    parts: Sequence[UInt8[np.ndarray, "_ _"]],
    queries: UInt8[np.ndarray, "q bytes"],
    k: int,
    *,
    masks: Sequence[Bool[np.ndarray, " _"] | None] | None = None,
) -> list[Candidates]:
    """The k nearest of every part by the definition, without those that k others beat. The oracle."""
    given = masks or [None] * len(parts)
    found = [hamming.search_reference(codes, queries, k, mask=mask) for codes, mask in zip(parts, given, strict=True)]
    return [best_of(found, query, k) for query in range(len(queries))]


def best_of(found: Sequence[Hits], query: int, k: int) -> Candidates:
    """One query's hits in all parts up to the k-th distance, without absent ones."""
    distances = np.concatenate([np.zeros(0, np.int64), *(hits.distances[query] for hits in found)])
    rows = np.concatenate([np.zeros(0, np.int64), *(hits.rows[query] for hits in found)])
    numbers = np.repeat(np.arange(len(found)), [hits.distances.shape[1] for hits in found])
    kth = np.partition(distances, k - 1)[k - 1] if len(distances) > k else scanning.ABSENT
    kept = np.flatnonzero((distances <= kth) & (distances < scanning.ABSENT))
    order = kept[np.lexsort((rows[kept], numbers[kept], distances[kept]))]
    return Candidates(distances[order], numbers[order], rows[order])


def contenders(found: Candidates, k: int) -> Candidates:
    """Those that can still be among the first k when a part's rows are in the order that breaks ties.

    All that are nearer than the last distance, and of each part as many of those at it as there are places left.
    """
    nearer = int(np.searchsorted(found.distances, found.distances.max(initial=0)))
    tied_parts = found.parts[nearer:]  # ascending
    rank = np.arange(len(tied_parts)) - np.searchsorted(tied_parts, tied_parts)
    kept = np.concatenate([np.arange(nearer), nearer + np.flatnonzero(rank < k - nearer)])
    return Candidates(*(each[kept] for each in found))
