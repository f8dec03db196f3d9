"""Published definitions: each on a case worked out by hand, so that their differences are seen in numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray.errors import BadOption
from xhash_ray.evaluation.average_precision import expected_average_precision, extreme_average_precision
from xhash_ray.evaluation.published import (
    DEFINITIONS,
    chosen,
    map_at_k_over_hits,
    map_first_min_k_r,
    map_weighted_by_overlap,
    map_without_zero_hit_queries,
    mean,
    ranked,
)

# Labels in common along the ranking of three queries. The first finds relevant items at places 1, 3, 6; the second at
# place 5 alone; to the third nothing is relevant.
OVERLAP = np.array([[2, 0, 1, 0, 0, 3], [0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0]])


def test_over_hits_by_hand():
    values = map_at_k_over_hits(OVERLAP, 4)
    # 1: hits at 1 and 3 of the first 4, divided by those 2. A division by min(4, R = 3) would give 5/9.
    # 2: its hit at 5 is beyond the cut, so 0.
    assert values.tolist() == pytest.approx([(1 / 1 + 2 / 3) / 2, 0, 0])
    assert mean(values) == pytest.approx(5 / 6 / 3)


def test_first_min_k_r_by_hand():
    values = map_first_min_k_r(OVERLAP, 2)
    # 1: min(2, 3) = 2 relevant items, at 1 and 3, though 3 is beyond k = 2.
    # 2: min(2, 1) = 1, at 5. 3: nothing relevant, counted as 0.
    assert values.tolist() == pytest.approx([(1 / 1 + 2 / 3) / 2, 1 / 5, 0])
    assert mean(values) == pytest.approx((5 / 6 + 1 / 5) / 3)


def test_without_zero_hit_queries_by_hand():
    values = map_without_zero_hit_queries(OVERLAP, 1)
    # 1: (1/1 + 2/3 + 3/6) / 3 = 13/18. 2: 1/5. 3: not in the mean, which is over two queries.
    assert values[:2].tolist() == pytest.approx([13 / 18, 1 / 5])
    assert np.isnan(values[2])
    assert mean(values) == pytest.approx((13 / 18 + 1 / 5) / 2)


def test_weighted_by_overlap_by_hand():
    values = map_weighted_by_overlap(OVERLAP, 4)
    # 1: at place 1 the mean overlap is 2/1, at place 3 it is (2 + 0 + 1) / 3 = 1; over 2 hits 1.5, above 1.
    assert values.tolist() == pytest.approx([(2 / 1 + 3 / 3) / 2, 0, 0])
    assert mean(values) == pytest.approx(0.5)


def test_the_four_differ_on_the_same_ranking():
    means = [round(mean(definition(OVERLAP, 2)), 4) for definition in DEFINITIONS.values()]
    assert means == [round(x, 4) for x in (1 / 3, (5 / 6 + 1 / 5) / 3, (13 / 18 + 1 / 5) / 2, 2 / 3)]


def test_a_cut_beyond_the_database_is_the_database():
    whole = [mean(definition(OVERLAP, 6)) for definition in DEFINITIONS.values()]
    assert [mean(definition(OVERLAP, 10**6)) for definition in DEFINITIONS.values()] == pytest.approx(whole)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_map_at_all_lies_between_the_extremes_and_is_expected_without_ties(seed, n):
    rng = np.random.default_rng(seed)
    distances, overlap = rng.integers(0, 5, (3, n)), rng.integers(0, 3, (3, n))
    order = ranked(distances, overlap)
    values = map_at_k_over_hits(order, n)
    np.testing.assert_allclose(map_first_min_k_r(order, n), values)
    groups = [[(row == d) for d in range(5)] for row in distances]
    sizes = np.array([[int(group.sum()) for group in row] for row in groups])
    hits = np.array([[int((o[g] > 0).sum()) for g in row] for row, o in zip(groups, overlap, strict=True)])
    lowest, highest = extreme_average_precision(sizes, hits)
    assert (lowest <= values + 1e-12).all()
    assert (values <= highest + 1e-12).all()
    one_each = np.ones((3, n), dtype=np.int64)
    np.testing.assert_allclose(values, expected_average_precision(one_each, (order > 0).astype(np.int64)))


def test_ties_are_broken_by_database_row():
    assert ranked(np.array([[1, 0, 1, 0]]), np.array([[10, 11, 12, 13]])).tolist() == [[11, 13, 10, 12]]


def test_definitions_are_chosen_by_name():
    assert chosen(["all"]) == tuple(DEFINITIONS)
    assert chosen(("map_first_min_k_r",)) == ("map_first_min_k_r",)
    assert chosen(()) == ()
    with pytest.raises(BadOption, match="Did you mean 'map_at_k_over_hits'"):
        chosen(["map_at_k_over_hit"])


def test_every_definition_says_who_uses_it():
    for definition in DEFINITIONS.values():
        assert "code of" in " ".join((definition.__doc__ or "").split())


def test_no_queries_have_the_mean_nought():
    assert mean(np.array([np.nan])) == 0.0
