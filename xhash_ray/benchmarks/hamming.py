"""`xhash bench hamming`: exact top-k search against other programs, on the same codes, threads and queries."""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from xhash_ray.core.bits import check_bits
from xhash_ray.core.hamming import search
from xhash_ray.errors import BadOption, nearest
from xhash_ray.options import BenchHamming

Search = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # codes, queries, k -> distances [q, k]


def bench_hamming(options: BenchHamming) -> dict[str, Any]:
    """Times our search and its peers in turn.

    Returns:
        `codes`, `bits`, `k`, `threads` and `rows`: per engine and number of queries the median seconds, codes/s, the
        ratio to ours (above 1: ours is faster) and whether the distances agree.

    Raises:
        BadOption: for an unknown peer, or one that is not installed.
    """
    check_bits(options.bits)
    engines = {"xhash": ours, **{name: peer(name) for name in options.against}}
    generator = np.random.default_rng(options.seed)
    codes = generator.integers(0, 256, (options.codes, options.bits // 8), dtype=np.uint8)
    rows = []
    for count in (int(number) for number in options.queries):
        queries = generator.integers(0, 256, (count, options.bits // 8), dtype=np.uint8)
        rows += compare(engines, codes, queries, options)
    return {"codes": options.codes, "bits": options.bits, "k": options.k, "threads": 1, "rows": rows}


def compare(
    engines: dict[str, Search], codes: np.ndarray, queries: np.ndarray, options: BenchHamming
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
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return [
        {
            "engine": name,
            "queries": len(queries),
            "seconds": round(median, 5),
            "codes_per_s": round(len(codes) * len(queries) / median),
            "times_ours": round(median / medians["xhash"], 3),
            "same_distances": bool(np.array_equal(answers[name], answers["xhash"])),
        }
        for name, median in medians.items()
    ]


def ours(codes: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """`core.hamming.search`."""
    return search(codes, queries, k).distances


def plain_numpy(codes: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """What one writes without thinking: all distances, sorted."""
    found = []
    for query in queries:
        distances = np.bitwise_count(codes ^ query).sum(axis=1, dtype=np.int64)
        found.append(np.sort(distances)[:k])
    return np.array(found)


def peer(name: str) -> Search:
    """A peer by name, with one thread, as ours has.

    Raises:
        BadOption: when it is unknown or not installed.
    """
    if name == "numpy":
        return plain_numpy
    if name != "faiss":
        raise BadOption(f"--against {name}", "no such peer", nearest(name, ["faiss", "numpy"]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        raise BadOption("--against faiss", "not installed", "pip install 'xhash-ray[bench]'") from None
    faiss.omp_set_num_threads(1)
    return FaissFlat(faiss)


class FaissFlat:
    """faiss IndexBinaryFlat; adding the codes is not part of the time."""

    def __init__(self, faiss: Any) -> None:
        self.faiss = faiss
        self.index: Any = None

    def __call__(self, codes: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
        """Distances of the k nearest, int64 [q, k]."""
        if self.index is None:
            self.index = self.faiss.IndexBinaryFlat(codes.shape[1] * 8)
            self.index.add(codes)
        distances: np.ndarray = self.index.search(queries, k)[0]
        return distances.astype(np.int64)
