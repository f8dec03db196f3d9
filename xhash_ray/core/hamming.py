"""Exact Hamming search over packed codes: first the definitions, then the fast ones with the same signatures.

    search           the k nearest codes of each query
    search_tied      the same, and what lies at the k-th distance besides
    search_radius    all codes within a radius
    histogram        how many codes lie at each distance (slow: it looks at every one)

All answers are ordered by (distance, row) and do not depend on threads, tiles or the processor.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from xhash_ray.core import scanning
from xhash_ray.core.bits import check_bits
from xhash_ray.core.topk import Hits, check_k, smallest
from xhash_ray.errors import BadInput, Mismatch

FEW_PAIRS = 500_000  # numpy compares them sooner than the compiler loads
BLOCK_CODES = 65_536
GUESS_QUERIES, GUESS_K = 16, 200  # fewer are scanned as fast without a guess
GUESS_STEP = 128  # every so manieth code is in its sample


class Tied(NamedTuple):
    """The k nearest, and how arbitrary the last of them are.

    Attributes:
        hits: The k nearest, ties by ascending row.
        kth: int64 [q], distance of the last hit; -1 where there are no hits.
        at_kth: int64 [q], how many codes lie at that distance, in the answer or not.
    """

    hits: Hits
    kth: Int64[np.ndarray, " q"]
    at_kth: Int64[np.ndarray, " q"]


class Within(NamedTuple):
    """Hits of a radius: those of query i are [starts[i]:starts[i + 1]], nearest first, ties by ascending row.

    Attributes:
        starts: int64 [q + 1].
        distances: int64 [hits].
        rows: int64 [hits].
    """

    starts: Int64[np.ndarray, " q1"]
    distances: Int64[np.ndarray, " hits"]
    rows: Int64[np.ndarray, " hits"]


def distances_reference(
    codes: UInt8[np.ndarray, "n bytes"], queries: UInt8[np.ndarray, "q bytes"]
) -> Int64[np.ndarray, "q n"]:
    """The definition: the number of bits in which a query and a code differ. Slow, obvious, the oracle."""
    differing = np.unpackbits(queries[:, None, :] ^ codes[None, :, :], axis=2)
    return differing.sum(axis=2, dtype=np.int64)


def search_reference(
    codes: UInt8[np.ndarray, "n bytes"],
    queries: UInt8[np.ndarray, "q bytes"],
    k: int,
    *,
    threads: int | None = None,
    mask: Bool[np.ndarray, " n"] | None = None,
) -> Hits:
    """All distances, sorted by (distance, row), cut at k. The oracle of `search`; `threads` is of no use to it."""
    check_codes(codes, queries)
    shown = np.arange(len(codes)) if mask is None else np.flatnonzero(mask)
    distances = distances_reference(codes[shown], queries)
    return smallest(distances, np.broadcast_to(shown, distances.shape), k)


def search(
    codes: UInt8[np.ndarray, "n bytes"],
    queries: UInt8[np.ndarray, "q bytes"],
    k: int,
    *,
    threads: int | None = None,
    mask: Bool[np.ndarray, " n"] | None = None,
) -> Hits:
    """The k codes nearest to each query, ordered by (distance, row), exact.

    Args:
        codes: uint8 [n, bits / 8], n may be 0. Read in place where they are contiguous, copied where not.
        queries: uint8 [q, bits / 8].
        k: Hits wanted of each query, at least 1; min(k, codes that count) are returned.
        threads: Cores to use; all this process may use by default.
        mask: bool [n], True for the codes that count (filters, deletions); all by default.

    Raises:
        Mismatch: when codes and queries differ in length.
        BadInput: for k or threads below 1, arrays of other types or shapes, a mask of another length.
    """
    check_codes(codes, queries)
    check_k(k)
    shown = check_mask(mask, len(codes))
    k = min(k, len(codes) if mask is None else int(shown.sum()))
    if k == 0 or len(queries) == 0:
        return Hits(*np.zeros((2, len(queries), k), dtype=np.int64))
    if len(codes) * len(queries) < FEW_PAIRS:
        scanning.check_threads(threads)
        return search_few(codes, queries, k, mask)
    used = scanning.check_threads(threads)
    limits = guess_limits(codes, queries, k, used, shown)
    distances, rows = scanning.nearest([codes], queries, k, used, [shown], limits)[0]
    short = np.flatnonzero(distances[:, k - 1] == scanning.ABSENT)  # the guess was too low
    if len(short):
        distances[short], rows[short] = scanning.nearest([codes], queries[short], k, used, [shown])[0]
    return Hits(distances[:, :k], rows[:, :k])


def search_tied(
    codes: UInt8[np.ndarray, "n bytes"],
    queries: UInt8[np.ndarray, "q bytes"],
    k: int,
    *,
    threads: int | None = None,
    mask: Bool[np.ndarray, " n"] | None = None,
) -> Tied:
    """The k nearest, the k-th distance and how many codes lie at it.

    `search_radius` with the k-th distance gives the tie-complete answer. Arguments and errors as of `search`.
    """
    hits = search(codes, queries, k, threads=threads, mask=mask)
    if hits.distances.shape[1] == 0:
        none = np.zeros(len(queries), dtype=np.int64)
        return Tied(hits, none - 1, none)
    kth = hits.distances[:, -1].copy()
    counted = [count_below(codes, queries, limits, threads, mask) for limits in (kth + 1, kth)]
    return Tied(hits, kth, counted[0] - counted[1])


def search_radius(
    codes: UInt8[np.ndarray, "n bytes"],
    queries: UInt8[np.ndarray, "q bytes"],
    radius: int | Int64[np.ndarray, " q"],
    *,
    threads: int | None = None,
    mask: Bool[np.ndarray, " n"] | None = None,
) -> Within:
    """All codes whose distance is at most the radius, of each query or one for all.

    They are counted first, so that memory is what the answer needs. Other arguments and errors as of `search`.

    Raises:
        BadInput: for a negative radius.
    """
    check_codes(codes, queries)
    radii = np.broadcast_to(np.asarray(radius, dtype=np.int64), (len(queries),))
    if (radii < 0).any():
        raise BadInput("search radius", str(radius), "Give 0 or more bits")
    sizes = count_below(codes, queries, radii + 1, threads, mask)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    distances, rows = np.empty((2, int(starts[-1])), dtype=np.int64)
    for q in np.flatnonzero(sizes):
        hits = search(codes, queries[q : q + 1], int(sizes[q]), threads=threads, mask=mask)
        distances[starts[q] : starts[q + 1]], rows[starts[q] : starts[q + 1]] = hits.distances[0], hits.rows[0]
    return Within(starts, distances, rows)


def histogram(
    codes: UInt8[np.ndarray, "n bytes"],
    queries: UInt8[np.ndarray, "q bytes"],
    *,
    threads: int | None = None,
    mask: Bool[np.ndarray, " n"] | None = None,
) -> Int64[np.ndarray, "q distances"]:
    """How many codes lie at each distance from each query: int64 [q, bits + 1]. Errors as of `search`."""
    check_codes(codes, queries)
    scanning.check_threads(threads)
    shown = check_mask(mask, len(codes))
    groups = codes.shape[1] * 8 + 1
    counts = np.zeros((len(queries), groups), dtype=np.int64)
    query_words = to_words(queries)
    for start in range(0, len(codes), BLOCK_CODES):
        words = to_words(codes[start : start + BLOCK_CODES])
        if mask is not None:
            words = words[shown[start : start + BLOCK_CODES]]
        for q, word in enumerate(query_words):
            distances = np.bitwise_count(words ^ word).sum(axis=1, dtype=np.int64)
            counts[q] += np.bincount(distances, minlength=groups)
    return counts


def guess_limits(
    codes: np.ndarray, queries: np.ndarray, k: int, threads: int, mask: np.ndarray
) -> Int64[np.ndarray, " q"] | None:
    """Limits that the k nearest very probably lie below, by a sample; None where a scan without them is as fast.

    Without, a query takes some k ln(n / k) codes on its way to its k-th distance, one by one.
    """
    if len(queries) < GUESS_QUERIES or k < GUESS_K or len(codes) < 4 * GUESS_STEP * k:
        return None
    sample, shown = np.ascontiguousarray(codes[::GUESS_STEP]), np.ascontiguousarray(mask[::GUESS_STEP])
    expected = k / GUESS_STEP
    enough = int(expected + 4 * expected**0.5) + 2  # four standard deviations: one guess in thousands is too low
    return scanning.nearest([sample], queries, enough, threads, [shown])[0].distances[:, -1] + 1


def count_below(
    codes: UInt8[np.ndarray, "n bytes"],
    queries: UInt8[np.ndarray, "q bytes"],
    limits: Int64[np.ndarray, " q"],
    threads: int | None = None,
    mask: Bool[np.ndarray, " n"] | None = None,
) -> Int64[np.ndarray, " q"]:
    """How many codes are nearer to each query than its limit: int64 [q]."""
    if len(codes) * len(queries) < FEW_PAIRS:
        nearer = np.cumsum(histogram(codes, queries, threads=threads, mask=mask), axis=1)
        at_most = np.minimum(limits, nearer.shape[1])
        return np.where(at_most > 0, nearer[np.arange(len(queries)), np.maximum(at_most, 1) - 1], 0)
    return scanning.count_below(codes, queries, limits, scanning.check_threads(threads), check_mask(mask, len(codes)))


def search_few(codes: np.ndarray, queries: np.ndarray, k: int, mask: np.ndarray | None) -> Hits:
    """`search` by numpy, without the compiler: all distances at once."""
    shown = np.arange(len(codes)) if mask is None else np.flatnonzero(mask)
    words, query_words = to_words(codes[shown]), to_words(queries)
    distances = np.bitwise_count(words[None] ^ query_words[:, None]).sum(axis=2, dtype=np.int64)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]  # rows ascend, so stable keeps (distance, row)
    return Hits(np.take_along_axis(distances, nearest, axis=1), shown[nearest])


def to_words(codes: UInt8[np.ndarray, "n bytes"]) -> np.ndarray:
    """Views packed codes as the widest unsigned words their length allows: uint64 [n, bytes / 8] at best."""
    width = codes.shape[1]
    word = next(size for size in (8, 4, 2, 1) if width % size == 0)
    return np.ascontiguousarray(codes).view(f"u{word}").reshape(len(codes), width // word)


def check_codes(codes: Any, queries: Any) -> None:
    """Raises when two arrays are not codes of one length.

    Raises:
        Mismatch: when the lengths differ.
        BadInput: for other types, shapes or lengths than codes have.
    """
    for name, array in (("codes", codes), ("queries", queries)):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 2:
            kind = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            raise BadInput(f"Hamming search, {name}", kind, "Give packed codes: uint8 [n, bits / 8]")
    check_same_width(codes, queries)
    check_bits(codes.shape[1] * 8)


def check_mask(mask: Any, codes: int) -> np.ndarray:
    """The mask as an array, empty for none.

    Raises:
        BadInput: unless it has a boolean for each code.
    """
    if mask is None:
        return np.empty(0, dtype=bool)
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (codes,):
        found = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise BadInput("Hamming search, mask", found, f"Give bool [{codes}], True for the codes that count")
    return np.ascontiguousarray(mask)


def check_same_width(codes: np.ndarray, queries: np.ndarray) -> None:
    """Raises Mismatch when the last axes differ."""
    if codes.shape[1] != queries.shape[1]:
        raise Mismatch(
            "Hamming search",
            f"codes of {codes.shape[1] * 8} bits, queries of {queries.shape[1] * 8} bits",
            "Encode both with the same model",
        )
