"""Everything storage does, before a store that does everything wrong: right answers or clear errors, in bounded time.

Bounded is the number of requests, each of which ends in CALL_S: how long that takes here is the machine's affair.

All pairs of a fault and a deed run side by side, each in a folder of its own that its fault befalls.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faulty_store import FaultyStore
from tests.storage import primitives
from tests.storage.primitives import ALL, CONTENT, DELETES, READS, WRITES, WRITTEN
from tests.store_faults import Fault
from xhash_ray.errors import BadInput, Unreachable
from xhash_ray.storage import uri as places
from xhash_ray.storage.failures import UnusableStore
from xhash_ray.storage.retrying import is_transient, patiently

TOGETHER = 48
MOST_REQUESTS = 24  # of a deed that is done once: s3fs asks twice for a piece, each time in two calls of six tries
PASSING = ("slowdown", "internal", "reset", "reset-halfway", "truncated", "lost", "stored", "request-timeout")
LASTING = ("slowdown", "unavailable", "internal", "bad-gateway", "reset", "lost")
REFUSALS = ("expired", "expired-403", "denied", "unknown-key", "bad-signature", "skewed")
REMEDIES = {
    "expired": "credentials have expired.*Renew them",
    "expired-403": "credentials have expired.*Renew them",
    "denied": "permission denied.*Check credentials and bucket policy",
    "unknown-key": "does not take these credentials.*AWS_ACCESS_KEY_ID",
    "bad-signature": "does not take these credentials.*AWS_SECRET_ACCESS_KEY",
    "skewed": "clock.*Set the clock",
    "no-bucket": "no such bucket.*Check the name",
    "not-s3": "no S3 store.*AWS_ENDPOINT_URL|no such file, folder or bucket.*AWS_ENDPOINT_URL",
}


@dataclass(frozen=True)
class Outcome:
    """What a deed gave or raised, and how many requests it took."""

    answer: Any
    error: Exception | None
    requests: int = 0


Outcomes = dict[tuple[str, str], Outcome]  # by kind and deed


def tried(do: Callable[[], Any]) -> Outcome:
    """Does something once."""
    try:
        return Outcome(do(), None)
    except Exception as error:
        return Outcome(None, error)


def folder_of(how: str, kind: str, deed: str) -> str:
    """A folder of its own for a pair."""
    return f"s3://xhash/{how}/{kind}/{deed}"


def befallen(store: FaultyStore, how: str, faults: Iterable[Fault], is_patient: bool) -> Outcomes:
    """Every pair of a fault's kind and a deed, the deed done patiently or once."""

    def work(fault: Fault, deed: str) -> Outcome:
        do, folder = ALL[deed][0], folder_of(how, fault.kind, deed)
        return tried(lambda: patiently(lambda: do(folder)) if is_patient else do(folder))

    store.set()
    pairs = [(fault, deed) for fault in faults for deed in ALL]
    with ThreadPoolExecutor(TOGETHER) as threads:
        filled = [folder_of(how, fault.kind, deed) for fault, deed in pairs if deed not in WRITES]
        list(threads.map(primitives.fill, filled))
        own = [Fault(**{**vars(fault), "key": f"^xhash/{how}/{fault.kind}/{deed}/?"}) for fault, deed in pairs]
        store.set(*own)
        outcomes = list(threads.map(work, *zip(*pairs, strict=True)))
    for fault in faults:
        assert store.injected[fault.kind] >= len(ALL) - 1, fault
    asked = Counter(tuple(key.split("/")[2:4]) for _, key in store.faults.seen)
    store.set()
    named = zip(((fault.kind, deed) for fault, deed in pairs), outcomes, strict=True)
    return {pair: dataclasses.replace(outcome, requests=asked[pair]) for pair, outcome in named}


@pytest.fixture(scope="module")
def passing(pointed: FaultyStore) -> Outcomes:
    """Faults that befall two requests of each deed."""
    faults = [Fault(kind, times=2) for kind in PASSING]
    faults += [Fault("slow", seconds=0.3), Fault("trickle", seconds=0.3)]
    return befallen(pointed, "passing", faults, is_patient=True)


@pytest.fixture(scope="module")
def lasting(pointed: FaultyStore) -> Outcomes:
    """Faults that befall every request."""
    faults = [Fault(kind) for kind in (*LASTING, *REFUSALS, "no-bucket", "not-s3")]
    return befallen(pointed, "lasting", faults, is_patient=False)


@pytest.fixture(scope="module")
def halves(pointed: FaultyStore) -> Outcomes:
    """Answers that end halfway, every one of them."""
    faults = [Fault(kind) for kind in ("truncated", "reset-halfway", "stored")]
    return befallen(pointed, "halves", faults, is_patient=False)


def assert_right(deed: str, outcome: Outcome) -> None:
    """The answer is the right one."""
    assert outcome.error is None, outcome.error
    wanted = ALL[deed][1]
    assert outcome.answer.equals(wanted) if hasattr(wanted, "equals") else outcome.answer == wanted


