"""`xhash bench hamming`: exact top-k search beside other programs, on the same codes, threads and queries.

The bandwidth of memory is measured in the same run: a search has to read every code once, so bytes of codes over
bandwidth is the least that one query can take.
"""

from __future__ import annotations

import functools
import statistics
import time
from typing import Any

import numpy as np

from xhash_ray.benchmarks.code_sets import code_set
from xhash_ray.benchmarks.hamming_peers import Search, peer
from xhash_ray.core.bandwidth import BENCHMARK_BYTES, read_bandwidth
from xhash_ray.core.bits import check_bits
from xhash_ray.core.hamming import search
from xhash_ray.core.scanning import check_threads
from xhash_ray.errors import BadInput
from xhash_ray.options.bench import BenchHamming
from xhash_ray.progress import Progress

GIGA = 1e9


def bench_hamming(options: BenchHamming) -> dict[str, Any]:
    """Times our search and its peers in turn.

    Returns:
        `codes`, `bits`, `k`, `threads`, `distribution`; `read_gb_per_s`, bandwidth of memory on as many threads;
        `rows`: per engine and number of queries the median seconds, codes/s, the ratio to ours (above 1: ours is
        faster), whether the distances agree, and for one query the share of the bandwidth.

    Raises:
        BadOption: for an unknown distribution or peer, or one that is not installed.
        BadInput: for a bit length that no code has, no codes or queries, k or threads below 1.
    """
    check_bits(options.bits)
    threads = check_threads(options.threads)
    counts = [int(number) for number in options.queries]
    if options.codes < 1 or min(counts) < 1:
        raise BadInput("bench hamming", f"{options.codes} codes, {min(counts)} queries", "Give at least one of each")
    engines: dict[str, Search] = {"xhash": functools.partial(ours, threads=threads)}
    engines |= {name: peer(name, threads) for name in options.against}
    progress = Progress("bench hamming")
    codes, queries = code_set(options.distribution, options.codes, max(counts), options.bits, options.seed)
    progress.say(f"{options.codes:,} {options.distribution} codes of {options.bits} bits")
    bandwidth = read_bandwidth(threads, BENCHMARK_BYTES)
    rows = []
    for count in counts:
        rows += compare(engines, codes, queries[:count], options, bandwidth)
        progress.say(f"{count} queries at once: done")
    sizes = {"codes": options.codes, "bits": options.bits, "k": options.k, "threads": threads}
    return {**sizes, "distribution": options.distribution, "read_gb_per_s": round(bandwidth / GIGA, 1), "rows": rows}


def compare(
    engines: dict[str, Search], codes: np.ndarray, queries: np.ndarray, options: BenchHamming, bandwidth: float
) -> list[dict[str, Any]]:
    """One row per engine; rounds alternate, so that a machine that drifts drifts for all."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(codes, queries[:1], options.k)  # the first call builds, allocates, loads
    answers: dict[str, np.ndarray] = {}
    for _ in range(options.rounds):
        for name, engine in engines.items():
            started_s = time.perf_counter()
            answers[name] = engine(codes, queries, options.k)
            seconds[name].append(time.perf_counter() - started_s)
    reads_all = len(queries) == 1  # but tables look only at some codes
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return [
        {
            "engine": name,
            "queries": len(queries),
            "seconds": round(median, 6),
            "codes_per_s": round(len(codes) * len(queries) / median),
            "times_ours": round(median / medians["xhash"], 3),
            "same_distances": bool(np.array_equal(answers[name], answers["xhash"])),
            "of_bandwidth": round(codes.nbytes / median / bandwidth, 3) if reads_all and name != "tables" else None,
        }
        for name, median in medians.items()
    ]


def ours(codes: np.ndarray, queries: np.ndarray, k: int, threads: int) -> np.ndarray:
    """`core.hamming.search`."""
    return search(codes, queries, k, threads=threads).distances
