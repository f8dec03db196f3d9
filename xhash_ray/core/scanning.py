"""Who scans what: a search cut into pieces for threads, each piece a scan with its own state.

queries   threads   pieces
1         2         2 ranges of codes, the query in each
64        2         2 groups of 32 queries, each over all codes
64        16        4 groups of 16 queries x 4 ranges of codes
"""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from xhash_ray.core.shards import even_split
from xhash_ray.core.topk import Hits, merge
from xhash_ray.errors import BadInput

GROUP_QUERIES = 16  # a group of so many reads memory seldom enough to be bound by arithmetic
PAIRS_PER_THREAD = 1_000_000  # fewer are compared sooner than a thread wakes
SPARE_ROOM = 64
STATE_BYTES = 128 * 2**20  # hits that a piece may hold
HIT_BYTES = 10
PADDED_CODES = 65_536  # codes that are no whole words are copied, so many at a time
WORD_BYTES = 8
ABSENT = 2**15  # farther than any code


def check_threads(threads: int | None) -> int:
    """The number of threads to use: those given, or the cores this process may use.

    Raises:
        BadInput: for fewer than one.
    """
    if threads is not None and threads < 1:
        raise BadInput("threads", str(threads), "Give at least 1")
    if threads is None and not hasattr(os, "sched_getaffinity"):  # macOS
        return os.cpu_count() or 1
    return threads or len(os.sched_getaffinity(0))


def nearest(
    parts: Sequence[np.ndarray],
    queries: np.ndarray,
    k: int,
    threads: int,
    masks: Sequence[np.ndarray],
    limits: np.ndarray | None = None,
) -> list[Hits]:
    """Of each part of the codes the nearest to each query, with all that can be among the k nearest of all parts.

    Args:
        parts: uint8 [n, bits / 8] each; rows are counted within a part.
        queries: uint8 [q, bits / 8].
        k: At least 1.
        threads: At most so many.
        masks: bool [n] of each part, empty where all codes count.
        limits: int64 [q], distances that need not be looked at, nor anything beyond them.

    Returns:
        Per part min(k, n) entries for each query, by (distance, row); at the end ABSENT ones, for codes that are
        masked, beyond the limit, or farther than k others.
    """
    room = STATE_BYTES // (HIT_BYTES * (2 * k + SPARE_ROOM))
    groups, ranges = pieces(sum(map(len, parts)), len(queries), threads, room)
    highest = np.full(len(queries), queries.shape[1] * 8 + 1)
    allowed = highest if limits is None else np.minimum(limits, highest)
    tasks = [
        functools.partial(
            nearest_in_ranges, parts, padded_words(queries[a:b]), k, masks, cut(parts, start, stop), allowed[a:b]
        )
        for a, b in groups
        for start, stop in ranges
    ]
    found = run_all(tasks, threads)
    by_group = [found[number * len(ranges) : (number + 1) * len(ranges)] for number in range(len(groups))]
    answers = []
    for part in range(len(parts)):
        none = [Hits(*np.zeros((2, b - a, 0), np.int64)) for a, b in groups]
        mine = [[hits for task in group for number, hits in task if number == part] for group in by_group]
        merged = [joined(each, empty, k) for each, empty in zip(mine, none, strict=True)]
        answers.append(Hits(*(np.concatenate(each) for each in zip(*merged, strict=True))))
    return answers


def joined(found: Sequence[Hits], empty: Hits, k: int) -> Hits:
    """What the ranges of one part hold, most often one, whose hits are in order already."""
    if len(found) > 1:
        return merge(found, k)
    return found[0] if found else empty


def cut(parts: Sequence[np.ndarray], start: int, stop: int) -> list[tuple[int, int, int]]:
    """A range of all codes as (part, start, stop) with rows counted within parts."""
    ranges, first = [], 0
    for number, codes in enumerate(parts):
        begin, end = max(start - first, 0), min(stop - first, len(codes))
        if begin < end:
            ranges.append((number, begin, end))
        first += len(codes)
    return ranges


def nearest_in_ranges(
    parts: Sequence[np.ndarray],
    queries: np.ndarray,
    k: int,
    masks: Sequence[np.ndarray],
    ranges: Sequence[tuple[int, int, int]],
    limits: np.ndarray,
) -> list[tuple[int, Hits]]:
    """One thread's ranges in turn: what k codes have beaten already need not be looked at in later ones.

    Codes at the k-th distance itself are: which of them come first is for the caller to say.
    """
    found, seen = [], np.zeros((len(queries), queries.shape[1] * 64 + 2), np.int64)
    for part, start, stop in ranges:
        hits, counts = nearest_in_range(parts[part], queries, k, masks[part], start, stop, limits)
        found.append((part, hits))
        seen[:, : counts.shape[1]] += counts
        enough: np.ndarray = seen.cumsum(axis=1) >= k
        limits = np.minimum(limits, np.where(enough[:, -1], enough.argmax(axis=1) + 1, limits))
    return found


