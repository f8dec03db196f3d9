"""When the clients ask again: what may be repeated is, what may not is not, and never for longer than was allowed."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.stub import breaks, endpoint, nobody, refuses, says, stalls, stalls_late, trickles
from xhash_ray.client import Retry, exchange
from xhash_ray.client.exchange import Course, TimeLeft
from xhash_ray.client.refusals import Outcome
from xhash_ray.client.retry import retry_after_s
from xhash_ray.errors import BadInput, Overloaded, Unreachable, XhashError

CHANGES = [("activate", ()), ("rollback", ()), ("delete", (["a"],)), ("add", ([{"id": "a"}],))]
FACTS = says({"rows": 5})
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("failure", [refuses(503), refuses(429), says(b"busy", 503), breaks])
def test_a_question_is_asked_again_until_it_is_answered(call, failure):
    with endpoint(failure, failure, FACTS) as stub:
        assert call(stub.url, "index") == {"rows": 5}
        assert len(stub.asked) == 3


@pytest.mark.parametrize("failure", [refuses(503), breaks])
def test_and_no_oftener_than_the_policy_says(call, failure):
    with endpoint(failure) as stub:
        with pytest.raises((Overloaded, Unreachable)):
            call(stub.url, "index", settings={"retry": Retry(attempts=4, first_pause_s=0)})
        assert len(stub.asked) == 4


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500, 502])
def test_what_will_not_change_is_asked_once(call, status):
    with endpoint(refuses(status)) as stub:
        with pytest.raises(XhashError):
            call(stub.url, "index")
        assert len(stub.asked) == 1


@pytest.mark.parametrize(("method", "arguments"), CHANGES)
def test_a_change_that_may_have_been_made_is_not_made_again(call, method, arguments):
    with endpoint(breaks) as stub:
        with pytest.raises(Unreachable, match=r"no answer .* the change may have been made all the same"):
            call(stub.url, method, *arguments)
        assert len(stub.asked) == 1
    with endpoint(refuses(503)) as stub:
        with pytest.raises(Overloaded):
            call(stub.url, method, *arguments)
        assert len(stub.asked) == 1


def test_a_change_is_tried_again_while_nobody_listens(call, pauses):
    with nobody() as (url, bound), ExitStack() as later:
        patient, opened = Retry(attempts=10**6, first_pause_s=0.05, longest_pause_s=0.05), []

        def opens() -> None:
            while len(pauses) < 3:
                time.sleep(0.01)
            opened.append(later.enter_context(endpoint(FACTS, bound=bound)))

        opener = threading.Thread(target=opens)
        opener.start()
        assert call(url, "delete", ["a"], settings={"retry": patient}) == {"rows": 5}
        opener.join()
        assert len(opened[0].asked) == 1
    with nobody() as (url, _), pytest.raises(Unreachable) as error:
        call(url, "delete", ["a"])
    assert "may have been made" not in str(error.value), "nobody got it"


@pytest.fixture
def pauses(monkeypatch) -> list[float | None]:
    """Seconds that clients decide to wait before they ask again; None where they do not."""
    decided, decide = [], Course.pause_s

    def noting(course: Course, outcome: Outcome) -> float | None:
        decided.append(decide(course, outcome))
        return decided[-1]

    monkeypatch.setattr(Course, "pause_s", noting)
    return decided


def test_the_endpoint_says_how_long_to_wait(call, pauses):
    with endpoint(refuses(503, Retry_After="1"), FACTS) as stub:
        started_s = time.monotonic()
        assert call(stub.url, "index") == {"rows": 5}
        assert time.monotonic() - started_s >= 1
        assert pauses == [pytest.approx(1, abs=0.001), None]


def test_who_is_to_wait_too_long_does_not_wait(call, pauses):
    with endpoint(refuses(503, Retry_After="200"), FACTS) as stub:
        with pytest.raises(Overloaded):
            call(stub.url, "index", settings={"timeout_s": 100})
        assert pauses == [None]
        assert len(stub.asked) == 1


@pytest.mark.parametrize("step", [stalls, trickles, stalls_late, refuses(503), breaks])
def test_all_attempts_together_end_when_their_time_is_over(call, step):
    """They would last ten minutes and more by themselves."""
    ever = Retry(attempts=10**6, first_pause_s=0.02, longest_pause_s=0.02)
    with endpoint(step) as stub:
        started_s = time.monotonic()
        with pytest.raises((Unreachable, Overloaded)):
            call(stub.url, "index", settings={"timeout_s": 0.6, "retry": ever})
        assert time.monotonic() - started_s < 60


def test_the_phases_of_an_attempt_share_one_deadline(call, monkeypatch):
    """By a clock that goes on by a second whenever it is looked at."""
    ticks, given = itertools.count(), []
    monkeypatch.setattr(exchange, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))

    def noted(left: TimeLeft, phase: str) -> float:
        given.append((phase, looked_up(left, phase)))
        return given[-1][1]

    looked_up = TimeLeft.__getitem__
    monkeypatch.setattr(TimeLeft, "__getitem__", noted)
    with endpoint(FACTS) as stub:
        call(stub.url, "index", settings={"timeout_s": 1000})
    assert {"connect", "read"} <= {phase for phase, _ in given}
    left_s = [seconds for _, seconds in given]
    assert left_s[0] < 1000
    assert all(before > after for before, after in itertools.pairwise(left_s))


def test_when_the_time_is_over_a_socket_still_waits_for_a_moment(monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr(exchange, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    left = TimeLeft(5)
    now_s[0] += 2
    assert (left.seconds(), left["read"]) == (3, 3)
    now_s[0] += 4
    assert left.seconds() < 0 < left["read"], "a socket takes no timeout below 0, and 0 would not wait at all"


@given(st.integers(1, 10**6), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e6))
def test_a_pause_is_what_was_asked_and_a_bounded_rest(failed, first_s, longest_s, jitter, chance, asked_s):
    retry = Retry(10**7, first_s, longest_s, jitter)
    pause_s = retry.pause_s(failed, asked_s, float("inf"), chance)
    assert asked_s <= pause_s <= asked_s + longest_s
    assert retry.pause_s(failed, asked_s, pause_s, chance) is None, "it must end before the call does"
    assert Retry(failed).pause_s(failed, 0, float("inf"), chance) is None


def test_pauses_double():
    retry = Retry(attempts=9, first_pause_s=1, longest_pause_s=10, jitter=0.5)
    assert [retry.pause_s(failed, 0, 100, 0) for failed in range(1, 6)] == [1, 2, 4, 8, 10]
    assert retry.pause_s(2, 0, 100, 1) == 1


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"first_pause_s": -1}, {"longest_pause_s": float("nan")}, {"jitter": 2}]
)
def test_a_policy_that_cannot_be_followed_is_refused(wrong):
    with pytest.raises(BadInput, match="a retry policy"):
        Retry(**wrong)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0),
        ("3", 3),
        ("9" * 5000, float("inf")),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime((NOW + timedelta(seconds=90)).replace(tzinfo=None)), 90),
        (format_datetime(NOW - timedelta(seconds=90)), 0),
        ("-3", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_both_kinds_of_retry_after(text, seconds):
    assert retry_after_s(text, NOW) == seconds


@given(st.text() | st.text("0123456789 :,+-GMTMonJa"))
def test_no_header_is_an_error(text):
    assert retry_after_s(text, NOW) >= 0
