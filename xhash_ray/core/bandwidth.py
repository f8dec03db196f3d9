"""How fast this machine reads memory: what a scan, which reads every code once, can be held against."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from xhash_ray.core.scanning import check_threads
from xhash_ray.core.shards import even_split

READ_BYTES = 128 * 2**20  # more than caches of most processors hold, and read in a tenth of a second
ROUNDS = 3
BENCHMARK_BYTES = 512 * 2**20  # far more than any cache holds, for commands that may take a second


def read_bandwidth(threads: int | None = None, size_bytes: int = READ_BYTES, rounds: int = ROUNDS) -> float:
    """Bytes/s at which memory is read by plain loops: the median of reading one array again and again.

    Args:
        threads: Cores to use; all this process may use by default.
        size_bytes: Of the array, at least 8; one that a cache holds tells of that cache.
        rounds: Times that it is read, after once that does not count.
    """
    used = check_threads(threads)
    words = np.ones(size_bytes // 8, np.uint64)  # written: zeros would be one page of the system's
    parts = [words[start:stop] for start, stop in even_split(len(words), used)]
    with ThreadPoolExecutor(used) as pool:
        times = [read_once(pool, parts) for _ in range(1 + rounds)]
    return words.nbytes / max(statistics.median(times[1:]), 1e-9)


def read_once(pool: ThreadPoolExecutor, parts: list[np.ndarray]) -> float:
    """Seconds to read all parts, a thread each (numpy leaves the interpreter to others meanwhile)."""
    started_s = time.perf_counter()
    list(pool.map(np.bitwise_xor.reduce, parts))
    return time.perf_counter() - started_s
