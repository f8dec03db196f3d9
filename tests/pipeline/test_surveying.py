"""Surveys become plans: every row counted, labels numbered, ids that occur twice found over the whole corpus."""

import numpy as np
import pytest

from tests.pipeline.sources import InMemory, pair, reject
from xhash_ray.errors import BadInput
from xhash_ray.pipeline import identities
from xhash_ray.pipeline.surveying import survey_part, to_plan


def plan_of(source, duplicates="refuse", before=None, known=None, parts=None, rows=2):
    parts = source.parts(2) if parts is None else parts
    facts = [survey_part(part, source) for part in parts]
    return to_plan({"kind": "x"}, source, parts, facts, rows, duplicates, before, known)


def test_rows_labels_and_columns():
    plan = plan_of(InMemory([pair("a", 0, ("x",)), reject("", 1), pair("b", 2, ("y", "x"))], [pair("c")]))
    assert (plan.pairs, [unit.pairs for unit in plan.units]) == (4, [2, 1, 1])
    assert plan.classes == ("x", "y")
    assert plan.metadata.names == ["split"]


def test_an_id_that_occurs_twice_is_named_with_its_place():
    source = InMemory([pair("a"), pair("b", 1)], [pair("c"), pair("d", 1), pair("a", 2), pair("c", 3)])
    with pytest.raises(BadInput, match=r"id 'a' occurs again in file-1, row 2; 2 rows repeat an id"):
        plan_of(source)


def test_or_the_first_of_equal_ids_is_kept_wherever_the_others_are():
    source = InMemory([pair("a"), pair("a", 1)], [pair("c"), pair("", 1), pair("", 2), pair("a", 3)])
    assert plan_of(source, "first").duplicates == {0: [1], 1: [3]}


def test_what_was_written_before_counts_when_a_corpus_grows():
    before = plan_of(InMemory([pair("a"), pair("b")]))
    source = InMemory([], [pair("new"), pair("b", 1)])
    (grown,) = source.parts(2)[1:]
    known = identities.digests(["a", "b"])
    plan = plan_of(source, "first", before, known, [grown])
    assert (plan.duplicates, plan.units[0].number) == ({1: [1]}, 1)
    with pytest.raises(BadInput, match="id 'b' occurs again in file-1, row 1"):
        plan_of(source, "refuse", before, known, [grown])


def test_an_empty_corpus_is_said():
    with pytest.raises(BadInput, match="no pairs"):
        plan_of(InMemory([], []))


def test_missing_ids_are_no_duplicates():
    source = InMemory([reject(""), reject("", 1)])
    assert not np.any(survey_part(source.parts(1)[0], source).digests)
