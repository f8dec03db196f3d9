"""Candidates are scored as the sums say, and reordered without losing any."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core import rescoring
from xhash_ray.core.bits import pack, unpack
from xhash_ray.core.hamming import search
from xhash_ray.core.rescoring import asymmetric_scores, bit_weights, cosine_scores, reorder
from xhash_ray.errors import BadInput, Mismatch


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 30),
    queries=st.integers(0, 5),
    width=st.integers(1, 9),
    at_once=st.sampled_from([1, 7, 10**6]),
)
def test_asymmetric_scores_are_the_plain_sum(seed, n, queries, width, at_once):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (n, width), dtype=np.uint8)
    outputs = rng.standard_normal((queries, width * 8)).astype(np.float32)
    weights = rng.random(width * 8).astype(np.float32)
    rows = rng.integers(0, n, (queries, 4))
    signs = 2.0 * unpack(codes) - 1
    expected = [[sum(weights * outputs[q] * signs[row]) for row in rows[q]] for q in range(queries)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rescoring, "CANDIDATES_AT_ONCE", at_once)
        found = asymmetric_scores(codes, rows, outputs, weights)
    np.testing.assert_allclose(found, np.reshape(expected, rows.shape), rtol=1e-4, atol=1e-4)


def test_outputs_of_equal_size_give_the_order_of_distances():
    rng = np.random.default_rng(1)
    codes, signs = rng.integers(0, 256, (50, 8), dtype=np.uint8), rng.choice([-1.0, 1.0], (3, 64)).astype(np.float32)
    hits = search(codes, pack(signs), 50)
    again = reorder(hits, asymmetric_scores(codes, hits.rows, signs))
    np.testing.assert_array_equal(again.rows, hits.rows)
    np.testing.assert_array_equal(64 - 2 * hits.distances, asymmetric_scores(codes, hits.rows, signs))


def test_asymmetric_scores_tell_apart_what_distances_do_not():
    outputs = np.array([[5.0, 0.1, *[1.0] * 6]], np.float32)
    codes = np.array([[0b11111110], [0b11111101]], np.uint8)  # one bit wrong: the sure one, the unsure one
    hits = search(codes, pack(outputs), 2)
    assert hits.distances.tolist() == [[1, 1]]
    assert reorder(hits, asymmetric_scores(codes, hits.rows, outputs), k=1).rows.tolist() == [[1]]


def test_cosine_scores_are_cosines_of_half_precision_features():
    rng = np.random.default_rng(2)
    features, queries = rng.standard_normal((9, 5)).astype(np.float16), rng.standard_normal((2, 5)).astype(np.float32)
    features[3] = 0
    rows = np.array([[0, 3, 8], [1, 2, 3]])
    scores = cosine_scores(features, rows, queries)
    for q, row in [(0, 0), (0, 2), (1, 1)]:
        x, y = features[rows[q, row]].astype(np.float64), queries[q].astype(np.float64)
        assert scores[q, row] == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-5)
    assert (scores[0, 1], scores[1, 2]) == (0, 0)


def test_weights_make_bits_comparable_and_leave_stuck_ones_out():
    outputs = np.random.default_rng(3).standard_normal((1000, 3)).astype(np.float32) * np.array([1, 10, 0], np.float32)
    weights = bit_weights(outputs)
    assert weights[0] / weights[1] == pytest.approx(10, rel=0.1)
    assert weights[2] == 0


def test_what_does_not_belong_together_is_refused():
    codes, rows = np.zeros((2, 1), np.uint8), np.zeros((1, 1), np.int64)
    scores, cosines = inspect.unwrap(asymmetric_scores), inspect.unwrap(cosine_scores)
    with pytest.raises(Mismatch, match="8 bits, 16 outputs"):
        scores(codes, rows, np.zeros((1, 16), np.float32))
    with pytest.raises(BadInput, match="not numbers"):
        scores(codes, rows, np.full((1, 8), np.nan, np.float32))
    with pytest.raises(Mismatch, match="5 numbers, queries of 4"):
        cosines(np.zeros((2, 5), np.float16), rows, np.zeros((1, 4), np.float32))
