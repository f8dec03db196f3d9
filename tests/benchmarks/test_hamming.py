"""The benchmark runs, compares answers, and names what it does not know."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from xhash_ray.benchmarks import hamming as bench
from xhash_ray.benchmarks.code_sets import code_set
from xhash_ray.benchmarks.hamming import bench_hamming
from xhash_ray.benchmarks.hamming_peers import peer
from xhash_ray.core.hamming import distances_reference
from xhash_ray.errors import BadOption
from xhash_ray.options.bench import BenchHamming


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Little memory to read."""
    monkeypatch.setattr(bench, "BENCHMARK_BYTES", 2**20)


def test_ours_and_numpy_give_the_same_distances():
    result = bench_hamming(BenchHamming(codes=5000, bits=32, queries=("1", "3"), k=7, rounds=1))
    assert [(row["engine"], row["queries"]) for row in result["rows"]] == [
        ("xhash", 1), ("numpy", 1), ("xhash", 3), ("numpy", 3),
    ]  # fmt: skip
    assert all(row["same_distances"] and row["codes_per_s"] > 0 for row in result["rows"])


@pytest.mark.parametrize("name", ["faiss", "usearch", "tables"])
def test_a_peer_that_is_installed_agrees(name):
    if name != "tables":
        pytest.importorskip(name, reason=f"{name} is in the bench extra")
    codes, queries = code_set("clustered", 3000, 4, 64, seed=2)
    expected = np.sort(distances_reference(codes, queries), axis=1)[:, :10]
    np.testing.assert_array_equal(peer(name, threads=2)(codes, queries, 10), expected)


def test_one_query_is_told_as_a_share_of_the_bandwidth():
    options = BenchHamming(codes=5000, queries=("1", "2"), k=7, rounds=1, threads=1, against=())
    beside = bench_hamming(dataclasses.replace(options, against=("tables",), queries=("1",)))["rows"]
    assert [row["of_bandwidth"] is None for row in beside] == [False, True], "tables do not read every code"
    result = bench_hamming(options)
    assert result["threads"] == 1
    assert result["read_gb_per_s"] > 0
    one, two = result["rows"]
    assert one["of_bandwidth"] > 0
    assert two["of_bandwidth"] is None


def test_clusters_are_near_and_of_different_sizes_and_sorting_changes_only_the_order():
    codes, queries = code_set("clustered", 20_000, 50, 64, seed=1)
    assert codes.shape == (20_000, 8)
    distances = distances_reference(codes[:2000], queries)
    near = (distances <= 22).sum(axis=1)  # an eighth of 64 bits, twice, is 14 on average; random codes lie at 32
    assert near.min() > 50
    assert near.max() > 2 * near.min()
    in_order, _ = code_set("sorted", 20_000, 50, 64, seed=1)
    assert sorted(map(bytes, codes)) == list(map(bytes, in_order))
    assert list(map(bytes, in_order)) == sorted(map(bytes, in_order))


def test_an_unknown_distribution_is_named():
    with pytest.raises(BadOption, match="Did you mean 'sorted'"):
        code_set("sorte", 10, 1, 64, 1)


def test_an_unknown_peer_is_named():
    with pytest.raises(BadOption, match="Did you mean 'faiss'"):
        bench_hamming(BenchHamming(codes=10, against=("fais",)))
