"""What can go wrong with an object store, as rules that a proxy (tests/faulty_store.py) applies to requests.

A rule names a kind of fault and the requests it befalls: by method or S3 operation, by key, from the n-th on, at most
so often, from a moment on, with a probability. The draws are a function of the seed and of the order of requests.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

# What happens to an answer.
SLOW, TRICKLE, RESET, RESET_HALFWAY, TRUNCATED = "slow", "trickle", "reset", "reset-halfway", "truncated"
# What happens to a request: it is never answered; a write's connection is closed once its body is there.
SILENT, LOST, STORED, STALE_LISTING = "silent", "lost", "stored", "stale-listing"

# Kinds that are an answer of their own: status, code and message as Amazon documents them.
# Source: docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
ERRORS = {
    "slowdown": (503, "SlowDown", "Please reduce your request rate."),
    "unavailable": (503, "ServiceUnavailable", "Service is unable to handle request."),
    "internal": (500, "InternalError", "We encountered an internal error. Please try again."),
    "request-timeout": (400, "RequestTimeout", "Your socket connection to the server was not read from in time."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
    "expired-403": (403, "ExpiredToken", "The provided token has expired."),
    "denied": (403, "AccessDenied", "Access Denied"),
    "unknown-key": (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    "bad-signature": (403, "SignatureDoesNotMatch", "The request signature we calculated does not match."),
    "skewed": (403, "RequestTimeTooSkewed", "The difference between the request time and the server's is too large."),
    "no-bucket": (404, "NoSuchBucket", "The specified bucket does not exist"),
    "no-upload": (404, "NoSuchUpload", "The specified upload does not exist."),
    "conflict": (409, "ConditionalRequestConflict", "A conflicting operation is under way."),
}
NOT_S3, GATEWAY = "not-s3", "bad-gateway"  # an HTML page with 404 or 502, as servers and proxies give that are no store
PAGES = {NOT_S3: (404, "Not Found"), GATEWAY: (502, "Bad Gateway")}
KINDS = (
    SLOW, TRICKLE, RESET, RESET_HALFWAY, TRUNCATED, SILENT, LOST, STORED, STALE_LISTING, *ERRORS, *PAGES,
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One rule.

    Attributes:
        kind: One of KINDS.
        probability: Of befalling a request that everything else fits.
        on: HTTP methods or S3 operations ("GET", "PutObject", ...), separated by "|"; "" is all.
        key: A regular expression, searched in "bucket/key".
        skip: Requests that fit and are let through first.
        times: At most so often, 0 is always.
        after_s: Seconds from the rule's making until it holds.
        seconds: How long an answer is delayed (slow) or spread (trickle), or a new key stays unlisted (stale-listing).
        share: Of a body that is sent before the connection ends (reset-halfway, truncated).
    """

    kind: str
    probability: float = 1.0
    on: str = ""
    key: str = ""
    skip: int = 0
    times: int = 0
    after_s: float = 0.0
    seconds: float = 1.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault '{self.kind}': known are {', '.join(KINDS)}")


def parse(text: str) -> Fault:
    """A rule as on the command line.

    >>> parse("slowdown:probability=0.1,on=GET|HEAD")
    Fault(kind='slowdown', probability=0.1, on='GET|HEAD', key='', skip=0, times=0, after_s=0.0, seconds=1.0, share=0.5)
    """
    kind, _, rest = text.partition(":")
    types = {field.name: {"float": float, "int": int}.get(str(field.type), str) for field in fields(Fault)}
    given: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        name, _, value = part.partition("=")
        given[name] = types[name](value)
    return Fault(kind, **given)


@dataclass
class Rule:
    """A fault at work: since when it holds, how many requests fitted it, how many it befell."""

    fault: Fault
    since_s: float
    fitted: int = 0
    befell: int = 0

    def fits(self, method: str, operation: str, key: str) -> bool:
        """Whether a request is one that the fault may befall."""
        fault = self.fault
        on = fault.on.split("|") if fault.on else [method]
        there = method in on or operation in on
        return there and bool(re.search(fault.key, key)) and time.monotonic() >= self.since_s + fault.after_s

    def strikes(self, draw: float) -> bool:
        """Whether it befalls this request, which it fits."""
        self.fitted += 1
        left = not self.fault.times or self.befell < self.fault.times
        struck = left and self.fitted > self.fault.skip and draw < self.fault.probability
        self.befell += struck
        return struck


class Faults:
    """The rules in force, and the count of what they did; safe between threads.

    Attributes:
        injected: How often each kind befell a request.
        seen: Every request: (operation, "bucket/key").
    """

    def __init__(self, seed: int = 0) -> None:
        self.lock, self.random = threading.Lock(), random.Random(seed)
        self.rules: list[Rule] = []
        self.injected: Counter[str] = Counter()
        self.seen: list[tuple[str, str]] = []

    def set(self, faults: Iterable[Fault]) -> None:
        """Replaces the rules and begins to count anew."""
        with self.lock:
            self.rules = [Rule(fault, time.monotonic()) for fault in faults]
            self.injected.clear()
            self.seen.clear()

    def draw(self, method: str, operation: str, key: str) -> Fault | None:
        """The first rule that befalls a request. Stale listings are counted where something was left out."""
        with self.lock:
            self.seen.append((operation, key))
            for rule in self.rules:
                if rule.fault.kind == STALE_LISTING or not rule.fits(method, operation, key):
                    continue
                if rule.strikes(self.random.random()):
                    self.injected[rule.fault.kind] += 1
                    return rule.fault
        return None

    def listing_lag_s(self, key: str) -> float:
        """How long keys stay unlisted, 0 where listings are exact."""
        with self.lock:
            rules = [rule for rule in self.rules if rule.fault.kind == STALE_LISTING]
            return max((rule.fault.seconds for rule in rules if rule.fits("GET", "ListObjectsV2", key)), default=0.0)

    def count(self, kind: str, times: int) -> None:
        """Adds to the count of a kind."""
        with self.lock:
            self.injected[kind] += times

    def counts(self) -> Counter[str]:
        """How often each kind befell a request until now."""
        with self.lock:
            return Counter(self.injected)