def pieces(
    codes: int, queries: int, threads: int, most: int = 2**40
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(start, end) of groups of at most so many queries and of ranges of codes; as many pieces as threads that pay."""
    used = max(1, min(threads, codes * queries // PAIRS_PER_THREAD))
    groups = max(1, min(used, queries // GROUP_QUERIES), -(-queries // max(1, most)))
    return even_split(queries, groups), even_split(codes, max(1, min(codes, -(-used // groups))))


def nearest_in_range(
    codes: np.ndarray, queries: np.ndarray, k: int, mask: np.ndarray, start: int, stop: int, limits: np.ndarray
) -> tuple[Hits, np.ndarray]:
    """The nearest of codes[start:stop] below the limits, at most k, then ABSENT; and how many were met by distance."""
    from xhash_ray.core.scan import compiled  # the compiler is loaded only when it pays

    wanted = np.full(len(queries), min(k, stop - start))
    room, bits = 2 * int(wanted[0]) + SPARE_ROOM, codes.shape[1] * 8
    state = np.zeros((len(queries), 3), dtype=np.int64)
    state[:, 0] = limits
    counts = np.zeros((len(queries), bits + 2), dtype=np.int64)
    distances, rows = np.empty((len(queries), room), np.uint16), np.empty((len(queries), room), np.int64)
    scan = compiled("scan")
    for first, words in words_of(codes, start, stop):
        shown = mask[first : first + len(words)]
        scan(words, queries, shown, first, wanted, state, counts, distances, rows)
    found = np.full((2, len(queries), int(wanted[0])), ABSENT, dtype=np.int64)
    compiled("order")(wanted, state, distances, rows, found[0], found[1])
    return Hits(*found), counts


def count_below(
    codes: np.ndarray, queries: np.ndarray, limits: np.ndarray, threads: int, mask: np.ndarray
) -> Int64[np.ndarray, " q"]:
    """How many codes are nearer to each query than its limit."""
    used = max(1, min(threads, len(codes) * len(queries) // PAIRS_PER_THREAD))
    words, wide_limits = padded_words(queries), np.ascontiguousarray(limits, dtype=np.int64)
    tasks = [
        functools.partial(count_in_range, codes, words, wide_limits, mask, start, stop)
        for start, stop in even_split(len(codes), used)
    ]
    return np.sum(run_all(tasks, threads), axis=0)


def count_in_range(
    codes: np.ndarray, queries: np.ndarray, limits: np.ndarray, mask: np.ndarray, start: int, stop: int
) -> np.ndarray:
    """`count_below` of codes[start:stop]."""
    from xhash_ray.core.scan import compiled

    counts = np.zeros(len(queries), dtype=np.int64)
    for first, words in words_of(codes, start, stop):
        compiled("count_below")(words, queries, mask[first : first + len(words)], limits, counts)
    return counts


def words_of(codes: np.ndarray, start: int, stop: int) -> Sequence[tuple[int, np.ndarray]] | Any:
    """(row, words) of codes[start:stop]: all at once and in place where they are whole words, else copied in blocks."""
    if codes.shape[1] % WORD_BYTES == 0 and in_place(codes):
        return [(start, padded_words(codes[start:stop]))]
    blocks = range(start, stop, PADDED_CODES)
    return ((first, padded_words(codes[first : min(first + PADDED_CODES, stop)])) for first in blocks)


def in_place(codes: np.ndarray) -> bool:
    """Whether codes can be read where they are."""
    return bool(codes.flags.c_contiguous and codes.ctypes.data % WORD_BYTES == 0)


def padded_words(codes: UInt8[np.ndarray, "n bytes"]) -> UInt64[np.ndarray, "n words"]:
    """Codes as 64-bit words, in place where their length and alignment allow, filled up with zeros otherwise."""
    width = -(-codes.shape[1] // WORD_BYTES) * WORD_BYTES
    if width != codes.shape[1] or not in_place(codes):
        wide = np.zeros((len(codes), width), dtype=np.uint8)
        wide[:, : codes.shape[1]] = codes
        codes = wide
    return codes.view(np.uint64)


def run_all(tasks: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    """Results in order; this thread takes the first task, so that a search on one thread wakes nobody."""
    others = [pool(threads - 1).submit(task) for task in tasks[1:]] if threads > 1 else []
    first = [task() for task in (tasks[:1] if threads > 1 else tasks)]
    return [*first, *(each.result() for each in others)]


@functools.cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Threads that stay: starting them costs as much as scanning half a million codes."""
    os.register_at_fork(after_in_child=pool.cache_clear)  # a child has none of its parent's threads
    return ThreadPoolExecutor(threads, thread_name_prefix="xhash-scan")
