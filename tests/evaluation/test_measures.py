"""Measures from tied groups: each is the mean over every order of the tied items, or does not depend on it."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.evaluation.average_precision import expected_average_precision
from xhash_ray.evaluation.measures import (
    RECALL_LEVELS,
    every_measure,
    interpolated_precision,
    ndcg_at,
    precision_at,
    recall_at,
    within_radius,
)

LEVELS = 4
CUTOFFS = (1, 2, 3, 5, 20)
rankings = st.lists(st.tuples(st.integers(0, 3), st.integers(0, LEVELS - 1)), min_size=1, max_size=6)


def counts_of(ranking: list[tuple[int, int]]) -> np.ndarray:
    """(distance, overlap) of each item as counts [1, 5, LEVELS]; one group stays empty."""
    counts = np.zeros((1, 5, LEVELS), dtype=np.int64)
    for distance, overlap in ranking:
        counts[0, distance, overlap] += 1
    return counts


def orders_of(ranking: list[tuple[int, int]]) -> list[list[int]]:
    """Overlaps along the ranking, for every order of tied items."""
    groups = [[o for d, o in ranking if d == distance] for distance in range(4)]
    every = itertools.product(*(itertools.permutations(group) for group in groups))
    return [list(itertools.chain(*order)) for order in every]


def dcg(overlaps: list[int]) -> float:
    """Discounted cumulated gain of one order."""
    return sum((2**o - 1) / np.log2(1 + place) for place, o in enumerate(overlaps, 1))


def sizes_and_relevant(ranking: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Items and relevant items of each group."""
    counts = counts_of(ranking)
    return counts.sum(axis=2), counts[:, :, 1:].sum(axis=2)


@settings(deadline=None, max_examples=60)
@given(rankings)
def test_precision_and_recall_are_means_over_all_orders(ranking):
    orders, groups = orders_of(ranking), sizes_and_relevant(ranking)
    for column, k in enumerate(CUTOFFS):
        hits = np.mean([sum(o > 0 for o in order[:k]) for order in orders])
        found = precision_at(*groups, CUTOFFS)[0, column], recall_at(*groups, CUTOFFS)[0, column]
        relevant = sum(o > 0 for _, o in ranking)
        assert found == pytest.approx((hits / min(k, len(ranking)), hits / max(1, relevant)))


@settings(deadline=None, max_examples=60)
@given(rankings)
def test_ndcg_is_the_mean_over_all_orders(ranking):
    orders = orders_of(ranking)
    ideal = sorted((o for _, o in ranking), reverse=True)
    for column, k in enumerate(CUTOFFS):
        expected = np.mean([dcg(order[:k]) for order in orders]) / (dcg(ideal[:k]) or 1)
        assert ndcg_at(counts_of(ranking), CUTOFFS)[0, column] == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(rankings)
def test_radius_and_curve_by_the_definition(ranking):
    groups = sizes_and_relevant(ranking)
    precision, recall = within_radius(*groups)
    total = sum(o > 0 for _, o in ranking)
    points = []
    for radius in range(5):
        near = [o > 0 for d, o in ranking if d <= radius]
        point = (sum(near) / max(1, len(near)), sum(near) / max(1, total))
        assert (precision[0, radius], recall[0, radius]) == pytest.approx(point)
        points.append(point)
    for level, value in zip(RECALL_LEVELS, interpolated_precision(*groups)[0], strict=True):
        assert value == pytest.approx(max((p for p, r in points if r >= level - 1e-9), default=0))


def test_by_hand():
    # Distance 0: one relevant. Distance 2: one relevant with two labels in common, one irrelevant.
    counts = counts_of([(0, 1), (2, 2), (2, 0)])
    values = every_measure(counts, (1, 2, 3), by_radius=True)
    assert values["map"][0] == pytest.approx((1 + (2 / 2 + 2 / 3) / 2) / 2)
    assert (values["lowest"][0], values["highest"][0]) == pytest.approx(((1 + 2 / 3) / 2, 1))
    assert values["precision_at"][0].tolist() == pytest.approx([1, 1.5 / 2, 2 / 3])
    assert values["recall_at"][0].tolist() == pytest.approx([1 / 2, 1.5 / 2, 1])
    ideal = 3 + 1 / np.log2(3)
    mean_gain = 1.5  # (3 + 0) / 2
    assert values["ndcg_at"][0].tolist() == pytest.approx(
        [1 / 3, (1 + mean_gain / np.log2(3)) / ideal, (1 + mean_gain * (1 / np.log2(3) + 1 / 2)) / ideal]
    )
    assert values["radius_precision"][0].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3, 2 / 3])
    assert values["radius_recall"][0].tolist() == pytest.approx([1 / 2, 1 / 2, 1, 1, 1])
    assert values["curve"][0].tolist() == pytest.approx([1] * 11 + [2 / 3] * 10)
    assert (values["chance"][0], values["without_relevant"][0], values["radius_empty"][0]) == (2 / 3, 0, 0)


def test_nothing_within_the_radius_counts_nought():
    values = every_measure(counts_of([(3, 1)]), (1,), by_radius=True)
    assert values["radius_precision"][0, 2] == 0
    assert values["radius_empty"][0] == 1


def test_a_query_without_relevant_items_counts_nought():
    values = every_measure(counts_of([(0, 0), (1, 0)]), (1, 5), by_radius=True)
    assert values.pop("without_relevant").tolist() == [1]
    assert all((value == 0).all() for value in values.values())


def test_queries_are_measured_independently():
    rng = np.random.default_rng(5)
    counts = rng.integers(0, 4, (6, 9, LEVELS))
    whole = every_measure(counts, CUTOFFS, by_radius=True)
    for name, values in whole.items():
        parts = [every_measure(counts[row : row + 1], CUTOFFS, by_radius=True)[name] for row in range(6)]
        np.testing.assert_allclose(values, np.concatenate(parts), err_msg=name)


def test_no_queries_give_empty_arrays():
    values = every_measure(np.zeros((0, 9, 2), dtype=np.int64), CUTOFFS, by_radius=True)
    assert {name: len(value) for name, value in values.items()} == dict.fromkeys(values, 0)
    assert values["ndcg_at"].shape == (0, len(CUTOFFS))


def test_average_precision_is_the_closed_form():
    sizes, relevant = np.array([[3, 2]]), np.array([[1, 2]])
    counts = np.stack([sizes - relevant, relevant], axis=2)
    assert every_measure(counts, (1,), False)["map"][0] == expected_average_precision(sizes, relevant)[0]
    assert "radius_precision" not in every_measure(counts, (1,), False)
