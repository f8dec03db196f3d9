"""Codes in several arrays: whatever can be among the k nearest of all, and nothing that k others beat."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_hamming import KINDS
from xhash_ray.core import hamming, scanning
from xhash_ray.core.hamming import search_reference
from xhash_ray.core.parts import search_parts, search_parts_reference
from xhash_ray.errors import BadInput, Mismatch


@pytest.fixture(autouse=True, scope="module", params=["compiled", "numpy"])
def path(request):
    """Both ways, and many pieces."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "FEW_PAIRS", 0 if request.param == "compiled" else 10**12)
        patch.setattr(scanning, "PAIRS_PER_THREAD", 10)
        yield request.param


parts_of = st.lists(st.integers(0, 60), min_size=0, max_size=6)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(KINDS), st.integers(0, 2**32 - 1), parts_of, st.integers(1, 40), st.integers(1, 3), st.booleans()
)
def test_candidates_are_all_that_can_win_and_enough(kind, seed, sizes, k, threads, masked):
    rng = np.random.default_rng(seed)
    parts = [kind(rng, n, 8) for n in sizes]
    masks = [rng.random(n) < 0.5 if masked and n % 2 else None for n in sizes]
    queries = kind(rng, 3, 8)
    found = search_parts(parts, queries, k, threads=threads, masks=masks)
    for fast, slow in zip(found, search_parts_reference(parts, queries, k, masks=masks), strict=True):
        for mine, defined in zip(fast, slow, strict=True):
            assert mine.dtype == np.int64
            np.testing.assert_array_equal(mine, defined)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1), st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_any_order_of_the_parts_gives_the_answer_of_one_array_in_that_order(kind, seed, sizes):
    rng = np.random.default_rng(seed)
    parts, queries, k = [kind(rng, n, 8) for n in sizes], kind(rng, 2, 8), 7
    for order in (list(range(len(parts))), list(rng.permutation(len(parts)))):
        starts = np.cumsum([0, *(sizes[number] for number in order)])
        whole = search_reference(np.concatenate([parts[number] for number in order]), queries, k)
        for query, found in enumerate(search_parts(parts, queries, k)):
            place = np.argsort(order)[found.parts]  # where each candidate's part lies in this order
            rows = starts[place] + found.rows
            first = np.lexsort((rows, found.distances))[:k]
            np.testing.assert_array_equal(found.distances[first], whole.distances[query])
            np.testing.assert_array_equal(rows[first], whole.rows[query])


def test_wrong_input_is_refused():
    codes, queries = np.zeros((3, 8), np.uint8), np.zeros((1, 8), np.uint8)
    with pytest.raises(BadInput, match="k = 0"):
        search_parts([codes], queries, 0)
    with pytest.raises(Mismatch, match="128 bits"):
        search_parts([codes, np.zeros((2, 16), np.uint8)], queries, 1)
    with pytest.raises(BadInput, match="mask"):
        search_parts([codes], queries, 1, masks=[np.ones(2, bool)])
    with pytest.raises(BadInput, match="threads"):
        search_parts([codes], queries, 1, threads=0)
