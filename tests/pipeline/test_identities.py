"""Comparing ids by digests gives what comparing them as text gives."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xhash_ray.pipeline import identities
from xhash_ray.pipeline.identities import digests, is_known, repeated, without

names = st.lists(st.sampled_from([*"abcdefgh", "", "ä", "a b"]), max_size=40)


@given(names)
def test_repeated_are_the_rows_that_an_earlier_row_equals(ids):
    seen, expected = set(), []
    for position, name in enumerate(ids):
        if name and name in seen:
            expected.append(position)
        seen.add(name)
    assert repeated(digests(ids)).tolist() == expected


@given(names, names)
def test_without_are_the_rows_that_no_other_equals(ids, others):
    expected = [position for position, name in enumerate(ids) if name not in others]
    assert without(digests(ids), digests(others)).tolist() == expected


@given(names)
def test_rows_without_an_id_are_known_as_such(ids):
    assert is_known(digests(ids)).tolist() == [bool(name) for name in ids]


def test_halves_that_agree_are_no_equal_ids():
    found = np.array([[5, 1], [5, 2], [5, 1], [7, 1]], np.uint64)
    assert repeated(found).tolist() == [2]
    assert without(found, np.array([[5, 2]], np.uint64)).tolist() == [0, 2, 3]
    assert identities.in_order(found).tolist() == [0, 2, 1, 3]
