"""Growing-radius search in tables of substrings, compiled by numba; `tables` is its front door."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, no_type_check

import numba
import numpy as np
from numba import types

from xhash_ray.core.vectors import borrowed, popcount

CODES = types.Array(types.uint64, 2, "C", readonly=True)
CUTS, STARTS, ROWS = types.int64[::1], types.int64[:, ::1], types.uint32[:, ::1]
BUILD = types.void(CODES, CUTS, types.int64, STARTS, ROWS)
SEARCH = types.int64(
    CODES, CODES, types.int64, CUTS, STARTS, ROWS, types.int64, types.int64, types.int64[::1], types.int64[::1],
    types.int64[::1],
)  # fmt: skip


@numba.njit(inline="always")
@no_type_check
def substring(codes: Any, row: Any, cuts: Any, table: Any) -> Any:
    """Bits cuts[table] to cuts[table + 1] of a code, as a number; they may lie across two words."""
    first, length = cuts[table], cuts[table + 1] - cuts[table]
    word, shift = first >> 6, np.uint64(first & 63)
    value = codes[row, word] >> shift
    if (first & 63) + length > 64:
        value |= codes[row, word + 1] << np.uint64(64 - (first & 63))
    return np.int64(value & np.uint64((1 << length) - 1))


@no_type_check
def build(codes: Any, cuts: Any, table: Any, starts: Any, rows: Any) -> None:
    """Sorts the row numbers by substring, ascending within each.

    Args:
        codes: uint64 [n, words].
        cuts: int64 [tables + 1], bits where substrings begin.
        table: Which substring.
        starts: int64 [tables, 2^longest + 1], zeros; where the rows of each substring begin.
        rows: uint32 [tables, n].
    """
    codes, starts, rows = borrowed(codes), borrowed(starts), borrowed(rows)
    for row in range(codes.shape[0]):
        starts[table, substring(codes, row, cuts, table) + 1] += 1
    for value in range(1, starts.shape[1]):
        starts[table, value] += starts[table, value - 1]
    for row in range(codes.shape[0]):
        value = substring(codes, row, cuts, table)
        rows[table, starts[table, value]] = row
        starts[table, value] += 1
    for value in range(starts.shape[1] - 1, 0, -1):  # each start has moved to its end: the next one's start
        starts[table, value] = starts[table, value - 1]
    starts[table, 0] = 0


@numba.njit(inline="always")
@no_type_check
def next_of_weight(mask: Any) -> Any:
    """The next larger number with as many ones (Gosper)."""
    lowest = mask & -mask
    ripple = mask + lowest
    return ripple | (((mask ^ ripple) >> 2) // lowest)


@numba.njit(inline="always")
@no_type_check
def seen_before(codes: Any, row: Any, queries: Any, q: Any, cuts: Any, table: Any, radius: Any) -> Any:
    """Whether an earlier probe has met this code: another substring lies within what its table was probed with."""
    for other in range(cuts.shape[0] - 1):
        allowed = radius if other < table else radius - 1
        if other != table and allowed >= 0:
            apart = substring(codes, row, cuts, other) ^ substring(queries, q, cuts, other)
            if np.int64(popcount(np.uint64(apart))) <= allowed:
                return True
    return False


@numba.njit(inline="always")
@no_type_check
def probe(
    codes: Any, queries: Any, q: Any, cuts: Any, starts: Any, rows: Any, probed: Any, work: Any, counts: Any,
    distances: Any, found: Any, held: Any,
) -> Any:  # fmt: skip
    """Takes the codes of one bucket that were not met before; returns how many are held, -1 when there is no room."""
    table, radius, value = probed
    first, stop = starts[table, value], starts[table, value + 1]
    work[0] += 1 + stop - first
    for place in range(first, stop):
        row = np.int64(rows[table, place])
        if seen_before(codes, row, queries, q, cuts, table, radius):
            continue
        if held == distances.shape[0]:
            return -1
        d = np.int64(0)
        for word in range(codes.shape[1]):
            d += np.int64(popcount(codes[row, word] ^ queries[q, word]))
        distances[held], found[held] = d, row
        held += 1
        counts[d] += 1
    return held


@no_type_check
def search(
    codes: Any, queries: Any, q: Any, cuts: Any, starts: Any, rows: Any, k: Any, most_work: Any, counts: Any,
    distances: Any, found: Any,
) -> Any:  # fmt: skip
    """Grows the radius until the k nearest of a query are proven.

    After radius r = tables * a + b, tables 0 to b were probed with all substrings within a bits of the query's, the
    others within a - 1. A code within r bits has such a substring, or the sum over its substrings would exceed r.

    Args:
        codes: uint64 [n, words].
        queries: uint64 [q, words].
        q: Which query.
        cuts, starts, rows: As `build` makes them.
        k: Hits wanted, at most n.
        most_work: Probes and codes met after which the search gives up.
        counts: int64 [bits + 2], zeros; the last is what `work` came to.
        distances: int64 [room], of codes met.
        found: int64 [room], their rows.

    Returns:
        How many codes were met; all nearest ones are among them. -1 where it gave up, or there was no room.
    """
    codes, queries, cuts, starts, rows = (
        borrowed(codes),
        borrowed(queries),
        borrowed(cuts),
        borrowed(starts),
        borrowed(rows),
    )
    counts, distances, found = borrowed(counts), borrowed(distances), borrowed(found)
    tables, held, near = cuts.shape[0] - 1, 0, 0
    work = counts[-1:]
    for r in range(cuts[tables] + 1):
        table, radius = r % tables, r // tables
        length = cuts[table + 1] - cuts[table]
        asked, mask = substring(queries, q, cuts, table), (1 << radius) - 1
        while mask < (1 << length) and radius <= length:
            probed = table, radius, asked ^ mask
            held = probe(codes, queries, q, cuts, starts, rows, probed, work, counts, distances, found, held)
            if held < 0 or work[0] > most_work:
                return -1
            mask = next_of_weight(mask) if mask > 0 else 1 << length
        near += counts[r]  # complete now: nothing that is r bits away can be met later
        if near >= k:
            break
    return held


@functools.cache
def compiled(name: str) -> Callable[..., Any]:
    """`build` or `search` as machine code that runs without Python's lock."""
    function, signature = {"build": (build, BUILD), "search": (search, SEARCH)}[name]
    with contextlib.suppress(Exception):  # a cache that cannot be written, or read, must not stop anybody
        kept: Callable[..., Any] = numba.njit(signature, nogil=True, cache=True)(function)
        return kept
    made: Callable[..., Any] = numba.njit(signature, nogil=True)(function)
    return made
