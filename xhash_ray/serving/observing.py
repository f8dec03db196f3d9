"""What a gateway reports of searches: how many of which kind came to what, and where their time went."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from pydantic import ValidationError

from xhash_ray import telemetry
from xhash_ray.errors import BadInput, Overloaded
from xhash_ray.serving.bodies import Refused
from xhash_ray.serving.requests import SearchRequest

OUTCOMES = ((BadInput, "refused"), (Overloaded, "overloaded"), (Exception, "failed"))
NO_KIND = "none"  # of searches that were no query, or several


class Spent(NamedTuple):
    """Time that a search spent elsewhere than in its gateway, in seconds.

    Attributes:
        queue_s: Waiting for its turn.
        scan_s: In the scan of the group that took longest.
        fetch_s: Fetching metadata there.
    """

    queue_s: float
    scan_s: float
    fetch_s: float


def added(every: Sequence[Spent]) -> Spent:
    """Of scans one after the other."""
    return Spent(*(sum(each) for each in zip(*every, strict=True)))


def parts_of(spent: Spent, encode_s: float, total_s: float) -> dict[str, float]:
    """Where a search's time went, in seconds; `merge` is all that the other parts do not explain: merging, and hops."""
    merge_s = max(0.0, total_s - encode_s - sum(spent))
    queue_s, scan_s, fetch_s = spent
    return {
        "queue": queue_s, "encode": encode_s, "scan": scan_s, "merge": merge_s, "fetch": fetch_s, "total": total_s
    }  # fmt: skip


def report_parts(seconds: Mapping[str, float]) -> None:
    """Reports them; a part that did not take place took no time and is left out."""
    for part, value in seconds.items():
        if value > 0:
            telemetry.observe("xhash_search_seconds", value, part=part)


@contextlib.contextmanager
def counted(requests: Sequence[SearchRequest]) -> Iterator[list[Sequence[int]]]:
    """Counts searches by kind and outcome; those whose callers have left are none.

    Yields:
        For the numbers of the shards that each answer lacks.
    """
    missing: list[Sequence[int]] = []
    try:
        yield missing
    except Exception as error:
        outcome = next(name for kind, name in OUTCOMES if isinstance(error, kind))
        count([(kind_of(request), outcome) for request in requests])
        raise
    else:
        pairs = zip(requests, missing, strict=True)
        count([(kind_of(request), "incomplete" if lacking else "ok") for request, lacking in pairs])
    finally:
        for shard, answers in Counter(chain.from_iterable(missing)).items():
            telemetry.add("xhash_missing_shard_answers", answers, shard=str(shard))


def count(searches: Sequence[tuple[str, str]]) -> None:
    """Counts some by (kind, outcome)."""
    for (kind, outcome), number in Counter(searches).items():
        telemetry.add("xhash_searches", number, kind=kind, outcome=outcome)


def kind_of(request: SearchRequest) -> str:
    """What is searched with, one of six words."""
    try:
        return request.kind()
    except BadInput:
        return NO_KIND


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Counts a request that asks for a search in no way that can be read as refused."""
    try:
        yield
    except (Refused, ValidationError, BadInput):
        count([(NO_KIND, "refused")])
        raise
