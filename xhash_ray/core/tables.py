"""Multi-index hashing: exact search that looks only at codes that share a substring with the query, almost.

Source: Norouzi, Punjani, Fleet, Fast exact search in Hamming space with multi-index hashing, TPAMI 2014. A code is cut
into m substrings, each indexed by a table. Two codes within r bits have a substring within r / m bits, so probing every
table with all substrings that near to the query's meets all of them; the radius grows until k are proven. The cut is
such that a substring has about log2(n) bits (their section 4): then a bucket holds about one code.

Wins over the scan for large collections and few, near hits; loses where neighbours are far (random codes) or buckets
full (skewed ones). `planning` decides by measurement.
Memory: m (4 n + 8 * 2^substring bits) bytes beside the codes.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8, UInt32, UInt64

from xhash_ray.core import scanning
from xhash_ray.core.hamming import check_codes, search
from xhash_ray.core.shards import even_split
from xhash_ray.core.topk import Hits, check_k
from xhash_ray.errors import BadInput

LONGEST_BITS = 26  # 512 MiB of starts
MOST_CODES = 2**32 - 1
LEAST_WORK = 10_000
GIVE_UP = 0.002  # of n: after so many probes and codes met, each a miss of all caches, a scan is cheaper


@dataclass(frozen=True)
class Tables:
    """Codes with a table for every substring.

    Attributes:
        codes: uint8 [n, bits / 8], as given.
        words: uint64 [n, words], the same, in place where possible.
        cuts: int64 [m + 1], bits where the substrings begin.
        starts: int64 [m, 2^longest + 1], where the rows of each substring begin.
        rows: uint32 [m, n], row numbers by substring.
    """

    codes: UInt8[np.ndarray, "n bytes"]
    words: UInt64[np.ndarray, "n words"]
    cuts: Int64[np.ndarray, " m1"]
    starts: Int64[np.ndarray, "m values"]
    rows: UInt32[np.ndarray, "m n"]

    @property
    def size_bytes(self) -> int:
        """Memory beside the codes."""
        return self.starts.nbytes + self.rows.nbytes

    def skew(self) -> float:
        """How uneven buckets are: codes in the bucket of a code, over those there were if all were equally full."""
        sizes = np.diff(self.starts, axis=1).astype(np.float64)
        collisions = (sizes**2).sum() / (len(self.words) ** 2 * len(sizes))
        return float(collisions * sizes.shape[1])


def substrings(bits: int, codes: int) -> Int64[np.ndarray, " m1"]:
    """Where to cut codes of so many bits when there are so many of them: about log2(n) bits each, of equal lengths."""
    wanted = min(LONGEST_BITS, max(8.0, math.log2(max(2, codes))))
    parts = even_split(bits, max(1, math.ceil(bits / wanted)))
    return np.array([0, *(end for _, end in parts)], dtype=np.int64)


def build_tables(codes: UInt8[np.ndarray, "n bytes"], threads: int | None = None) -> Tables:
    """Indexes every substring; a second per ten million codes and table.

    Raises:
        BadInput: for what are no codes, no codes at all, or more than 2^32 - 1.
    """
    from xhash_ray.core.tables_kernel import compiled  # the compiler is loaded only when it pays

    check_codes(codes, codes[:0])
    if not 1 <= len(codes) <= MOST_CODES:
        raise BadInput("tables", f"{len(codes):,} codes", f"Give 1 to {MOST_CODES:,}, or cut them into shards")
    words, cuts = scanning.padded_words(codes), substrings(codes.shape[1] * 8, len(codes))
    tables = len(cuts) - 1
    starts = np.zeros((tables, 2 ** int(np.diff(cuts).max()) + 1), dtype=np.int64)
    rows = np.empty((tables, len(codes)), dtype=np.uint32)
    tasks = [functools.partial(compiled("build"), words, cuts, table, starts, rows) for table in range(tables)]
    scanning.run_all(tasks, scanning.check_threads(threads))
    return Tables(codes, words, cuts, starts, rows)


def search_tables(tables: Tables, queries: UInt8[np.ndarray, "q bytes"], k: int, *, threads: int | None = None) -> Hits:
    """What `hamming.search` returns, by way of the tables; queries for which that is dear are scanned after all.

    Raises:
        Mismatch: when codes and queries differ in length.
        BadInput: for k or threads below 1, or what are no codes.
    """
    check_codes(tables.codes, queries)
    k, used = min(check_k(k), len(tables.codes)), scanning.check_threads(threads)
    answers = answer_all(tables, queries, k, used)
    found = np.zeros((2, len(queries), k), dtype=np.int64)
    dear = [q for q, (hits, _) in enumerate(answers) if hits is None]
    if dear:
        found[:, dear] = np.stack(search(tables.codes, queries[dear], k, threads=used))
    for q, (hits, _) in enumerate(answers):
        if hits is not None:
            found[:, q] = hits
    return Hits(found[0], found[1])


def answer_all(tables: Tables, queries: np.ndarray, k: int, threads: int) -> list[tuple[np.ndarray | None, int]]:
    """int64 [2, k] of each query, distances and rows (None where it was too dear), and the work that it took."""
    words = scanning.padded_words(queries)
    tasks = [
        functools.partial(answer, tables, words, k, start, stop)
        for start, stop in even_split(len(queries), max(1, min(threads, len(queries))))
    ]
    return [each for part in scanning.run_all(tasks, threads) for each in part]


def answer(
    tables: Tables, queries: UInt64[np.ndarray, "q words"], k: int, start: int, stop: int
) -> list[tuple[np.ndarray | None, int]]:
    """`answer_all` of queries[start:stop]."""
    from xhash_ray.core.tables_kernel import compiled

    n, bits = len(tables.words), int(tables.cuts[-1])
    most_work = max(LEAST_WORK, int(GIVE_UP * n))
    distances, rows = np.empty((2, min(n, max(2 * k, most_work))), dtype=np.int64)
    answers: list[tuple[np.ndarray | None, int]] = []
    for q in range(start, stop):
        counts = np.zeros(bits + 2, dtype=np.int64)
        where = tables.cuts, tables.starts, tables.rows
        met = compiled("search")(tables.words, queries, q, *where, k, most_work, counts, distances, rows)
        first = np.lexsort((rows[: max(met, 0)], distances[: max(met, 0)]))[:k]
        hits = np.stack([distances[first], rows[first]]) if met >= 0 else None
        answers.append((hits, int(counts[-1])))
    return answers
