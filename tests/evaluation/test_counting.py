"""Counting pairs: the compiled loop is the definition, for any length, labels, levels and threads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.hamming import distances_reference
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.evaluation import counting
from xhash_ray.evaluation.counting import (
    check_countable,
    check_threads,
    count_compiled,
    count_pairs,
    count_pairs_reference,
    padded_words,
)
from xhash_ray.evaluation.relevance import pack_labels


def some_pairs(seed: int, q: int, n: int, width: int, classes: int) -> tuple[np.ndarray, ...]:
    """Codes of both sides, skewed so that distances differ in frequency, and packed labels."""
    rng = np.random.default_rng(seed)
    codes = [
        rng.integers(0, 256, (m, width), dtype=np.uint8) & rng.integers(0, 256, (m, 1), dtype=np.uint8) for m in (q, n)
    ]
    return *codes, *(pack_labels(rng.random((m, classes)) < 0.2) for m in (q, n))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 999),
    st.integers(0, 9),
    st.sampled_from([0, 1, 2, 511, 512, 513, 8192, 9000]),
    st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 128]),
    st.sampled_from([1, 24, 64, 65, 130]),
    st.integers(2, 9),
    st.integers(1, 3),
)
def test_the_compiled_loop_counts_what_the_definition_counts(seed, q, n, width, classes, levels, threads):
    given_pairs = some_pairs(seed, q, n, width, classes)
    expected = count_pairs_reference(*given_pairs, levels)
    np.testing.assert_array_equal(count_compiled(*given_pairs, levels, threads), expected)
    np.testing.assert_array_equal(count_pairs(*given_pairs, levels, threads), expected)


def test_the_definition_by_brute_force():
    queries, codes, query_labels, labels = some_pairs(3, 4, 50, 2, 6)
    counts = count_pairs_reference(queries, codes, query_labels, labels, 3)
    distances = distances_reference(codes, queries)
    for query in range(4):
        for distance in range(17):
            shared = [
                min(2, int(query_labels[query, 0] & labels[item, 0]).bit_count())
                for item in range(50)
                if distances[query, item] == distance
            ]
            assert counts[query, distance].tolist() == [shared.count(level) for level in range(3)]


@pytest.mark.parametrize("few", [0, 10**9])
def test_either_way_gives_the_same(monkeypatch, few):
    monkeypatch.setattr(counting, "FEW_PAIRS", few)
    given_pairs = some_pairs(1, 5, 3000, 8, 24)
    np.testing.assert_array_equal(count_pairs(*given_pairs, 4), count_pairs_reference(*given_pairs, 4))


def test_a_million_equal_codes_fill_one_counter():
    codes, labels = np.zeros((1_000_001, 8), np.uint8), np.ones((1_000_001, 1), np.uint64)
    counts = count_pairs(codes[:1], codes, labels[:1], labels)
    assert counts[0, 0].tolist() == [0, 1_000_001]
    assert counts.sum() == 1_000_001


def test_arrays_that_cannot_be_written_are_read():
    given_pairs = some_pairs(2, 3, 2000, 8, 24)
    for array in given_pairs:
        array.flags.writeable = False
    np.testing.assert_array_equal(count_compiled(*given_pairs, 2, 1), count_pairs_reference(*given_pairs, 2))


def test_it_compiles_where_nothing_can_be_kept(monkeypatch):
    import numba

    from xhash_ray.core import compiling
    from xhash_ray.evaluation import kernel

    calls, njit = [], numba.njit

    def without_cache(signature, **options):
        calls.append(options)
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(signature, **options)

    monkeypatch.setattr(compiling.numba, "njit", without_cache)
    loop = kernel.compiled.__wrapped__()
    counts = np.zeros((1, 2, 18), np.int64)
    zeros = np.zeros((1, 1), np.uint64)
    loop(counts, zeros, zeros, zeros, zeros, 2)
    assert counts.sum() == 1
    assert [options.get("cache", False) for options in calls] == [True, False]


def test_short_codes_are_padded_with_zeros():
    words = padded_words(np.array([[1, 2, 3]], np.uint8))
    assert words.tolist() == [[1 + 2 * 256 + 3 * 65536]]


def test_what_cannot_be_counted_is_refused():
    queries, codes, query_labels, labels = some_pairs(0, 2, 3, 2, 5)
    with pytest.raises(Mismatch, match="Hamming search"):
        check_countable(queries[:, :1], codes, 2)
    with pytest.raises(BadInput, match="1 levels"):
        count_pairs(queries, codes, query_labels, labels, 1)
    with pytest.raises(BadInput, match="0 bits"):
        count_pairs(queries[:, :0], codes[:, :0], query_labels, labels)
    with pytest.raises(BadInput, match="threads: 0"):
        count_pairs(queries, codes, query_labels, labels, threads=0)


def test_all_cores_are_used_unless_told():
    assert check_threads(None) >= 1
    assert check_threads(3) == 3
