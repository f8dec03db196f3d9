"""Exact Hamming search: the fast kernel gives what the definition gives, on every shape and kind of data."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core import hamming
from xhash_ray.core.hamming import distances_reference, search, search_reference, to_words
from xhash_ray.errors import BadInput, Mismatch

SMALL_BLOCK = 8


def random_codes(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Every bit a coin toss."""
    return rng.integers(0, 256, (n, width), dtype=np.uint8)


def duplicated_codes(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Three codes, many times."""
    return random_codes(rng, 3, width)[rng.integers(0, 3, n)]


def clustered_codes(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Four centres, each code one bit away from one."""
    codes = random_codes(rng, 4, width)[rng.integers(0, 4, n)]
    codes[np.arange(n), rng.integers(0, width, n)] ^= (1 << rng.integers(0, 8, n)).astype(np.uint8)
    return codes


def sorted_codes(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """In ascending order of bytes."""
    codes = random_codes(rng, n, width)
    return codes[np.lexsort(codes.T[::-1])]


def approaching_codes(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Farthest from zero first, so that every block improves on the last."""
    codes = random_codes(rng, n, width)
    return codes[np.argsort(-np.bitwise_count(codes).sum(axis=1), kind="stable")]


KINDS = [random_codes, duplicated_codes, clustered_codes, sorted_codes, approaching_codes]


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    """Blocks so small that a handful of codes spans several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "BLOCK_CODES", SMALL_BLOCK)
        yield


def assert_same_answer(codes: np.ndarray, queries: np.ndarray, k: int) -> None:
    """The kernel and the definition agree, entry by entry."""
    fast, slow = search(codes, queries, k), search_reference(codes, queries, k)
    assert fast.distances.dtype == fast.rows.dtype == np.int64
    np.testing.assert_array_equal(fast.distances, slow.distances)
    np.testing.assert_array_equal(fast.rows, slow.rows)


@settings(deadline=None, max_examples=80)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 40),
    width=st.integers(1, 16),
    queries=st.integers(0, 4),
    k=st.integers(1, 50),
)
def test_search_is_its_definition(kind, seed, n, width, queries, k):
    rng = np.random.default_rng(seed)
    assert_same_answer(kind(rng, n, width), random_codes(rng, queries, width), k)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, SMALL_BLOCK - 1, SMALL_BLOCK, SMALL_BLOCK + 1, 3 * SMALL_BLOCK, 25])
@pytest.mark.parametrize("k", [1, SMALL_BLOCK - 1, SMALL_BLOCK, SMALL_BLOCK + 1, 26])
def test_search_is_its_definition_at_block_edges(kind, n, k):
    rng = np.random.default_rng(n * 100 + k)
    assert_same_answer(kind(rng, n, 8), kind(rng, 3, 8), k)


@pytest.mark.parametrize("width", [*range(1, 17), 32, 128])
def test_search_is_its_definition_at_every_width(width):
    rng = np.random.default_rng(width)
    assert_same_answer(random_codes(rng, 20, width), random_codes(rng, 2, width), 5)


def test_search_reads_views_that_are_not_contiguous():
    codes = random_codes(np.random.default_rng(1), 40, 16)
    assert_same_answer(codes[::2, :8], codes[1:4, 8:], 7)


@pytest.mark.parametrize("k", [1, 10])
def test_no_codes_give_no_hits(k):
    hits = search(np.empty((0, 8), np.uint8), np.zeros((3, 8), np.uint8), k)
    assert hits.distances.shape == hits.rows.shape == (3, 0)


def test_more_hits_than_codes_gives_all_codes():
    codes = random_codes(np.random.default_rng(2), 11, 8)
    hits = search(codes, codes[:2], 100)
    assert hits.rows.shape == (2, 11)
    assert sorted(hits.rows[0].tolist()) == list(range(11))


def test_ties_go_to_the_lower_row_across_blocks():
    codes = np.zeros((3 * SMALL_BLOCK, 8), np.uint8)
    hits = search(codes, codes[:1], SMALL_BLOCK + 3)
    assert hits.rows[0].tolist() == list(range(SMALL_BLOCK + 3))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 30), width=st.integers(1, 16), k=st.integers(1, 12))
def test_the_same_mask_on_everything_changes_nothing(seed, n, width, k):
    rng = np.random.default_rng(seed)
    codes, queries, mask = (random_codes(rng, rows, width) for rows in (n, 3, 1))
    plain, masked = search(codes, queries, k), search(codes ^ mask, queries ^ mask, k)
    np.testing.assert_array_equal(plain.distances, masked.distances)
    np.testing.assert_array_equal(plain.rows, masked.rows)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 16))
def test_hamming_distance_is_a_metric(seed, width):
    codes = clustered_codes(np.random.default_rng(seed), 8, width)
    distances = distances_reference(codes, codes)
    same = (codes[:, None] == codes[None]).all(axis=2)
    np.testing.assert_array_equal(distances, distances.T)
    np.testing.assert_array_equal(distances == 0, same)
    assert (distances[:, :, None] <= distances[:, None, :] + distances.T[None, :, :]).all()


def test_distance_counts_differing_bits():
    codes = np.array([[0b0000_0000, 0], [0b1010_0000, 0xFF]], np.uint8)
    assert distances_reference(codes, codes[:1]).tolist() == [[0, 10]]


@pytest.mark.parametrize(
    ("width", "word"), [(1, "u1"), (2, "u2"), (3, "u1"), (4, "u4"), (6, "u2"), (8, "u8"), (16, "u8")]
)
def test_words_are_the_widest_that_fit(width, word):
    words = to_words(np.zeros((5, width), np.uint8))
    assert words.dtype == np.dtype(word)
    assert words.nbytes == 5 * width


@pytest.mark.parametrize("function", [search, search_reference])
def test_codes_of_another_width_are_refused(function):
    """Without the test suite's shape checks, which would refuse them first."""
    with pytest.raises(Mismatch, match="64 bits, queries of 128 bits"):
        inspect.unwrap(function)(np.zeros((2, 8), np.uint8), np.zeros((1, 16), np.uint8), 1)


@pytest.mark.parametrize("function", [search, search_reference])
@pytest.mark.parametrize("k", [0, -3])
def test_fewer_than_one_hit_is_refused(function, k):
    with pytest.raises(BadInput, match=f"k = {k}"):
        function(np.zeros((2, 8), np.uint8), np.zeros((1, 8), np.uint8), k)
