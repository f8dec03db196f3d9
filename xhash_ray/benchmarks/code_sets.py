"""Codes to measure on: random ones, and such as learned hash functions make."""

from __future__ import annotations

import numpy as np

from xhash_ray.errors import BadOption, nearest

DISTRIBUTIONS = ("random", "clustered", "sorted")
CLUSTER_CODES = 5000  # codes around one centre, in the mean

ROWS_AT_ONCE = 1_000_000


def code_set(distribution: str, codes: int, queries: int, bits: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes and queries of the same kind.

    random     every bit a coin toss
    clustered  each code an eighth of its bits away from one of codes / 5000 centres; clusters differ widely in size
               (a query from a large one has many near codes)
    sorted     clustered, in ascending order: neighbours in the file are neighbours in space

    Returns:
        uint8 [codes, bits / 8] and uint8 [queries, bits / 8].

    Raises:
        BadOption: for an unknown distribution.
    """
    if distribution not in DISTRIBUTIONS:
        raise BadOption("--distribution", f"no '{distribution}'", nearest(distribution, DISTRIBUTIONS))
    generator = np.random.default_rng(seed)
    if distribution == "random":
        drawn = [generator.integers(0, 256, (count, bits // 8), dtype=np.uint8) for count in (codes, queries)]
        return drawn[0], drawn[1]
    centres = centres_of(codes, bits, seed)
    base, asked = (around(generator, centres, count, bits) for count in (codes, queries))
    return (base[np.lexsort(base.T[::-1])] if distribution == "sorted" else base), asked


def centres_of(codes: int, bits: int, seed: int) -> np.ndarray:
    """Centres of the clusters of so many codes: uint8 [codes / 5000, bits / 8]."""
    shape = (max(1, codes // CLUSTER_CODES), bits // 8)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def around(generator: np.random.Generator, centres: np.ndarray, count: int, bits: int) -> np.ndarray:
    """Codes near centres; the share of each centre falls with its number."""
    made = np.empty((count, bits // 8), dtype=np.uint8)
    for start in range(0, count, ROWS_AT_ONCE):
        rows = min(ROWS_AT_ONCE, count - start)
        chosen = (len(centres) * generator.random(rows) ** 2).astype(np.int64)
        made[start : start + rows] = centres[chosen] ^ noise(generator, rows, bits)
    return made


def noise(generator: np.random.Generator, rows: int, bits: int) -> np.ndarray:
    """Bytes in which an eighth of the bits are 1: three random bytes."""
    drawn = generator.integers(0, 256, (3, rows, bits // 8), dtype=np.uint8)
    eighth: np.ndarray = drawn[0] & drawn[1] & drawn[2]
    return eighth
