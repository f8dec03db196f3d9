"""Figures of codes are what their definitions say, on any number of rows, on samples, between two kinds of codes."""

from types import SimpleNamespace

import numpy as np
import pytest

from xhash_ray.core.bits import unpack
from xhash_ray.exposition import Registry
from xhash_ray.index import generations, health
from xhash_ray.index.shard import load_shard
from xhash_ray.telemetry import attached


def skewed(rows: int, seed: int = 1, width: int = 3) -> np.ndarray:
    """Codes whose bits are set with probabilities of their own, one of them a copy of another."""
    rng = np.random.default_rng(seed)
    bits = rng.random((rows, 8 * width)) < rng.uniform(0.1, 0.9, 8 * width)
    bits[:, 5] = ~bits[:, 2] ^ (rng.random(rows) < 0.05)
    return np.packbits(bits, axis=1, bitorder="little")


@pytest.mark.parametrize("rows", [1, 2, 300, health.ROWS_AT_ONCE + 7])
def test_figures_are_what_the_definitions_say(rows):
    codes = skewed(rows)
    ones = unpack(codes).astype(np.float64)
    found, share = health.health_of(codes), ones.mean(axis=0)
    assert found.size == rows
    np.testing.assert_allclose(found.means, share, atol=1e-12)
    inside = np.clip(share, 1e-12, 1 - 1e-12)
    entropies = [-(p * np.log2(p) + (1 - p) * np.log2(1 - p)) for p in inside]
    assert found.entropy == pytest.approx(np.mean(entropies))
    assert found.imbalance == pytest.approx(max(abs(share - 0.5)))
    assert found.distinct == len({code.tobytes() for code in codes}) / rows
    varying = ones[:, ones.std(axis=0) > 0]
    expected = 0.0
    if varying.shape[1] > 1:
        expected = np.abs(np.corrcoef(varying.T) - np.eye(varying.shape[1])).max()
    assert found.correlation == pytest.approx(expected, abs=1e-9)


def test_stuck_bits_are_like_no_other():
    found = health.health_of(np.full((50, 2), 0b101, np.uint8))
    assert (found.entropy, found.correlation, found.distinct, found.imbalance) == (
        pytest.approx(0, abs=1e-9), 0, 1 / 50, 0.5
    )  # fmt: skip


def test_a_sample_is_spread_over_all_parts_and_no_larger_than_asked():
    parts = [np.full((rows, 1), number, np.uint8) for number, rows in enumerate((1000, 0, 500))]
    sample = health.sample_of(parts, 100)
    assert len(sample) <= 100
    assert np.bincount(sample[:, 0], minlength=3)[0] == pytest.approx(2 * np.bincount(sample[:, 0])[2], abs=2)
    assert len(health.sample_of(parts, 10_000)) == 1500, "all of few"


def test_drift_is_nothing_for_the_same_and_half_for_opposites():
    means = health.health_of(skewed(500)).means
    assert health.drift(means, means) == 0
    assert health.drift(np.zeros(8), np.ones(8)) == 1
    assert health.drift(means + 0.1, means) == pytest.approx(0.1)


def test_bit_means_of_an_index_are_those_of_its_codes(index):
    made = generations.current(index)
    shards = [load_shard(made, number) for number in range(made.shards)]
    found = health.bit_means(made)
    for modality in ("image", "text"):
        codes = np.concatenate([segment.codes[modality] for shard in shards for segment in shard.segments])
        np.testing.assert_allclose(found[modality], unpack(codes).mean(axis=0))
    assert health.bit_means(SimpleNamespace(segments=[])) == {}


def test_figures_are_reported_with_who_looked():
    found = health.health_of(skewed(64))
    with attached(Registry()) as registry:
        health.report(found, "queries", "text", "here")
    labels = {"source": "queries", "modality": "text", "where": "here"}
    value = registry.registry.get_sample_value
    assert value("xhash_code_sample_size", labels) == 64
    assert value("xhash_code_bit_mean_ratio", {**labels, "bound": "lowest"}) == found.means.min()
    assert value("xhash_code_bit_mean_ratio", {**labels, "bound": "highest"}) == found.means.max()
    assert value("xhash_code_correlation_ratio", labels) == found.correlation
