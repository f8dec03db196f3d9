"""How an attempt ended, whether it may be made again, and what is raised where it is the last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from xhash_ray.client.wire import Call, Repeat
from xhash_ray.errors import BadInput, Conflict, Overloaded, Unreachable, XhashError

T = TypeVar("T")
TAKEN, LATER = 409, (429, 503)


@dataclass(frozen=True)
class Reply:
    """Something answered.

    Attributes:
        status: HTTP's.
        content: The body.
        retry_after_s: Seconds that it asks to wait, 0 where it asks nothing.
    """

    status: int
    content: bytes
    retry_after_s: float = 0.0


@dataclass(frozen=True)
class Broken:
    """Nothing answered, or not to the end.

    Attributes:
        why: In the words of whoever noticed.
        sent: Whether the endpoint may have got the request.
        passing: Whether it may go better the next time.
    """

    why: str
    sent: bool
    passing: bool


Outcome = Reply | Broken


def may_repeat(outcome: Outcome, repeat: Repeat) -> bool:
    """Whether a call that ended so may be sent again."""
    if isinstance(outcome, Reply):
        return repeat == "always" and outcome.status in LATER
    return outcome.passing and (repeat == "always" or (repeat == "unsent" and not outcome.sent))


def result(call: Call[T], url: str, outcome: Outcome) -> T:
    """What a call gives.

    Args:
        call: What was asked.
        url: Of the endpoint, for messages.
        outcome: Of the last attempt.

    Raises:
        Unreachable: when nothing answered, or something that is no endpoint.
        BadInput: when the endpoint refuses the request.
        Conflict: when another writer was first.
        Overloaded: when it should be asked again later.
        XhashError: when it failed.
    """
    if isinstance(outcome, Broken):
        raise unanswered(call, url, outcome)
    if not 200 <= outcome.status < 300:
        raise refusal(url, outcome)
    try:
        return call.read(json.loads(outcome.content))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise stranger(url, outcome) from None


def unanswered(call: Call[Any], url: str, outcome: Broken) -> Unreachable:
    """The error for a call without an answer."""
    done = "; the change may have been made all the same" if call.repeat == "unsent" and outcome.sent else ""
    found = f"no answer ({outcome.why}){done}"
    return Unreachable(f"endpoint {url}", found, "Start it with `xhash serve`, or check --url")


def stranger(url: str, reply: Reply) -> Unreachable:
    """The error for an answer that no endpoint known to this client gives."""
    return Unreachable(f"endpoint {url}", f"HTTP {reply.status}, not from xhash-ray", "Check --url")


def refusal(url: str, reply: Reply) -> XhashError:
    """The endpoint's own words about a request it did not serve."""
    kind, asked = kind_of(reply.status), f"endpoint {url}"
    try:
        body = json.loads(reply.content)
    except ValueError:  # a proxy's page; what it says of load is as good as ours
        return kind(asked, f"HTTP {reply.status}", "Ask again later") if kind is Overloaded else stranger(url, reply)
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict) and {"asked", "found", "do"} <= error.keys():
        return kind(error["asked"], error["found"], error["do"])
    return kind(asked, f"HTTP {reply.status}: {str(body)[:500]}", "Check the endpoint's logs")


def kind_of(status: int) -> type[XhashError]:
    """The error that a status stands for."""
    if status in LATER:
        return Overloaded
    if status == TAKEN:
        return Conflict
    return BadInput if 400 <= status < 500 else XhashError
