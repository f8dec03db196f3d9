"""How much the bits of codes say: balance, entropy, correlation, distinctness. Pure; of a sample, at any size.

Gates ask it before a generation is published, endpoints of what they load and of the queries that come, the exporter of
what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from xhash_ray import telemetry
from xhash_ray.core.bits import unpack
from xhash_ray.core.hamming import to_words
from xhash_ray.index.generations import Generation
from xhash_ray.index.segments import MODALITIES

SAMPLE = 100_000
ROWS_AT_ONCE = 8192  # below 2^24, so that counts in float32 are exact


class Health(NamedTuple):
    """Figures of a sample of codes.

    Attributes:
        size: Codes in the sample.
        means: float64 [bits], each bit's share of ones.
        entropy: Mean over the bits, 0 to 1.
        correlation: |correlation| of the two most alike bits; 1 is a duplicate, or its opposite.
        distinct: Share of distinct codes.
    """

    size: int
    means: Float[np.ndarray, " bits"]
    entropy: float
    correlation: float
    distinct: float

    @property
    def imbalance(self) -> float:
        """Of the most uneven bit, |share of ones - 1/2|; 0.5 is a stuck bit."""
        return float(np.abs(self.means - 0.5).max())


def health_of(codes: UInt8[np.ndarray, "n bytes"]) -> Health:
    """The figures of some codes, at least one."""
    ones, together = counts_of(codes)
    size = len(codes)
    means = ones / size
    inside = np.clip(means, 1e-12, 1 - 1e-12)
    entropy = -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside))
    correlation = correlation_of(means, together / size)
    return Health(size, means, float(entropy.mean()), correlation, distinct_of(codes) / size)


def counts_of(codes: UInt8[np.ndarray, "n bytes"]) -> tuple[np.ndarray, np.ndarray]:
    """How many codes have each bit, float64 [bits], and each two bits, float64 [bits, bits], set."""
    bits = codes.shape[1] * 8
    ones, together = np.zeros(bits), np.zeros((bits, bits))
    for start in range(0, len(codes), ROWS_AT_ONCE):
        block = unpack(codes[start : start + ROWS_AT_ONCE]).astype(np.float32)
        ones += block.sum(axis=0)
        together += block.T @ block
    return ones, together


def correlation_of(means: Float[np.ndarray, " bits"], together: Float[np.ndarray, "bits bits"]) -> float:
    """|correlation| of the two most alike bits, a stuck bit being like none; 0 for a single bit."""
    spread = np.sqrt(means * (1 - means))
    found = np.abs(together - np.outer(means, means)) / np.maximum(np.outer(spread, spread), 1e-12)
    np.fill_diagonal(found, 0)
    return min(1.0, float(found.max()))


def distinct_of(codes: UInt8[np.ndarray, "n bytes"]) -> int:
    """How many different codes there are; sorted word by word, which keeps no other thread waiting."""
    words = to_words(codes)
    ordered = words[np.lexsort(words.T)]
    return 1 + int((ordered[1:] != ordered[:-1]).any(axis=1).sum())


def sample_of(parts: Sequence[UInt8[np.ndarray, "_ bytes"]], size: int = SAMPLE) -> UInt8[np.ndarray, "n bytes"]:
    """At most `size` codes, evenly spread over several arrays, at least one of which is given."""
    total = sum(map(len, parts))
    step = max(1, -(-total // size))
    return np.concatenate([part[::step] for part in parts])[:size]


def bit_means(generation: Generation) -> Mapping[str, Float[np.ndarray, " bits"]]:
    """Each bit's share of ones in all codes of an index, by modality; nothing for an index without codes.

    As the facts of its segments have it, so nothing is read; deleted pairs count.
    """
    segments = [facts for facts in generation.segments if facts.rows]
    rows = sum(facts.rows for facts in segments)
    return {each: np.sum([facts.ones[each] for facts in segments], axis=0) / rows for each in MODALITIES if rows}


def drift(queries: Float[np.ndarray, " bits"], index: Float[np.ndarray, " bits"]) -> float:
    """Mean over the bits of |share of ones of queries - of the index|: 0 for the same, 0.5 and more for strangers."""
    return float(np.abs(queries - index).mean())


def report(health: Health, source: str, modality: str, where: str) -> None:
    """Reports figures of one modality's codes.

    Args:
        health: The figures.
        source: "index" or "queries".
        modality: "image" or "text".
        where: Who looked: the id of a replica, or the name of an index.
    """
    labels = {"source": source, "modality": modality, "where": where}
    telemetry.set("xhash_code_bit_mean_ratio", float(health.means.min()), bound="lowest", **labels)
    telemetry.set("xhash_code_bit_mean_ratio", float(health.means.max()), bound="highest", **labels)
    telemetry.set("xhash_code_entropy_ratio", health.entropy, **labels)
    telemetry.set("xhash_code_correlation_ratio", health.correlation, **labels)
    telemetry.set("xhash_code_distinct_ratio", health.distinct, **labels)
    telemetry.set("xhash_code_sample_size", health.size, **labels)
