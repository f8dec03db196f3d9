"""The scan behind `hamming.search`, compiled by numba: every code is read, few are looked at.

A scan asks of each block of codes only its smallest distance; a block is looked at code by code when that beats what is
wanted. Distances are small whole numbers: counting those accepted tells at once when the k nearest all lie below some
limit, and rows ascend, so a later code at the limit itself has lost its tie and need not be looked at.

    limit      codes below this distance are accepted; falls while there are `wanted` of them at or below it
    counts     accepted codes by distance
    hits       accepted codes in the order of their rows; thinned out to `wanted` when there is no room

The state of each query lives in arrays, so that a scan can go on with the next codes. Imported only when there is
enough to scan: loading the compiler costs half a second, a first compilation three more. Machine code is kept beside
this file, or in the user's cache folder, and rebuilt per processor and when this file changes (numba does not see a
change of vectors.py: touch this file then).
"""

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import numba
import numpy as np
from numba import types

from xhash_ray.core.bits import MAX_BITS
from xhash_ray.core.compiling import compiled_for
from xhash_ray.core.vectors import (
    FARTHEST,
    RUN_WORDS,
    below_in_run,
    borrowed,
    nearest_in_run,
    nearest_of_several,
    popcount,
    trailing_zeros,
)

BLOCK_CODES = 512  # one comparison with the limit for so many codes
TILE_WORDS = 16_384  # 128 KiB: stays in the second-level cache while all queries of a batch pass
LIMIT, BELOW, HELD = 0, 1, 2  # columns of `state`: limit, accepted below it, hits held
TOGETHER = 4  # queries that share each load of a code

nearest_of_one_word, nearest_of_two_words, nearest_of_four_words = (nearest_in_run(words) for words in (1, 2, 4))
below_of_one_word, below_of_two_words, below_of_four_words = (below_in_run(words) for words in (1, 2, 4))

