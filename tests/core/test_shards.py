"""Sharding by id: the hash is fixed for ever, the shard depends on the id alone, the shards are even."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.shards import even_split, id_hash, shard_of
from xhash_ray.errors import BadInput

GOLDEN = {
    "": 0xB4B2797457A0A6E4,
    "0": 0x75DFCD439D7D2B84,
    "pair-000042": 0x58E498ECF0BE133D,
    "häuser/ü-1.jpg": 0x61D7BDF10414B823,
    "写真": 0x9EB80B80565B2114,
}
identities = st.lists(st.text(max_size=12), max_size=20)


def blake(name: str) -> int:
    """The hash of an id, computed without numpy."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), "little")


@pytest.mark.parametrize(("name", "value"), GOLDEN.items())
def test_golden_hashes(name, value):
    assert id_hash([name]).tolist() == [value]


@settings(deadline=None, max_examples=50)
@given(identities)
def test_the_hash_is_blake2b_little_endian(names):
    hashes = id_hash(names)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [blake(name) for name in names]


@settings(deadline=None, max_examples=50)
@given(identities, st.integers(1, 65_536))
def test_shards_are_in_range(names, shards):
    owners = shard_of(names, shards)
    assert owners.dtype == np.int64
    assert all(0 <= owner < shards for owner in owners)


@settings(deadline=None, max_examples=50)
@given(st.permutations([f"pair-{number}" for number in range(20)]), st.integers(1, 9))
def test_the_shard_of_an_id_does_not_depend_on_its_neighbours(names, shards):
    together = shard_of(names, shards).tolist()
    assert together == [int(shard_of([name], shards)[0]) for name in names]


@pytest.mark.parametrize("name", [*GOLDEN, "pair-5770", "pair-191726"])
@pytest.mark.parametrize("shards", [1, 2, 4, 7, 1000, 65_535, 65_536])
def test_the_shard_is_the_documented_arithmetic(name, shards):
    assert shard_of([name], shards).tolist() == [(blake(name) >> 32) * shards >> 32]


@pytest.mark.parametrize("pattern", ["{}", "pair-{:06d}", "https://images.example/{}/full.jpg"])
def test_shards_are_even_within_five_percent(pattern):
    counts = np.bincount(shard_of([pattern.format(number) for number in range(20_000)], 7), minlength=7)
    assert counts.sum() == 20_000
    assert (abs(counts - 20_000 / 7) < 0.05 * 20_000 / 7).all()


@pytest.mark.parametrize("shards", [-1, 0, 65_537])
def test_impossible_numbers_of_shards_are_refused(shards):
    with pytest.raises(BadInput, match="number of shards"):
        shard_of(["a"], shards)


@pytest.mark.parametrize(
    ("total", "parts", "expected"),
    [
        (0, 1, [(0, 0)]),
        (0, 3, [(0, 0), (0, 0), (0, 0)]),
        (1, 1, [(0, 1)]),
        (2, 3, [(0, 1), (1, 2), (2, 2)]),
        (9, 2, [(0, 5), (5, 9)]),
        (10, 4, [(0, 3), (3, 6), (6, 8), (8, 10)]),
    ],
)
def test_even_split_table(total, parts, expected):
    assert even_split(total, parts) == expected


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 100))
def test_even_split_covers_everything_once_in_even_parts(total, parts):
    split = even_split(total, parts)
    sizes = [end - start for start, end in split]
    assert len(split) == parts
    assert (split[0][0], split[-1][1]) == (0, total)
    assert all(first[1] == second[0] for first, second in pairwise(split))
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 0
