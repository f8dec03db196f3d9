"""Trying again: how long it waits, when it gives up, what it does not try again. No clock is real here."""

import random

import botocore.exceptions
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xhash_ray.errors import BadInput, Conflict, Mismatch, Unreachable, XhashError
from xhash_ray.storage.failures import UnusableStore
from xhash_ray.storage.retrying import FIRST_WAIT_S, LONGEST_WAIT_S, PATIENCE_S, is_transient, patiently, patiently_each

GONE = Unreachable("reading s3://b/k", "no answer", "Check AWS_ENDPOINT_URL and the network")


class Time:
    """A clock that only sleeping and working move."""

    def __init__(self) -> None:
        self.now_s, self.waits = 1000.0, []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, wait_s: float) -> None:
        self.waits.append(wait_s)
        self.now_s += wait_s


class Work:
    """Fails with the errors given, then answers; takes a while each time."""

    def __init__(self, time: Time, *errors: BaseException, takes_s: float = 0.0) -> None:
        self.time, self.errors, self.takes_s, self.calls = time, list(errors), takes_s, 0

    def __call__(self) -> str:
        self.calls += 1
        self.time.now_s += self.takes_s
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def run(time: Time, work: Work, **given) -> str:
    """The work, patiently."""
    return patiently(work, sleep=time.sleep, clock=time.clock, rng=random.Random(0), **given)


def test_what_succeeds_is_done_once_and_nothing_is_said():
    time, said = Time(), []
    work = Work(time)
    assert run(time, work, say=said.append) == "done"
    assert (work.calls, time.waits, said) == (1, [], [])


def test_what_fails_of_the_moment_is_tried_again_and_every_failure_is_said_in_a_line():
    time, said = Time(), []
    work = Work(time, GONE, GONE, ConnectionResetError("by peer"))
    assert run(time, work, say=said.append) == "done"
    assert work.calls == 4
    assert len(said) == 3
    assert said[0].startswith("reading s3://b/k: no answer; trying again in 0.")
    assert said[1].endswith("(failures so far: 2)")
    assert "by peer" in said[2]
    assert not [line for line in said if "\n" in line]


@pytest.mark.parametrize(
    "error",
    [
        BadInput("a", "b", "c"), UnusableStore("a", "b", "c"), Mismatch("a", "b", "c"), Conflict("a", "b", "c"),
        XhashError("a", "b", "c"), KeyError("x"), FileNotFoundError("x"), PermissionError("x"), KeyboardInterrupt(),
    ],
)  # fmt: skip
def test_what_would_fail_again_is_raised_at_once_and_as_it_is(error):
    time = Time()
    work = Work(time, error)
    with pytest.raises(type(error)) as raised:
        run(time, work)
    assert raised.value is error
    assert (work.calls, time.waits) == (1, [])


def test_it_gives_up_with_the_last_error_when_patience_is_at_an_end():
    time = Time()
    work = Work(time, *[GONE] * 999, takes_s=1.0)
    last = Unreachable("reading s3://b/k", "no answer, as ever", "Check it")
    work.errors[7:] = [last] * 999
    with pytest.raises(Unreachable) as raised:
        run(time, work, patience_s=60.0)
    assert str(raised.value) == f"reading s3://b/k: no answer, as ever (tried {work.calls} times in 61 s). Check it"
    assert raised.value.__cause__ is last
    assert sum(time.waits) + work.calls * 1.0 == pytest.approx(61.0)


def test_without_patience_it_is_tried_once():
    time = Time()
    work = Work(time, GONE)
    with pytest.raises(Unreachable, match=r"no answer \(tried once\)"):
        run(time, work, patience_s=0.0)
    assert work.calls == 1


def test_an_error_of_a_client_is_given_up_as_unreachable():
    time = Time()
    with pytest.raises(Unreachable, match=r"asking the object store: .*reset.*tried \d+ times in 5 s"):
        run(time, Work(time, *[ConnectionResetError("reset")] * 999), patience_s=5.0)


@given(st.integers(0, 2**32), st.floats(1.0, 1000.0), st.floats(0.0, 30.0))
def test_waits_are_jittered_under_a_doubling_bound_and_within_patience(seed, patience_s, takes_s):
    time = Time()
    work = Work(time, *[GONE] * 5_000, takes_s=takes_s)
    with pytest.raises(Unreachable):
        patiently(work, patience_s, sleep=time.sleep, clock=time.clock, rng=random.Random(seed))
    for number, wait_s in enumerate(time.waits):
        assert 0.0 <= wait_s <= min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**number)
    assert time.now_s - 1000.0 <= patience_s + takes_s + 1e-6
    assert time.now_s - 1000.0 >= patience_s - 0.002


def test_many_workers_do_not_come_back_at_once():
    firsts = []
    for seed in range(200):
        time = Time()
        patiently(Work(time, *[GONE] * 6), sleep=time.sleep, clock=time.clock, rng=random.Random(seed))
        firsts.append(time.waits[5])
    bound_s = FIRST_WAIT_S * 2**5
    assert min(firsts) < 0.1 * bound_s
    assert max(firsts) > 0.9 * bound_s
    assert len({round(wait_s, 3) for wait_s in firsts}) > 150


def test_five_minutes_are_a_few_dozen_tries():
    time = Time()
    work = Work(time, *[GONE] * 5_000)
    with pytest.raises(Unreachable):
        run(time, work)
    assert PATIENCE_S == 300.0
    assert 25 < work.calls < 80


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (GONE, True),
        (TimeoutError(), True),
        (BrokenPipeError("x"), True),
        (OSError("AWS Error SLOW_DOWN during GetObject operation: x"), True),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"), True),
        (botocore.exceptions.NoCredentialsError(), False),
        (BadInput("a", "b", "c"), False),
        (OSError("No space left on device"), False),
        (ValueError("timed out"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_is_of_the_moment(error, transient):
    assert is_transient(error) == transient


def test_an_iterator_that_breaks_goes_on_behind_what_it_gave():
    time, breaks = Time(), {0: 2, 3: 1, 5: 1}  # before which value how often

    def make():
        for value in range(6):
            if breaks.get(value, 0):
                breaks[value] -= 1
                raise GONE
            yield value

    assert list(patiently_each(make, sleep=time.sleep, clock=time.clock, rng=random.Random(0))) == list(range(6))
    assert len(time.waits) == 4


def test_an_iterator_that_stays_broken_is_given_up_after_what_it_gave():
    time = Time()

    def make():
        yield 1
        raise GONE

    given = patiently_each(make, 9.0, sleep=time.sleep, clock=time.clock, rng=random.Random(0))
    assert next(given) == 1
    with pytest.raises(Unreachable, match="tried"):
        next(given)
    assert sum(time.waits) == pytest.approx(9.0, abs=0.01)
