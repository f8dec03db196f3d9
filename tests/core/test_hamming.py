"""Exact Hamming search: the fast kernel gives what the definition gives, on every shape and kind of data."""

import inspect
import itertools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core import hamming, scan, scanning
from xhash_ray.core.hamming import (
    distances_reference,
    histogram,
    search,
    search_radius,
    search_reference,
    search_tied,
    to_words,
)
from xhash_ray.core.topk import merge
from xhash_ray.errors import BadInput, Mismatch

SMALL_BLOCK = 8
BLOCK = scan.BLOCK_CODES


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


@pytest.fixture(autouse=True, scope="module", params=["compiled", "numpy"])
def path(request):
    """Both ways: the compiled scan on however few codes, in many pieces; and numpy's, which serves small searches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "FEW_PAIRS", 0 if request.param == "compiled" else 10**12)
        patch.setattr(scanning, "PAIRS_PER_THREAD", 10)
        patch.setattr(scanning, "GROUP_QUERIES", 2)
        patch.setattr(scanning, "PADDED_CODES", 16)
        yield request.param


def assert_same_answer(codes: np.ndarray, queries: np.ndarray, k: int, mask: np.ndarray | None = None) -> None:
    """The kernel and the definition agree, entry by entry."""
    fast, slow = search(codes, queries, k, threads=3, mask=mask), search_reference(codes, queries, k, mask=mask)
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


@pytest.mark.parametrize("width", [8, 16, 24, 32])
@pytest.mark.parametrize("n", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 33, scan.TILE_WORDS + 1])
@pytest.mark.parametrize("kind", [random_codes, approaching_codes, duplicated_codes])
def test_search_is_its_definition_around_blocks_and_tiles_of_the_scan(kind, width, n):
    rng = np.random.default_rng(n + width)
    codes, queries = kind(rng, n, width), kind(rng, 6, width)
    mask = rng.random(n) < 0.5
    for k in (1, 10, 700, n):
        assert_same_answer(codes, queries, k)
        assert_same_answer(codes, queries[:1], k, mask)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 700),
    width=st.sampled_from([1, 3, 8, 12, 16, 32, 40]),
    k=st.integers(1, 800),
    shown=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)
def test_a_mask_hides_codes_and_nothing_else(kind, seed, n, width, k, shown):
    rng = np.random.default_rng(seed)
    codes, mask = kind(rng, n, width), rng.random(n) < shown
    assert_same_answer(codes, kind(rng, 5, width), k, mask)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 700),
    width=st.sampled_from([1, 3, 8, 16, 32, 40]),
    k=st.integers(1, 50),
    masked=st.booleans(),
)
def test_ties_radius_and_histogram_are_their_definitions(kind, seed, n, width, k, masked):
    rng = np.random.default_rng(seed)
    codes, queries = kind(rng, n, width), kind(rng, 5, width)
    mask = rng.random(n) < 0.5 if masked else None
    shown = np.arange(n) if mask is None else np.flatnonzero(mask)
    distances = distances_reference(codes[shown], queries)
    counts = histogram(codes, queries, mask=mask)
    np.testing.assert_array_equal(counts, [np.bincount(line, minlength=width * 8 + 1) for line in distances])
    tied = search_tied(codes, queries, k, threads=2, mask=mask)
    for q, line in enumerate(distances):
        kth = np.sort(line)[min(k, len(line)) - 1] if len(line) else -1
        assert tied.kth[q] == kth
        assert tied.at_kth[q] == (line == kth).sum()
    radius = rng.integers(0, width * 8 + 2, 5)
    within = search_radius(codes, queries, radius, threads=2, mask=mask)
    for q, line in enumerate(distances):
        near = np.flatnonzero(line <= radius[q])
        order = near[np.lexsort((near, line[near]))]
        part = slice(within.starts[q], within.starts[q + 1])
        np.testing.assert_array_equal(within.distances[part], line[order])
        np.testing.assert_array_equal(within.rows[part], shown[order])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 900), cuts=st.integers(1, 5), k=st.integers(1, 40))
def test_parts_searched_alone_and_merged_in_any_order_give_the_whole(seed, n, cuts, k):
    rng = np.random.default_rng(seed)
    codes, queries = clustered_codes(rng, n, 8), random_codes(rng, 3, 8)
    edges = [0, *sorted(rng.integers(0, n + 1, cuts).tolist()), n]
    parts = []
    for start, stop in itertools.pairwise(edges):
        hits = search(codes[start:stop], queries, k)
        parts.append(hits._replace(rows=hits.rows + start))
    merged = merge([parts[i] for i in rng.permutation(len(parts))], k)
    whole = search(codes, queries, k)
    np.testing.assert_array_equal(merged.distances, whole.distances)
    np.testing.assert_array_equal(merged.rows, whole.rows)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_number_of_threads_changes_nothing(threads):
    rng = np.random.default_rng(threads)
    codes, queries = clustered_codes(rng, 3000, 16), random_codes(rng, 9, 16)
    hits, alone = search(codes, queries, 20, threads=threads), search(codes, queries, 20, threads=1)
    np.testing.assert_array_equal(hits.rows, alone.rows)
    np.testing.assert_array_equal(hits.distances, alone.distances)


def test_read_only_and_misaligned_codes_are_searched():
    rng = np.random.default_rng(5)
    buffer = random_codes(rng, 1, 8 * 2000 + 3).reshape(-1)
    misaligned = buffer[3:].reshape(2000, 8)
    frozen = misaligned.copy()
    frozen.flags.writeable = False
    for codes in (misaligned, frozen):
        assert_same_answer(codes, codes[:5], 30)


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


@pytest.mark.parametrize(
    ("codes", "queries", "found"),
    [
        (np.zeros((2, 8), np.int8), np.zeros((1, 8), np.uint8), r"codes: int8 \[2, 8\]"),
        (np.zeros((2, 8), np.uint8), np.zeros(8, np.uint8), r"queries: uint8 \[8\]"),
        ([[1, 2]], np.zeros((1, 2), np.uint8), "codes: list"),
        (np.zeros((2, 0), np.uint8), np.zeros((1, 0), np.uint8), "0 bits"),
        (np.zeros((2, 129), np.uint8), np.zeros((1, 129), np.uint8), "1032 bits"),
    ],
)
def test_what_are_no_codes_is_refused(codes, queries, found):
    with pytest.raises(BadInput, match=found):
        inspect.unwrap(search)(codes, queries, 1)


def test_bad_masks_threads_and_radii_are_refused():
    codes = np.zeros((4, 8), np.uint8)
    plain = inspect.unwrap(search)
    for mask in (np.ones(3, bool), np.ones(4, np.uint8), [True] * 4):
        with pytest.raises(BadInput, match=r"bool \[4\]"):
            plain(codes, codes[:1], 1, mask=mask)
    with pytest.raises(BadInput, match="threads: 0"):
        search(codes, codes[:1], 1, threads=0)
    with pytest.raises(BadInput, match="radius: -1"):
        search_radius(codes, codes[:1], -1)


def test_pieces_are_groups_of_queries_times_ranges_of_codes(monkeypatch):
    monkeypatch.setattr(scanning, "GROUP_QUERIES", 16)
    monkeypatch.setattr(scanning, "PAIRS_PER_THREAD", 1)
    assert scanning.pieces(100, 1, 2) == ([(0, 1)], [(0, 50), (50, 100)])
    assert scanning.pieces(100, 64, 2) == ([(0, 32), (32, 64)], [(0, 100)])
    groups, ranges = scanning.pieces(100, 64, 16)
    assert (len(groups), len(ranges)) == (4, 4)
    groups, ranges = scanning.pieces(100, 64, 2, most=10)
    assert (len(groups), len(ranges)) == (7, 1)


def test_many_hits_of_many_queries_are_searched_group_by_group(monkeypatch):
    monkeypatch.setattr(scanning, "STATE_BYTES", 20_000)
    rng = np.random.default_rng(7)
    assert_same_answer(random_codes(rng, 900, 8), random_codes(rng, 11, 8), 200)


def test_a_child_process_has_threads_of_its_own():
    rng = np.random.default_rng(6)
    codes, queries = random_codes(rng, 4000, 8), random_codes(rng, 2, 8)
    expected = search(codes, queries, 5, threads=2)
    child = os.fork()
    if child == 0:
        same = np.array_equal(search(codes, queries, 5, threads=2).rows, expected.rows)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("function", [search, search_reference])
@pytest.mark.parametrize("k", [0, -3])
def test_fewer_than_one_hit_is_refused(function, k):
    with pytest.raises(BadInput, match=f"k = {k}"):
        function(np.zeros((2, 8), np.uint8), np.zeros((1, 8), np.uint8), k)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_guess_of_the_limit_changes_no_answer(kind, masked, monkeypatch):
    rng = np.random.default_rng(7)
    codes, queries = kind(rng, 900, 8), kind(rng, 20, 8)
    mask = rng.random(900) < 0.5 if masked else None
    for name, value in (("GUESS_QUERIES", 4), ("GUESS_K", 8), ("GUESS_STEP", 4)):
        monkeypatch.setattr(hamming, name, value)
    for k in (8, 20, 50):
        assert_same_answer(codes, queries, k, mask)


def test_a_guess_that_is_too_low_is_not_believed(monkeypatch):
    codes = np.full((900, 8), 255, np.uint8)
    codes[::4] = 0  # the sample, and nothing else, is at distance 0
    queries = np.zeros((6, 8), np.uint8)
    for name, value in (("GUESS_QUERIES", 4), ("GUESS_K", 8), ("GUESS_STEP", 4)):
        monkeypatch.setattr(hamming, name, value)
    monkeypatch.setattr(scanning, "PAIRS_PER_THREAD", 10**9)
    limits = hamming.guess_limits(codes, queries, 50, 1, np.empty(0, bool))
    assert limits is not None
    assert limits.tolist() == [1] * 6
    codes[40::4] = 255  # ten are left: the guess stays, k does not
    monkeypatch.setattr(hamming, "guess_limits", lambda *_: limits)
    assert_same_answer(codes, queries, 50)
