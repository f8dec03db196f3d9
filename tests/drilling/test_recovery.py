"""The books, and when service counts as whole again."""

import pytest

from xhash_ray.drilling.judging import ERROR, EXACT, INCOMPLETE, WRONG, Verdict
from xhash_ray.drilling.ledger import FAILED, LATER, SILENT, Event, Ledger, failed, judged, summarise
from xhash_ray.drilling.recovery import recovered_after_s
from xhash_ray.errors import BadInput, Conflict, Overloaded, Unreachable, XhashError


def events(*told, generation=1):
    """(moment, outcome) each."""
    return [Event(at_s, 0.1, outcome, generation=generation) for at_s, outcome in told]


def steadily(start_s, end_s, outcome=EXACT):
    return [(start_s + step / 4, outcome) for step in range(int((end_s - start_s) * 4))]


def test_an_undisturbed_service_recovers_at_once():
    assert recovered_after_s(events(*steadily(10, 14)), 10.0, 14.0) == 0.0


@pytest.mark.parametrize("bad", [INCOMPLETE, ERROR, WRONG])
def test_it_counts_from_the_first_good_answer_after_the_last_bad_one(bad):
    seen = events(*steadily(10, 12), (12.5, bad), (13.0, EXACT), (14.0, bad), (15.5, EXACT), *steadily(16, 19))
    assert recovered_after_s(seen, 10.0, 18.49) is None, "not steady for long enough"
    assert recovered_after_s(seen, 10.0, 19.0) == 5.5


def test_silence_is_no_recovery():
    assert recovered_after_s([], 10.0, 60.0) is None
    assert recovered_after_s(events((11.0, EXACT)), 10.0, 60.0) is None, "nobody was answered lately"
    assert recovered_after_s(events((11.0, EXACT), (12.0, ERROR)), 10.0, 60.0) is None


def test_the_wanted_generation_must_be_what_is_served():
    old = events(*steadily(10, 14))
    new = [event._replace(generation=2) for event in events(*steadily(14, 18))]
    assert recovered_after_s([*old, *new], 10.0, 18.0, wanted=2) == 0.0
    assert recovered_after_s([*old, *new], 10.0, 18.0, wanted=1) is None
    assert recovered_after_s([*old, *new], 10.0, 16.0, wanted=2) is None, "some of the last were still old"


@pytest.mark.parametrize(
    ("error", "outcome", "detail"),
    [
        (Overloaded("a", "b", "c"), ERROR, LATER),
        (Unreachable("a", "b", "c"), ERROR, SILENT),
        (XhashError("a", "b", "c"), ERROR, FAILED),
        (Conflict("a", "b", "c"), ERROR, FAILED),
        (BadInput("a", "not in this index", "c"), WRONG, "refused as bad: a: not in this index. c"),
    ],
)
def test_refusals_by_kind_and_a_good_question_called_bad_is_wrong(error, outcome, detail):
    event = failed(5.0, 0.2, error)
    assert (event.outcome, event.detail, event.good) == (outcome, detail, False)


def test_the_books_are_summed_up():
    ledger = Ledger()
    for event in (
        judged(1.0, 0.1, Verdict(EXACT), 4, ()),
        judged(2.0, 0.1, Verdict(EXACT), 4, ()),
        judged(3.0, 2.1, Verdict(INCOMPLETE), 4, (2, 3)),
        judged(4.0, 0.1, Verdict(WRONG, "2 hits instead of 3"), 5, (1,)),
        failed(5.0, 6.0, Unreachable("a", "b", "c")),
        failed(6.0, 0.1, Overloaded("a", "b", "c")),
        failed(7.0, 0.1, Overloaded("a", "b", "c")),
    ):
        ledger.note(event)
    seen = summarise(ledger.since(2.0))
    assert (seen.requests, seen.incomplete, seen.wrong) == (6, 1, 1)
    assert seen.errors == {LATER: 2, SILENT: 1}
    assert (seen.reasons, seen.missing, seen.generations) == (["2 hits instead of 3"], [1, 2, 3], [4, 5])
    assert seen.worst_s == 6.0
    assert summarise([]).worst_s == 0.0