def assert_whole(folder: str, deed: str, done: bool) -> None:
    """What is left is whole, and there or not there as the deed wants it; either way where it was not done."""
    before, after = {"there": CONTENT}, {"there": CONTENT}
    if deed in WRITES:
        before, after = {}, {"new": WRITTEN}
    if deed in DELETES:
        after = {}
    assert primitives.left(folder) in ([after] if done else [before, after])


@pytest.mark.parametrize("deed", ALL)
@pytest.mark.parametrize("kind", [*PASSING, "slow", "trickle"])
def test_what_passes_is_tried_again_and_the_answer_is_right(store, passing, kind, deed):
    outcome = passing[kind, deed]
    if kind == "request-timeout" and isinstance(outcome.error, BadInput):
        assert "refuses the request" in str(outcome.error)  # 400 without a body: HEAD's answer to bad credentials, too
        return
    assert_right(deed, outcome)
    assert_whole(folder_of("passing", kind, deed), deed, done=True)


@pytest.mark.parametrize("deed", ALL)
@pytest.mark.parametrize("kind", LASTING)
def test_what_lasts_is_said_to_be_of_the_moment_and_in_bounded_time(store, lasting, kind, deed):
    outcome = lasting[kind, deed]
    assert isinstance(outcome.error, Unreachable)
    assert is_transient(outcome.error)
    assert f"s3://xhash/lasting/{kind}/{deed}" in str(outcome.error)
    assert "\n" not in str(outcome.error)
    assert 1 <= outcome.requests <= MOST_REQUESTS
    assert_whole(folder_of("lasting", kind, deed), deed, done=False)


@pytest.mark.parametrize("deed", ALL)
@pytest.mark.parametrize("kind", REFUSALS)
def test_refusals_are_bad_input_with_a_remedy_and_not_tried_again(lasting, kind, deed):
    outcome = lasting[kind, deed]
    assert isinstance(outcome.error, BadInput), outcome.error
    assert not is_transient(outcome.error)
    assert str(outcome.error).rpartition(". ")[2].startswith(("Check", "Renew", "Set"))
    assert 1 <= outcome.requests <= MOST_REQUESTS


@pytest.mark.parametrize("deed", ["read_bytes", *WRITES])
@pytest.mark.parametrize("kind", REMEDIES)
def test_the_remedy_fits_what_the_store_says(lasting, kind, deed):
    """HEAD has no body: what is asked for by HEAD alone is only known to be refused."""
    with pytest.raises(BadInput, match=REMEDIES[kind]) as raised:
        raise lasting[kind, deed].error
    if kind != "denied" and (kind, deed) != ("not-s3", "read_bytes"):
        assert isinstance(raised.value, UnusableStore)


@pytest.mark.parametrize("kind", ["no-bucket", "not-s3"])
def test_where_there_is_no_bucket_nothing_is_there(lasting, kind):
    assert lasting[kind, "exists"].answer is False
    for deed in ("fetch", "read_file", "list_files"):
        assert isinstance(lasting[kind, deed].error, BadInput), deed


@pytest.mark.parametrize("deed", ALL)
@pytest.mark.parametrize("kind", ["truncated", "reset-halfway", "stored"])
def test_half_an_answer_is_no_answer(store, halves, kind, deed):
    outcome = halves[kind, deed]
    if outcome.error is None:
        assert_right(deed, outcome)  # there was no body to cut
    else:
        assert isinstance(outcome.error, Unreachable), outcome.error
    if deed in READS and deed != "exists":
        assert isinstance(outcome.error, Unreachable)
    assert 1 <= outcome.requests <= MOST_REQUESTS
    assert_whole(folder_of("halves", kind, deed), deed, done=outcome.error is None)


def test_units_in_a_storm_end_right(store):
    kinds = ("slowdown", "internal", "reset", "reset-halfway", "truncated", "lost", "stored", "slow")
    store.set(*(Fault(kind, probability=0.05, seconds=0.2) for kind in kinds))
    said: list[str] = []

    def unit(number: int) -> tuple[bool, bytes, list[str]]:
        folder = f"s3://xhash/storm/{number}"
        content = CONTENT[: 1000 * number + 1]
        again = lambda do: patiently(do, say=said.append)  # noqa: E731
        again(lambda: places.write_bytes(f"{folder}/part", content))
        made = again(lambda: places.create_bytes(f"{folder}/commit", b"{}", writer=folder))
        return made, again(lambda: places.read_bytes(f"{folder}/part")), again(lambda: primitives.listed(folder))

    with ThreadPoolExecutor(TOGETHER) as threads:
        for number, (made, content, names) in enumerate(threads.map(unit, range(24))):
            assert made
            assert content == CONTENT[: 1000 * number + 1]
            assert names == ["commit", "part"]
    assert set(store.injected) <= set(kinds)
    assert len(store.injected) > len(kinds) / 2, "it was one: some 200 requests, of which every third was hit"
    assert not [line for line in said if "\n" in line]