four_of_one_word, four_of_two_words = nearest_of_several(1, TOGETHER), nearest_of_several(2, TOGETHER)
two_of_four_words = nearest_of_several(4, TOGETHER // 2)

CODES = types.Array(types.uint64, 2, "C", readonly=True)  # also taken: arrays that can be written
MASK = types.Array(types.boolean, 1, "C", readonly=True)
LINE, TABLE, SHORT = types.int64[::1], types.int64[:, ::1], types.uint16[:, ::1]
SCAN = types.void(CODES, CODES, MASK, types.int64, LINE, TABLE, TABLE, SHORT, TABLE)
ORDER = types.void(LINE, TABLE, SHORT, TABLE, TABLE, TABLE)
COUNT = types.void(CODES, CODES, MASK, LINE, LINE)

# Loops index slices from 0: an index computed from an offset keeps a check that stops vectorisation.


@numba.njit(inline="always")
@no_type_check
def distance(codes: Any, i: Any, queries: Any, q: Any) -> Any:
    """Bits in which code i and query q differ."""
    total = np.uint64(0)
    for word in range(queries.shape[1]):
        total += popcount(codes[i, word] ^ queries[q, word])
    return np.int64(total)


@numba.njit
@no_type_check
def thin_out(q: Any, wanted: Any, state: Any, distances: Any, rows: Any) -> None:
    """Keeps the hits of query q that are below its limit, and the first at it, `wanted` in all."""
    limit, spare, kept = state[q, LIMIT], wanted[q] - state[q, BELOW], 0
    for i in range(state[q, HELD]):
        d = distances[q, i]
        if d < limit or (d == limit and spare > 0):
            spare -= d == limit
            distances[q, kept], rows[q, kept] = d, rows[q, i]
            kept += 1
    state[q, HELD] = kept


@numba.njit(inline="always")
@no_type_check
def accept(d: Any, row: Any, q: Any, wanted: Any, state: Any, counts: Any, distances: Any, rows: Any) -> None:
    """Takes one code that lies below the limit."""
    if state[q, HELD] == distances.shape[1]:
        thin_out(q, wanted, state, distances, rows)
    distances[q, state[q, HELD]], rows[q, state[q, HELD]] = d, row
    state[q, HELD] += 1
    counts[q, d] += 1
    state[q, BELOW] += 1
    while state[q, BELOW] >= wanted[q]:
        state[q, LIMIT] -= 1
        state[q, BELOW] -= counts[q, state[q, LIMIT]]


@numba.njit(inline="always")
@no_type_check
def turn(tile: Any, turned: Any) -> None:
    """Word-major, so that the words of neighbouring codes lie side by side."""
    for word in range(tile.shape[1]):
        line = turned[word, : tile.shape[0]]
        for i in range(tile.shape[0]):
            line[i] = tile[i, word]


@numba.njit(inline="always")
@no_type_check
def nearest(codes: Any, first: Any, stop: Any, queries: Any, q: Any) -> Any:
    """The smallest distance of codes[first:stop] to query q; whole blocks only."""
    words = queries.shape[1]
    if words == 1:
        return nearest_of_one_word(codes, first, stop, queries, q)
    if words == 2:
        return nearest_of_two_words(codes, first, stop, queries, q)
    if words == 4:
        return nearest_of_four_words(codes, first, stop, queries, q)
    best = FARTHEST
    for i in range(first, stop):
        best = min(best, distance(codes, i, queries, q))
    return best


@numba.njit(inline="always")
@no_type_check
def below(codes: Any, first: Any, queries: Any, q: Any, limit: Any) -> Any:
    """Bit i is 1 where code first + i of a run is nearer than the limit; for 1, 2 or 4 words."""
    if queries.shape[1] == 1:
        return below_of_one_word(codes, first, queries, q, limit)
    if queries.shape[1] == 2:
        return below_of_two_words(codes, first, queries, q, limit)
    return below_of_four_words(codes, first, queries, q, limit)


@numba.njit(inline="always")
@no_type_check
def together(codes: Any, turned: Any, first: Any, begin: Any, end: Any, queries: Any, q: Any, four: Any) -> None:
    """The smallest distances of four queries to a block of codes; those of one word need no turning."""
    stride = turned.shape[1]
    if queries.shape[1] == 1:
        four_of_one_word(codes, 0, first + begin, first + end, queries, q, four)
    elif queries.shape[1] == 2:
        four_of_two_words(turned, stride, begin, end, queries, q, four)
    else:  # two and two: all that registers hold
        two_of_four_words(turned, stride, begin, end, queries, q, four)
        two_of_four_words(turned, stride, begin, end, queries, q + 2, four[2:])


@numba.njit(inline="always")
@no_type_check
def visit(
    codes: Any, first: Any, stop: Any, queries: Any, q: Any, mask: Any, row: Any, wanted: Any, state: Any, counts: Any,
    distances: Any, rows: Any,
) -> None:  # fmt: skip
    """Accepts what codes[first:stop] have below the limit of query q."""
    words = queries.shape[1]
    start = first
    if words == 1 or words == 2 or words == 4:
        run_codes = RUN_WORDS // words
        limit = state[q, LIMIT]
        while start + run_codes <= stop:
            bits = below(codes, start, queries, q, limit)
            while bits != 0:
                i = start + np.int64(trailing_zeros(bits))
                bits &= bits - np.uint64(1)
                d = distance(codes, i, queries, q)
                if d < state[q, LIMIT] and (mask.shape[0] == 0 or mask[i]):
                    accept(d, row + i, q, wanted, state, counts, distances, rows)
                    limit = state[q, LIMIT]
            start += run_codes
    for i in range(start, stop):
        d = distance(codes, i, queries, q)
        if d < state[q, LIMIT] and (mask.shape[0] == 0 or mask[i]):
            accept(d, row + i, q, wanted, state, counts, distances, rows)


@numba.njit(inline="always")
@no_type_check
def alone(
    codes: Any, first: Any, stop: Any, queries: Any, q: Any, mask: Any, row: Any, wanted: Any, state: Any, counts: Any,
    distances: Any, rows: Any,
) -> None:  # fmt: skip
    """One query over a tile."""
    for begin in range(first, stop, BLOCK_CODES):
        end = min(begin + BLOCK_CODES, stop)
        if end - begin < BLOCK_CODES or nearest(codes, begin, end, queries, q) < state[q, LIMIT]:
            visit(codes, begin, end, queries, q, mask, row, wanted, state, counts, distances, rows)


@numba.njit(inline="always")
@no_type_check
def in_fours(
    codes: Any, first: Any, stop: Any, turned: Any, four: Any, queries: Any, q: Any, mask: Any, row: Any, wanted: Any,
    state: Any, counts: Any, distances: Any, rows: Any,
) -> None:  # fmt: skip
    """Queries q to q + 3 over a tile whose codes are turned."""
    for begin in range(0, stop - first, BLOCK_CODES):
        end = min(begin + BLOCK_CODES, stop - first)
        if end - begin == BLOCK_CODES:
            together(codes, turned, first, begin, end, queries, q, four)
        else:
            four[:] = 0
        for i in range(TOGETHER):
            if four[i] < state[q + i, LIMIT]:
                visit(
                    codes, first + begin, first + end, queries, q + i, mask, row, wanted, state, counts, distances, rows
                )


@no_type_check
def scan(
    codes: Any, queries: Any, mask: Any, row: Any, wanted: Any, state: Any, counts: Any, distances: Any, rows: Any
) -> None:
    """Goes on with all queries over some codes.

    Args:
        codes: uint64 [n, words].
        queries: uint64 [q, words].
        mask: bool [n], which codes count; empty where all do.
        row: Number of the first code.
        wanted: int64 [q], hits wanted of each query.
        state: int64 [q, 3].
        counts: int64 [q, bits + 2].
        distances: uint16 [q, room], room greater than `wanted`.
        rows: int64 [q, room].
    """
    codes, queries, mask, wanted = borrowed(codes), borrowed(queries), borrowed(mask), borrowed(wanted)
    state, counts, distances, rows = borrowed(state), borrowed(counts), borrowed(distances), borrowed(rows)
    words = queries.shape[1]
    tile_codes = TILE_WORDS // words // BLOCK_CODES * BLOCK_CODES
    turned, four = np.empty((words, tile_codes), np.uint64), np.empty(TOGETHER, np.int64)
    fours = queries.shape[0] // TOGETHER * TOGETHER if words == 1 or words == 2 or words == 4 else 0
    for first in range(0, codes.shape[0], tile_codes):
        stop = min(first + tile_codes, codes.shape[0])
        if fours > 0 and words > 1:
            turn(codes[first:stop], turned)
        for q in range(0, fours, TOGETHER):
            in_fours(codes, first, stop, turned, four, queries, q, mask, row, wanted, state, counts, distances, rows)
        for q in range(fours, queries.shape[0]):
            alone(codes, first, stop, queries, q, mask, row, wanted, state, counts, distances, rows)


@no_type_check
def order(wanted: Any, state: Any, distances: Any, rows: Any, sorted_distances: Any, sorted_rows: Any) -> None:
    """Every query's hits by (distance, row), cut at what was wanted.

    Args:
        wanted: int64 [q].
        state: int64 [q, 3].
        distances: uint16 [q, room].
        rows: int64 [q, room].
        sorted_distances: int64 [q, k], filled from the left; state tells how far.
        sorted_rows: int64 [q, k].
    """
    for q in range(wanted.shape[0]):
        if state[q, HELD] > wanted[q]:
            thin_out(q, wanted, state, distances, rows)
        held = state[q, HELD]
        places = np.zeros(MAX_BITS + 2, np.int64)
        for i in range(held):
            places[distances[q, i] + 1] += 1
        for d in range(1, places.shape[0]):
            places[d] += places[d - 1]
        for i in range(held):
            place = places[distances[q, i]]
            sorted_distances[q, place], sorted_rows[q, place] = distances[q, i], rows[q, i]
            places[distances[q, i]] += 1


@no_type_check
def count_below(codes: Any, queries: Any, mask: Any, limits: Any, counts: Any) -> None:
    """Adds to counts[q] how many codes are nearer to query q than limits[q]."""
    codes, queries, mask = borrowed(codes), borrowed(queries), borrowed(mask)
    words = queries.shape[1]
    run_codes = RUN_WORDS // words if words == 1 or words == 2 or words == 4 else codes.shape[0] + 1
    whole = codes.shape[0] // run_codes * run_codes if mask.shape[0] == 0 else 0
    for tile in range(0, codes.shape[0], TILE_WORDS):
        for q in range(queries.shape[0]):
            total = np.int64(0)
            stop = min(tile + TILE_WORDS, codes.shape[0])
            for first in range(tile, min(stop, whole), run_codes):
                total += np.int64(popcount(below(codes, first, queries, q, limits[q])))
            for i in range(max(tile, whole), stop):
                total += distance(codes, i, queries, q) < limits[q] and (mask.shape[0] == 0 or mask[i])
            counts[q] += total


@functools.cache
def compiled(name: str) -> Callable[..., None]:
    """`scan`, `order` or `count_below` as machine code that runs without Python's lock."""
    signatures = {"scan": (SCAN, scan), "order": (ORDER, order), "count_below": (COUNT, count_below)}
    return compiled_for(*signatures[name])
