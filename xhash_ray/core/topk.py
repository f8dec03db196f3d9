"""The k nearest as a value that merges.

The order is total: by distance, then by row (or id), so an answer never depends on who computed which part
of it. `merge` is associative and commutative: any partition of the codes, merged in any order, gives the
list that one scan gives.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from xhash_ray.errors import BadInput


class Hits(NamedTuple):
    """The nearest codes of each query, nearest first, ties by ascending row.

    Attributes:
        distances: int64 [q, k'], Hamming distances in bits.
        rows: int64 [q, k'], positions in the code array, k' = min(k, codes searched).
    """

    distances: Int64[np.ndarray, "q k"]
    rows: Int64[np.ndarray, "q k"]


def check_k(k: int) -> int:
    """Returns k when at least one hit is asked for.

    Raises:
        BadInput: for k below 1.
    """
    if k < 1:
        raise BadInput("number of hits", f"k = {k}", "Ask for at least one")
    return k


def smallest(distances: Int64[np.ndarray, "q n"], rows: Int64[np.ndarray, "q n"], k: int) -> Hits:
    """The k first in the order (distance, row) of each line of two arrays [q, n]."""
    order = np.lexsort((rows, distances), axis=1)[:, : check_k(k)]
    return Hits(np.take_along_axis(distances, order, axis=1), np.take_along_axis(rows, order, axis=1))


def merge(parts: Sequence[Hits], k: int) -> Hits:
    """Merges answers over disjoint rows into the answer over all of them.

    Args:
        parts: Hits of the same q queries; rows of different parts must differ.
        k: How many to keep; every part must hold its own k nearest, or all it has.

    Raises:
        BadInput: when there is nothing to merge, or the parts answer different numbers of queries.
    """
    if not parts:
        raise BadInput("merging hits", "no parts", "Search at least one shard")
    counts = {part.distances.shape[0] for part in parts}
    if len(counts) > 1:
        raise BadInput("merging hits", f"parts answer {sorted(counts)} queries", "Send every shard the same queries")
    distances = np.concatenate([part.distances for part in parts], axis=1)
    rows = np.concatenate([part.rows for part in parts], axis=1)
    return smallest(distances, rows, k)
