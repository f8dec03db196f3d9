"""The benchmark runs, compares answers, and names what it does not know."""

from __future__ import annotations

import pytest

from xhash_ray.benchmarks.hamming import bench_hamming
from xhash_ray.errors import BadOption
from xhash_ray.options import BenchHamming


def test_ours_and_numpy_give_the_same_distances():
    result = bench_hamming(BenchHamming(codes=5000, bits=32, queries=("1", "3"), k=7, rounds=1))
    assert [(row["engine"], row["queries"]) for row in result["rows"]] == [
        ("xhash", 1), ("numpy", 1), ("xhash", 3), ("numpy", 3),
    ]  # fmt: skip
    assert all(row["same_distances"] and row["codes_per_s"] > 0 for row in result["rows"])


def test_an_unknown_peer_is_named():
    with pytest.raises(BadOption, match="Did you mean 'faiss'"):
        bench_hamming(BenchHamming(codes=10, against=("fais",)))
