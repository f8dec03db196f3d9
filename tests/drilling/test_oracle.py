"""The oracle against a slower one, and against the kernel that it must not share."""

import numpy as np
import pytest

from tests.drilling.scenes import BITS, SHARDS, VECTORS, oracle_of, pairs_of, questions_of
from xhash_ray.core.hamming import distances_reference
from xhash_ray.core.shards import shard_of
from xhash_ray.drilling import pairs as drilled
from xhash_ray.drilling.oracle import Truth
from xhash_ray.drilling.questions import FILTERS, Question
from xhash_ray.serving.filters import parse_filter, rows_passing

PAIRS = pairs_of()
TRUTH = Truth(PAIRS, SHARDS, "f", VECTORS)


def slow_answer(question: Question, shown: list[int]) -> list[tuple[int, str]]:
    """One bit after the other."""
    asked = int.from_bytes(TRUTH.code(question).tobytes(), "little")
    found = []
    for row in shown:
        code = int.from_bytes(PAIRS.codes[question.target][row].tobytes(), "little")
        found.append(((code ^ asked).bit_count(), PAIRS.ids[row]))
    return sorted(found)


@pytest.mark.parametrize("question", questions_of(PAIRS, 40), ids=lambda question: str(question.number))
@pytest.mark.parametrize("missing", [(), (0, 2)])
def test_the_oracle_sorts_by_distance_and_id_what_passes_and_is_there(question, missing):
    passes = TRUTH.passing[question.filter] if question.filter else np.ones(len(PAIRS), bool)
    owners = shard_of(PAIRS.ids, SHARDS)
    every = slow_answer(question, [row for row in range(len(PAIRS)) if passes[row] and owners[row] not in missing])
    right = TRUTH.answer(question, missing)
    assert right.hits == every[: question.k]
    assert [PAIRS.ids[row] for row in right.rows] == [name for _, name in right.hits]
    assert (right.at_kth or 0) == sum(distance == right.hits[-1][0] for distance, _ in every if right.hits)


def test_ties_and_twins_are_common_enough_to_be_rehearsed():
    tied = [TRUTH.answer(question) for question in questions_of(PAIRS)]
    assert sum((each.at_kth or 0) > 1 for each in tied) > len(tied) / 2


@pytest.mark.parametrize("text", FILTERS)
def test_filters_in_numpy_are_those_of_the_endpoint(text):
    rows = drilled.as_table(PAIRS)
    np.testing.assert_array_equal(FILTERS[text](PAIRS), rows_passing(rows, parse_filter(text, rows.schema)))


def test_filters_pass_some_and_hide_some_but_for_the_one_that_hides_all():
    shares = {text: holds(PAIRS).mean() for text, holds in FILTERS.items()}
    assert shares.pop("year > 2030") == 0
    assert all(0.02 < share < 0.95 for share in shares.values()), shares


def test_the_published_rule_of_shards():
    np.testing.assert_array_equal(drilled.shards_of(PAIRS.ids, 7), shard_of(PAIRS.ids, 7))


@pytest.mark.parametrize("bits", [8, 64, 72, 128])
def test_distances_of_all_code_lengths(bits):
    many = drilled.draw(50, bits, 1)
    truth = Truth(many, 2, "f", {})
    question = Question(0, code=many.codes["image"][3].tobytes().hex(), target="image", k=50)
    distances = distances_reference(many.codes["image"], many.codes["image"][3][None])[0]
    assert sorted(distance for distance, _ in truth.answer(question).hits) == sorted(distances.tolist())


def test_the_same_seed_draws_the_same_pairs_and_questions():
    assert pairs_of().ids == PAIRS.ids
    np.testing.assert_array_equal(pairs_of().codes["text"], PAIRS.codes["text"])
    assert questions_of(PAIRS) == questions_of(pairs_of())
    kinds = {bool(each.code) * 1 + bool(each.vector) * 2 + bool(each.id) * 4 for each in questions_of(PAIRS)}
    assert kinds == {1, 2, 4}, "by exactly one of code, vector and id"


def test_pairs_that_replace_others_and_pairs_that_go():
    new = drilled.draw(20, BITS, 9, "new")
    more = drilled.renamed(new, [*PAIRS.ids[5:15], *new.ids[10:]])
    both = drilled.joined(PAIRS, more)
    assert list(both.ids) == sorted({*PAIRS.ids, *more.ids})
    row = both.ids.index(PAIRS.ids[7])
    np.testing.assert_array_equal(both.codes["image"][row], new.codes["image"][2])
    assert both.metadata(row) == new.metadata(2)
    left = drilled.without(both, new.ids)
    assert left.ids == PAIRS.ids
    assert len(drilled.as_table(left)) == len(PAIRS)


def test_an_answer_is_computed_once_and_generations_are_told_apart():
    oracle = oracle_of(PAIRS)
    oracle.learn(8, Truth(drilled.without(PAIRS, PAIRS.ids[:300]), SHARDS, "f", VECTORS))
    question = questions_of(PAIRS)[0]
    assert oracle.answer(7, question) is oracle.answer(7, question)
    assert oracle.answer(7, question, [1]) != oracle.answer(8, question, [1])
    assert oracle.truth(9) is None
