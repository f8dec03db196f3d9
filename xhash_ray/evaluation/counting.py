"""Pairs of queries and items counted by Hamming distance and by labels in common.

A ranking by Hamming distance is a handful of tied groups, so its group sizes say everything that does not depend on
how ties are broken: every tie-aware measure follows from these counts. First the definition, then the fast one with
the same signature; which of them runs changes nothing but the time.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from xhash_ray.core.bits import check_bits
from xhash_ray.core.hamming import check_same_width
from xhash_ray.core.scanning import check_threads
from xhash_ray.core.shards import even_split
from xhash_ray.errors import BadInput

FEW_PAIRS = 1_000_000  # numpy counts them sooner than the compiler loads


def count_pairs_reference(
    query_codes: UInt8[np.ndarray, "q bytes"],
    database_codes: UInt8[np.ndarray, "n bytes"],
    query_labels: UInt64[np.ndarray, "q words"],
    database_labels: UInt64[np.ndarray, "n words"],
    levels: int = 2,
    threads: int | None = None,
) -> Int64[np.ndarray, "q distances levels"]:
    """The definition, query by query; `threads` is of no use to it."""
    check_countable(query_codes, database_codes, levels)
    groups = query_codes.shape[1] * 8 + 1
    counts = np.zeros((len(query_codes), groups * levels), dtype=np.int64)
    for row, (code, labels) in enumerate(zip(query_codes, query_labels, strict=True)):
        distance = np.bitwise_count(database_codes ^ code).sum(axis=1, dtype=np.int64)
        overlap = np.bitwise_count(database_labels & labels).sum(axis=1, dtype=np.int64)
        key = distance * levels + np.minimum(overlap, levels - 1)
        counts[row] = np.bincount(key, minlength=groups * levels)
    return counts.reshape(-1, groups, levels)


def count_pairs(
    query_codes: UInt8[np.ndarray, "q bytes"],
    database_codes: UInt8[np.ndarray, "n bytes"],
    query_labels: UInt64[np.ndarray, "q words"],
    database_labels: UInt64[np.ndarray, "n words"],
    levels: int = 2,
    threads: int | None = None,
) -> Int64[np.ndarray, "q distances levels"]:
    """How many items lie at each distance from each query and share so many labels with it.

    Args:
        query_codes: uint8 [q, bits / 8].
        database_codes: uint8 [n, bits / 8], n may be 0.
        query_labels: uint64 [q, words], one bit per class, as `relevance.pack_labels` makes them.
        database_labels: uint64 [n, words].
        levels: Overlaps told apart, at least 2: the last level holds all pairs with `levels - 1` labels in common or
            more, so 2 tells irrelevant (0) from relevant (1).
        threads: Cores to use; all this process may use by default.

    Returns:
        int64 [q, bits + 1, levels].

    Raises:
        Mismatch: when the codes differ in length.
        BadInput: for a code length that is no multiple of 8 up to 1,024, fewer than two levels, or threads below 1.
    """
    given = (query_codes, database_codes, query_labels, database_labels)
    check_countable(query_codes, database_codes, levels)
    used = check_threads(threads)
    if len(query_codes) * len(database_codes) < FEW_PAIRS:
        return count_pairs_reference(*given, levels)
    return count_compiled(*given, levels, used)


def count_compiled(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    levels: int,
    threads: int,
) -> Int64[np.ndarray, "q distances levels"]:
    """The compiled loop, each thread with its own queries and counters."""
    from xhash_ray.evaluation.kernel import compiled  # the compiler is loaded only when it pays

    loop = compiled()
    groups = query_codes.shape[1] * 8 + 1
    counts = np.zeros((len(query_codes), 2, groups * levels), dtype=np.int64)
    queries, labels = padded_words(query_codes), np.array(query_labels, order="C")
    # Word-major, and copied even where that changes nothing: arrays from Ray's store are read-only, another type.
    codes_of = np.array(padded_words(database_codes).T, order="C")
    labels_of = np.array(database_labels.T, order="C")

    def part(start: int, stop: int) -> None:
        loop(counts[start:stop], queries[start:stop], codes_of, labels[start:stop], labels_of, levels)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda cut: part(*cut), even_split(len(queries), threads)))
    return counts.sum(axis=1).reshape(-1, groups, levels)


def padded_words(codes: UInt8[np.ndarray, "n bytes"]) -> UInt64[np.ndarray, "n words"]:
    """Codes as 64-bit words; missing bytes are 0 on both sides and never differ."""
    words = -(-codes.shape[1] // 8)
    padded = np.zeros((len(codes), words * 8), dtype=np.uint8)
    padded[:, : codes.shape[1]] = codes
    return padded.view(np.uint64)


def check_countable(query_codes: np.ndarray, database_codes: np.ndarray, levels: int) -> None:
    """Raises Mismatch or BadInput when there is no counting these."""
    check_same_width(database_codes, query_codes)
    check_bits(query_codes.shape[1] * 8)
    if levels < 2:
        raise BadInput("counting pairs by overlap", f"{levels} levels", "Give at least 2, irrelevant and relevant")
