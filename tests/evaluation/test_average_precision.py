"""Average precision over ties: the closed form is the mean over every order of the tied items."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.hamming import distances_reference
from xhash_ray.evaluation.average_precision import (
    average_precision_reference,
    expected_average_precision,
    extreme_average_precision,
    of_codes,
    of_scores,
)

rankings = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=7)


def as_arrays(ranking: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    """Scores, higher is better, and relevance."""
    scores = np.array([score for score, _ in ranking], dtype=np.float64)
    return scores, np.array([wanted for _, wanted in ranking], dtype=bool)


def groups_of(scores: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sizes and relevant items of the tied groups, best first, with an empty group in between."""
    values = sorted({*scores.tolist(), 1.5}, reverse=True)
    sizes = [[int((scores == value).sum()) for value in values]]
    return np.array(sizes), np.array([[int(relevant[scores == value].sum()) for value in values]])


def average_precision(hits: list[bool]) -> float:
    """Of one order without ties."""
    seen, total = 0, 0.0
    for position, hit in enumerate(hits, 1):
        if hit:
            seen += 1
            total += seen / position
    return total / seen if seen else 0.0


def in_order(scores: np.ndarray, relevant: np.ndarray, best: bool) -> list[bool]:
    """Relevance along the ranking, tied items in the best or the worst order."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], relevant[i] != best))
    return [bool(relevant[i]) for i in order]


def one(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Expected average precision of one ranking by scores."""
    return float(of_scores(scores[None], relevant[None])[0])


@settings(deadline=None, max_examples=60)
@given(rankings)
def test_the_closed_form_is_the_mean_over_all_orders_of_ties(ranking):
    scores, relevant = as_arrays(ranking)
    reference = average_precision_reference(scores, relevant)
    assert expected_average_precision(*groups_of(scores, relevant))[0] == pytest.approx(reference, abs=1e-12)
    assert one(scores, relevant) == pytest.approx(reference, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(st.permutations(list(range(8))), st.lists(st.booleans(), min_size=8, max_size=8))
def test_without_ties_it_is_average_precision(order, wanted):
    scores, relevant = np.array(order, dtype=np.float64), np.array(wanted)
    assert one(scores, relevant) == pytest.approx(average_precision(in_order(scores, relevant, True)))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_the_order_of_the_database_changes_nothing(seed, n):
    rng = np.random.default_rng(seed)
    codes, relevant = rng.integers(0, 256, (n, 1), dtype=np.uint8), rng.random((2, n)) < 0.4
    order = rng.permutation(n)
    queries = rng.integers(0, 256, (2, 1), dtype=np.uint8)
    np.testing.assert_allclose(
        of_codes(queries, codes, relevant), of_codes(queries, codes[order], relevant[:, order]), rtol=1e-12
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_it_lies_between_the_worst_and_the_best_order_of_ties(ranking):
    scores, relevant = as_arrays(ranking)
    worst, best = (average_precision(in_order(scores, relevant, best)) for best in (False, True))
    assert worst - 1e-12 <= one(scores, relevant) <= best + 1e-12


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.sampled_from([1, 2, 3, 8]))
def test_codes_are_scored_as_negative_distances(seed, n, width):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n, width), dtype=np.uint8)
    queries = rng.integers(0, 4, (3, width), dtype=np.uint8)
    relevant = rng.random((3, n)) < 0.3
    scores = -distances_reference(codes, queries).astype(np.float64)
    np.testing.assert_allclose(of_codes(queries, codes, relevant), of_scores(scores, relevant), rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(rankings)
def test_the_extremes_are_those_over_all_orders_of_ties(ranking):
    scores, relevant = as_arrays(ranking)
    groups = [np.flatnonzero(scores == value) for value in np.unique(scores)[::-1]]
    orders = itertools.product(*(itertools.permutations(group) for group in groups))
    values = [average_precision(relevant[np.concatenate(order)].tolist()) for order in orders]
    lowest, highest = extreme_average_precision(*groups_of(scores, relevant))
    assert lowest[0] == pytest.approx(min(values), abs=1e-12)
    assert highest[0] == pytest.approx(max(values), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 5000))
def test_expected_lies_between_the_extremes(seed, groups, largest):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, largest, (4, groups))
    relevant = rng.integers(0, sizes + 1)
    expected = expected_average_precision(sizes, relevant)
    lowest, highest = extreme_average_precision(sizes, relevant)
    assert (lowest <= expected + 1e-9).all()
    assert (expected <= highest + 1e-9).all()


@pytest.mark.parametrize(("wanted", "value"), [(True, 1.0), (False, 0.0)])
def test_all_relevant_is_one_and_none_is_nought(wanted, value):
    rng = np.random.default_rng(3)
    codes, queries = (rng.integers(0, 256, (n, 8), dtype=np.uint8) for n in (30, 4))
    np.testing.assert_allclose(of_codes(queries, codes, np.full((4, 30), wanted)), value)


def test_everything_tied_is_the_mean_precision_of_a_random_order():
    scores, relevant = np.zeros(6), np.array([True, False, True, False, False, False])
    assert one(scores, relevant) == pytest.approx(average_precision_reference(scores, relevant))


def test_groups_by_hand():
    sizes, relevant = np.array([[1, 2, 0, 1]]), np.array([[1, 1, 0, 0]])
    by_hand = (1 + (2 / 2 + 2 / 3) / 2) / 2
    assert expected_average_precision(sizes, relevant)[0] == pytest.approx(by_hand)


def test_large_rankings_stay_accurate():
    n = 200_000
    sizes, relevant = np.ones((1, n), dtype=np.int64), np.zeros((1, n), dtype=np.int64)
    relevant[0, -1] = 1
    assert expected_average_precision(sizes, relevant)[0] == pytest.approx(1 / n, rel=1e-6)


def test_no_queries_give_no_numbers():
    nothing = np.zeros((0, 9), dtype=np.int64)
    assert expected_average_precision(nothing, nothing).shape == (0,)
