"""What can be said of an answer from which shards are missing.

Distances obey the triangle inequality: if all codes of a shard lie between a and b bits from a pivot, and the query c
bits from it, no code of the shard is nearer to the query than max(a - c, c - b). With several pivots the best of these
bounds counts. Hits that are nearer than the bounds of all missing shards are certainly the first of the full answer.
(Chavez, Navarro, Baeza-Yates, Marroquin, Searching in metric spaces, ACM Computing Surveys 2001, section 4.1.)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from xhash_ray.core.hamming import search

PIVOTS = 16
SEED = 20


class Summary(NamedTuple):
    """Where the codes of a shard lie.

    Attributes:
        nearest: int64 [pivots], smallest distance of any code to each pivot; beyond any for a shard without codes.
        farthest: int64 [pivots], largest.
    """

    nearest: Int64[np.ndarray, " p"]
    farthest: Int64[np.ndarray, " p"]


@functools.cache
def pivots(bits: int) -> UInt8[np.ndarray, "p bytes"]:
    """The same for every shard and ever: all zeros (whose distances are counts of ones), then random codes."""
    drawn = np.random.default_rng(SEED).integers(0, 256, (PIVOTS, bits // 8), dtype=np.uint8)
    drawn[0] = 0
    return drawn


def summarise(codes: UInt8[np.ndarray, "n bytes"], bits: int) -> Summary:
    """Two scans: the code farthest from a pivot is the one nearest to its complement."""
    if not len(codes):
        return Summary(np.full(PIVOTS, 2 * bits), np.full(PIVOTS, -bits))
    asked = pivots(bits)
    return Summary(search(codes, asked, 1).distances[:, 0], bits - search(codes, ~asked, 1).distances[:, 0])


def joined(parts: Sequence[Summary], bits: int) -> Summary:
    """Of all codes of several parts."""
    nearest, farthest = np.full(PIVOTS, 2 * bits), np.full(PIVOTS, -bits)
    for part in parts:
        nearest, farthest = np.minimum(nearest, part.nearest), np.maximum(farthest, part.farthest)
    return Summary(nearest, farthest)


def least_distance(summary: Summary, query: UInt8[np.ndarray, " bytes"]) -> int:
    """No code of the shard is nearer to the query than this."""
    own = np.bitwise_count(pivots(len(query) * 8) ^ query).sum(axis=1, dtype=np.int64)
    return int(max(0, (summary.nearest - own).max(), (own - summary.farthest).max()))


def certain(distances: Sequence[int], bounds: Sequence[int]) -> int:
    """How many of the first hits are certainly those of the full answer: all, when nothing is missing.

    Args:
        distances: Of the hits, ascending.
        bounds: Least distance of every missing shard; a code at the bound might have the smaller id.
    """
    if not bounds:
        return len(distances)
    return int(np.searchsorted(np.asarray(distances), min(bounds), side="left"))
