"""Which captions count, and what rows are called."""

import pytest

from xhash_ray.pipeline.caption_policy import counted, pair_id, row_ids

TEXTS = ("one", "two", "three")


@pytest.mark.parametrize(("policy", "expected"), [("mean", TEXTS), ("each", TEXTS), ("first", ("one",))])
def test_policies_without_chance(policy, expected):
    assert counted("x", TEXTS, policy, 1) == expected


def test_drawn_captions_depend_on_seed_and_id_alone_and_reach_all():
    drawn = [counted(f"p{i}", TEXTS, "random", 1) for i in range(200)]
    assert drawn == [counted(f"p{i}", TEXTS, "random", 1) for i in range(200)]
    assert drawn != [counted(f"p{i}", TEXTS, "random", 2) for i in range(200)]
    assert {text for (text,) in drawn} == set(TEXTS)


@pytest.mark.parametrize("policy", ["mean", "first", "random", "each"])
def test_a_pair_without_captions_has_none_that_count(policy):
    assert counted("x", (), policy, 1) == ()


def test_rows_of_several_captions_lead_back_to_their_pair():
    assert row_ids("a#b", 2, "each") == ["a#b#0", "a#b#1"]
    assert {pair_id(name) for name in row_ids("a#b", 2, "each")} == {"a#b"}
    assert row_ids("a", 1, "each") == row_ids("a", 3, "mean") == ["a"]
