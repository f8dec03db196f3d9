"""Exact Hamming search over packed codes: first the definition, then the fast one with the same signature.

`search` reads blocks of codes that stay in cache, counts differing bits 64 at a time, and sorts only the
codes that can still enter the answer: those not farther than the k-th nearest seen so far.
"""

import numpy as np
from jaxtyping import Int64, UInt8

from xhash_ray.core.topk import Hits, check_k, smallest
from xhash_ray.errors import Mismatch

BLOCK_CODES = 65_536  # 512 KiB of 64-bit codes: fits the second-level cache


def distances_reference(
    codes: UInt8[np.ndarray, "n bytes"], queries: UInt8[np.ndarray, "q bytes"]
) -> Int64[np.ndarray, "q n"]:
    """The definition: the number of bits in which a query and a code differ. Slow, obvious, the oracle."""
    differing = np.unpackbits(queries[:, None, :] ^ codes[None, :, :], axis=2)
    return differing.sum(axis=2, dtype=np.int64)


def search_reference(codes: UInt8[np.ndarray, "n bytes"], queries: UInt8[np.ndarray, "q bytes"], k: int) -> Hits:
    """All distances, sorted by (distance, row), cut at k. The oracle of `search`."""
    check_same_width(codes, queries)
    distances = distances_reference(codes, queries)
    rows = np.broadcast_to(np.arange(len(codes)), distances.shape)
    return smallest(distances, rows, k)


def search(codes: UInt8[np.ndarray, "n bytes"], queries: UInt8[np.ndarray, "q bytes"], k: int) -> Hits:
    """The k codes nearest to each query, ordered by (distance, row), exact.

    Args:
        codes: uint8 [n, bits / 8], n may be 0.
        queries: uint8 [q, bits / 8].
        k: Hits wanted of each query, at least 1; min(k, n) are returned.

    Raises:
        Mismatch: when codes and queries differ in length.
        BadInput: for k below 1.
    """
    check_same_width(codes, queries)
    check_k(k)
    code_words, query_words = to_words(codes), to_words(queries)
    found = [nearest_of(code_words, word, k) for word in query_words]
    shape = (len(queries), min(k, len(codes)))
    return Hits(
        np.array([distances for distances, _ in found], dtype=np.int64).reshape(shape),
        np.array([rows for _, rows in found], dtype=np.int64).reshape(shape),
    )


def nearest_of(
    code_words: np.ndarray, query_words: np.ndarray, k: int
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """One query against all codes, block by block: distances and rows of its k nearest."""
    best_distances = np.empty(0, dtype=np.int64)
    best_rows = np.empty(0, dtype=np.int64)
    for start in range(0, len(code_words), BLOCK_CODES):
        block = code_words[start : start + BLOCK_CODES]
        distances = np.bitwise_count(block ^ query_words).sum(axis=1, dtype=np.int64)
        if len(best_distances) == k:  # later rows lose ties, so only nearer codes can enter
            rows = np.flatnonzero(distances < best_distances[-1])
        else:
            rows = np.arange(len(distances))
        best_distances = np.concatenate([best_distances, distances[rows]])
        best_rows = np.concatenate([best_rows, rows + start])
        order = np.argsort(best_distances, kind="stable")[:k]  # rows ascend, so stable keeps (distance, row)
        best_distances, best_rows = best_distances[order], best_rows[order]
    return best_distances, best_rows


def to_words(codes: UInt8[np.ndarray, "n bytes"]) -> np.ndarray:
    """Views packed codes as the widest unsigned words their length allows: uint64 [n, bytes / 8] at best."""
    width = codes.shape[1]
    word = next(size for size in (8, 4, 2, 1) if width % size == 0)
    return np.ascontiguousarray(codes).view(f"u{word}").reshape(len(codes), width // word)


def check_same_width(codes: np.ndarray, queries: np.ndarray) -> None:
    """Raises Mismatch when the last axes differ."""
    if codes.shape[1] != queries.shape[1]:
        raise Mismatch(
            "Hamming search",
            f"codes of {codes.shape[1] * 8} bits, queries of {queries.shape[1] * 8} bits",
            "Encode both with the same model",
        )
