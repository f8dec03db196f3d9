"""Other programs, and our own tables, that search packed codes exactly, behind one signature."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from xhash_ray.core.tables import Tables, build_tables, search_tables
from xhash_ray.errors import BadOption, nearest

Search = Callable[[np.ndarray, np.ndarray, int], np.ndarray]  # codes, queries, k -> distances [q, k]
PEERS = ("faiss", "usearch", "numpy", "tables")


def peer(name: str, threads: int) -> Search:
    """A peer by name, with as many threads as ours has (numpy knows only one).

    Raises:
        BadOption: when it is unknown or not installed.
    """
    if name not in PEERS:
        raise BadOption(f"--against {name}", "no such peer", nearest(name, PEERS))
    if name == "numpy":
        return plain_numpy
    if name == "tables":
        return OurTables(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads would take the cores from whoever is next
    try:
        module = importlib.import_module("faiss" if name == "faiss" else "usearch.index")
    except ImportError:
        raise BadOption(f"--against {name}", "not installed", "pip install 'xhash-ray[bench]'") from None
    return FaissFlat(module, threads) if name == "faiss" else UsearchExact(module, threads)


def plain_numpy(codes: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """What one writes without thinking: all distances, sorted."""
    found = []
    for query in queries:
        distances = np.bitwise_count(codes ^ query).sum(axis=1, dtype=np.int64)
        found.append(np.sort(distances)[:k])
    return np.array(found)


class FaissFlat:
    """faiss IndexBinaryFlat; adding the codes is not part of the time."""

    def __init__(self, faiss: Any, threads: int) -> None:
        self.faiss = faiss
        self.index: Any = None
        faiss.omp_set_num_threads(threads)

    def __call__(self, codes: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
        """Distances of the k nearest, int64 [q, k]."""
        if self.index is None:
            self.index = self.faiss.IndexBinaryFlat(codes.shape[1] * 8)
            self.index.add(codes)
        distances: np.ndarray = self.index.search(queries, min(k, len(codes)))[0]
        return distances.astype(np.int64)


class OurTables:
    """Our own multi-index hashing, beside the scan; building the tables is not part of the time."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.tables: Tables | None = None

    def __call__(self, codes: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
        """Distances of the k nearest, int64 [q, k]."""
        if self.tables is None:
            self.tables = build_tables(codes, self.threads)
        return search_tables(self.tables, queries, k, threads=self.threads).distances


class UsearchExact:
    """usearch's exact search over packed bits."""

    def __init__(self, module: Any, threads: int) -> None:
        self.module, self.threads = module, threads

    def __call__(self, codes: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
        """Distances of the k nearest, int64 [q, k]."""
        kind = {"metric": self.module.MetricKind.Hamming, "exact": True, "threads": self.threads}
        found = self.module.search(codes, queries, min(k, len(codes)), **kind)
        return np.asarray(found.distances).astype(np.int64).reshape(len(queries), -1)
