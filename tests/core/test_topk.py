"""Merging: any partition of the codes, merged in any order, is the list that one scan gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.core.topk import Hits, merge, smallest
from xhash_ray.errors import BadInput


def scan(distances: np.ndarray, rows: np.ndarray, k: int) -> Hits:
    """The k first of some rows, for every query."""
    return smallest(distances[:, rows], np.broadcast_to(rows, (len(distances), len(rows))), k)


def assert_same(first: Hits, second: Hits) -> None:
    """Two answers agree entry by entry."""
    np.testing.assert_array_equal(first.distances, second.distances)
    np.testing.assert_array_equal(first.rows, second.rows)


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n": st.integers(0, 30),
        "parts": st.integers(1, 6),
        "k": st.integers(1, 35),
        "highest": st.sampled_from([0, 1, 3, 64]),
    }
)


def partitioned(case: dict) -> tuple[np.ndarray, list[Hits], np.random.Generator]:
    """Distances of two queries and the answers over a random partition of the rows, in random order."""
    rng = np.random.default_rng(case["seed"])
    distances = rng.integers(0, case["highest"] + 1, (2, case["n"]))
    owners = rng.integers(0, case["parts"], case["n"])
    answers = [scan(distances, np.flatnonzero(owners == part), case["k"]) for part in range(case["parts"])]
    return distances, [answers[part] for part in rng.permutation(case["parts"])], rng


@settings(deadline=None, max_examples=60)
@given(cases)
def test_any_partition_in_any_order_is_one_scan(case):
    distances, answers, _ = partitioned(case)
    assert_same(merge(answers, case["k"]), scan(distances, np.arange(case["n"]), case["k"]))


@settings(deadline=None, max_examples=60)
@given(cases)
def test_merging_in_any_grouping_is_one_scan(case):
    distances, answers, rng = partitioned(case)
    while len(answers) > 1:
        first, second = answers.pop(int(rng.integers(len(answers)))), answers.pop()
        answers.append(merge([first, second], case["k"]))
    assert_same(merge(answers, case["k"]), scan(distances, np.arange(case["n"]), case["k"]))


@settings(deadline=None, max_examples=50)
@given(cases)
def test_smallest_is_python_sorting_by_distance_and_row(case):
    rng = np.random.default_rng(case["seed"])
    distances = rng.integers(0, case["highest"] + 1, case["n"])
    rows = rng.permutation(case["n"])
    hits = smallest(distances[None], rows[None], case["k"])
    expected = sorted(zip(distances.tolist(), rows.tolist(), strict=True))[: case["k"]]
    assert list(zip(hits.distances[0].tolist(), hits.rows[0].tolist(), strict=True)) == expected


def test_nothing_to_merge_is_refused():
    with pytest.raises(BadInput, match="no parts"):
        merge([], 3)


def test_answers_to_different_queries_are_refused():
    parts = [Hits(np.zeros((q, 1), np.int64), np.zeros((q, 1), np.int64)) for q in (2, 3)]
    with pytest.raises(BadInput, match=r"\[2, 3\] queries"):
        merge(parts, 1)


def test_merging_less_than_one_hit_is_refused():
    with pytest.raises(BadInput, match="k = 0"):
        merge([Hits(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64))], 0)
