"""Verdicts: sound answers pass, and every way in which an answer can lie is found out."""

from dataclasses import replace

import pytest

from tests.drilling.scenes import GENERATION, answer_of, oracle_of, pairs_of, questions_of
from xhash_ray.drilling.judging import EXACT, INCOMPLETE, WRONG, judge

PAIRS = pairs_of()
ORACLE = oracle_of(PAIRS)
QUESTIONS = questions_of(PAIRS)
TIED = next(each for each in QUESTIONS if each.k == 20 and each.ties and each.filter is None)
MISSING = (1, 3)


def sound(question=TIED, missing=(), certain=None):
    return answer_of(PAIRS, question, ORACLE.answer(GENERATION, question, missing), missing, certain)


def sure_of(question, missing=MISSING):
    """How many first hits of the shards that answered are those of all."""
    here, whole = ORACLE.answer(GENERATION, question, missing).hits, ORACLE.answer(GENERATION, question).hits
    return next((place for place, (one, other) in enumerate(zip(here, whole, strict=False)) if one != other), len(here))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: str(question.number))
def test_sound_answers_are_exact_and_honest_gaps_incomplete(question):
    assert judge(ORACLE, question, sound(question)) == (EXACT, "")
    for certain in {0, sure_of(question)}:
        assert judge(ORACLE, question, sound(question, MISSING, certain)) == (INCOMPLETE, "")


def with_hits(answer, hits):
    return replace(answer, hits=tuple(hits))


def swapped(answer, one, other):
    hits = list(answer.hits)
    hits[one], hits[other] = hits[other], hits[one]
    return with_hits(answer, hits)


def tied_places(answer):
    """Two neighbours at one distance."""
    places = range(len(answer.hits) - 1)
    return next(place for place in places if answer.hits[place].distance == answer.hits[place + 1].distance)


LIES = {
    "another id": lambda it: with_hits(it, [replace(it.hits[0], id="pair-99999999"), *it.hits[1:]]),
    "another distance": lambda it: with_hits(it, [replace(it.hits[0], distance=it.hits[0].distance + 1), *it.hits[1:]]),
    "ties in another order": lambda it: swapped(it, tied_places(it), tied_places(it) + 1),
    "a hit less": lambda it: with_hits(it, it.hits[:-1]),
    "a hit twice": lambda it: with_hits(it, [*it.hits, it.hits[-1]]),
    "a hit left out, the next one in its place": lambda it: with_hits(it, [*it.hits[1:], it.hits[-1]]),
    "another's metadata": lambda it: with_hits(it, [replace(it.hits[0], metadata={"year": 1}), *it.hits[1:]]),
    "the k-th distance": lambda it: replace(it, kth_distance=it.kth_distance + 1),
    "the count of ties": lambda it: replace(it, at_kth=it.at_kth + 1),
    "no count of ties": lambda it: replace(it, at_kth=None),
    "a generation that was refused": lambda it: replace(it, generation=GENERATION + 1),
    "another model": lambda it: replace(it, model_fingerprint="0" * 64),
    "another number of shards": lambda it: replace(it, shards=5),
    "the other modality": lambda it: replace(it, target="image" if it.target == "text" else "text"),
    "incomplete without a reason": lambda it: replace(it, complete=False),
    "complete with shards missing": lambda it: replace(it, missing_shards=(1,)),
    "a shard missing that answered": lambda it: replace(it, complete=False, missing_shards=(1,), certain=0),
    "a shard missing that there is not": lambda it: replace(it, complete=False, missing_shards=(9,), certain=0),
}


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_about_a_whole_answer_is_found_out(lie):
    verdict = judge(ORACLE, TIED, LIES[lie](sound()))
    assert verdict.outcome == WRONG
    assert verdict.why


def test_an_answer_that_lacks_shards_and_does_not_say_so_is_found_out():
    partial = sound(missing=MISSING)
    assert judge(ORACLE, TIED, replace(partial, complete=True, missing_shards=())).outcome == WRONG
    assert judge(ORACLE, TIED, replace(partial, missing_shards=(1,), certain=0)).outcome == WRONG


def test_a_certificate_for_one_hit_too_many_is_found_out():
    sure = sure_of(TIED)
    assert sure < TIED.k
    assert judge(ORACLE, TIED, sound(missing=MISSING, certain=sure)).outcome == INCOMPLETE
    verdict = judge(ORACLE, TIED, sound(missing=MISSING, certain=sure + 1))
    assert (verdict.outcome, "not certain" in verdict.why) == (WRONG, True)
    assert judge(ORACLE, TIED, sound(missing=MISSING, certain=TIED.k + 1)).outcome == WRONG
    assert judge(ORACLE, TIED, sound(missing=MISSING, certain=-1)).outcome == WRONG


def test_hits_of_shards_that_did_not_answer_are_found_out():
    whole = sound()
    assert judge(ORACLE, TIED, replace(whole, complete=False, missing_shards=MISSING, certain=0)).outcome == WRONG
