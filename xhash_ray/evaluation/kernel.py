"""The loop that counts pairs by distance and overlap, compiled by numba; `counting` is its front door.

Imported only when there is enough to count: loading the compiler costs half a second, a first compilation one more.
The machine code is kept beside this file, or in the user's cache folder, and rebuilt per processor; where neither
can be written it is compiled anew by each process.
"""

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import numba
import numpy as np

from xhash_ray.core.compiling import compiled_for
from xhash_ray.core.vectors import popcount

BLOCK_CODES = 8192  # 64 KiB of codes and 64 KiB of labels stay in the second-level cache while all queries pass
KEYS_AT_ONCE = 512  # 2 KiB of keys stay in the first-level cache between the loops
SIGNATURE = "void(int64[:,:,::1], uint64[:,::1], uint64[:,::1], uint64[:,::1], uint64[:,::1], int64)"


# Each loop indexes its arguments from 0: an index computed from an offset keeps a check that stops vectorisation.
# The first word sets and the others add, because clearing the totals first costs a tenth of all time.


@numba.njit(inline="always")
@no_type_check
def set_differing_bits(totals: Any, run: Any, word: Any) -> None:
    """totals[i] = bits in which run[i] and word differ."""
    for i in range(run.shape[0]):
        totals[i] = popcount(run[i] ^ word)


@numba.njit(inline="always")
@no_type_check
def add_differing_bits(totals: Any, run: Any, word: Any) -> None:
    """totals[i] += bits in which run[i] and word differ."""
    for i in range(run.shape[0]):
        totals[i] += popcount(run[i] ^ word)


@numba.njit(inline="always")
@no_type_check
def set_common_bits(totals: Any, run: Any, word: Any) -> None:
    """totals[i] = bits that run[i] and word have in common."""
    for i in range(run.shape[0]):
        totals[i] = popcount(run[i] & word)


@numba.njit(inline="always")
@no_type_check
def add_common_bits(totals: Any, run: Any, word: Any) -> None:
    """totals[i] += bits that run[i] and word have in common."""
    for i in range(run.shape[0]):
        totals[i] += popcount(run[i] & word)


@numba.njit(inline="always")
@no_type_check
def tally(first: Any, second: Any, keys: Any) -> None:
    """Counts keys, alternately into two tables.

    Neighbours often have the same key, and a counter cannot be raised again before its last raise has reached memory.
    """
    half = keys.shape[0] // 2
    left, right = keys[:half], keys[half : 2 * half]
    for i in range(left.shape[0]):
        first[left[i]] += 1
        second[right[i]] += 1
    if keys.shape[0] % 2:
        first[keys[-1]] += 1


@no_type_check
def count(counts: Any, queries: Any, codes: Any, query_labels: Any, labels: Any, levels: Any) -> None:
    """Adds the pairs of all queries with all codes to `counts`.

    A key, `distance * levels + min(overlap, levels - 1)`, is computed for a run of codes by vector instructions; then
    the keys are counted one by one.

    Args:
        counts: int64 [q, 2, (bits + 1) * levels], the sum over axis 1 is the answer.
        queries: uint64 [q, words].
        codes: uint64 [words, n], one row per word so that loads stay contiguous.
        query_labels: uint64 [q, label words].
        labels: uint64 [label words, n].
        levels: Overlaps told apart.
    """
    keys, shared = np.empty((2, KEYS_AT_ONCE), np.uint32)  # unsigned: no check for negative indexes
    for block in range(0, codes.shape[1], BLOCK_CODES):
        block_end = min(block + BLOCK_CODES, codes.shape[1])
        for query in range(queries.shape[0]):
            for start in range(block, block_end, KEYS_AT_ONCE):
                stop = min(start + KEYS_AT_ONCE, block_end)
                key, overlap = keys[: stop - start], shared[: stop - start]
                set_differing_bits(key, codes[0, start:stop], queries[query, 0])
                for word in range(1, queries.shape[1]):
                    add_differing_bits(key, codes[word, start:stop], queries[query, word])
                set_common_bits(overlap, labels[0, start:stop], query_labels[query, 0])
                for word in range(1, query_labels.shape[1]):
                    add_common_bits(overlap, labels[word, start:stop], query_labels[query, word])
                for i in range(key.shape[0]):
                    key[i] = key[i] * levels + min(overlap[i], levels - 1)
                tally(counts[query, 0], counts[query, 1], key)


@functools.cache
def compiled() -> Callable[..., None]:
    """`count` as machine code that runs without Python's lock."""
    return compiled_for(SIGNATURE, count)
