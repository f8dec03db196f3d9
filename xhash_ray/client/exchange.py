"""What both faces share of HTTP: how a call goes, and what its attempts end in."""

from __future__ import annotations

import functools
import inspect
import random
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx2

from xhash_ray.client.refusals import Broken, Outcome, Reply, may_repeat
from xhash_ray.client.retry import Retry, retry_after_s
from xhash_ray.client.wire import Call
from xhash_ray.errors import BadInput

FAILURES = (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError)
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
PASSING = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
PHASES = ("connect", "read", "write", "pool")
F = TypeVar("F", bound=Callable[..., Any])
LEAST_S = 0.001  # a socket with a timeout of 0 would not wait at all


class TimeLeft(Mapping[str, float]):
    """The timeouts of an attempt's phases, each of them what is left of the call when httpcore looks it up.

    Fixed numbers would allow an attempt that much for connecting, again for writing and again for reading.

    Args:
        seconds: From now.
    """

    def __init__(self, seconds: float) -> None:
        self.deadline_s = time.monotonic() + seconds

    def seconds(self) -> float:
        """Until the call must have ended; negative afterwards."""
        return self.deadline_s - time.monotonic()

    def __getitem__(self, phase: str) -> float:
        return max(self.seconds(), LEAST_S)

    def __iter__(self) -> Iterator[str]:
        return iter(PHASES)

    def __len__(self) -> int:
        return len(PHASES)


class Course:
    """How one call goes: the attempts so far, and the time left.

    Args:
        call: What is asked.
        retry: When it is asked again.
        timeout_s: For all attempts and the pauses between them.
    """

    def __init__(self, call: Call[Any], retry: Retry, timeout_s: float) -> None:
        self.call, self.retry, self.left, self.failed = call, retry, TimeLeft(timeout_s), 0

    def pause_s(self, outcome: Outcome) -> float | None:
        """Seconds to the next attempt, None when the outcome is the last."""
        self.failed += 1
        if not may_repeat(outcome, self.call.repeat):
            return None
        asked_s = outcome.retry_after_s if isinstance(outcome, Reply) else 0.0
        return self.retry.pause_s(self.failed, asked_s, self.left.seconds(), random.random())

    def request(self, url: str) -> dict[str, Any]:
        """The arguments of httpx2's `request` and `stream`."""
        headers = {"Content-Type": "application/json"} if self.call.body is not None else {}
        return {
            "method": self.call.verb,
            "url": url + self.call.path,
            "content": self.call.body,
            "headers": headers,
            "extensions": {"timeout": self.left},
        }

    def gathered(self, chunks: Iterable[bytes]) -> bytes:
        """A body that comes in time.

        A read's timeout begins anew with every byte, so that a body that trickles in would never end.

        Raises:
            TimeoutError: for one that does not.
        """
        parts = []
        for chunk in chunks:
            parts.append(chunk)
            if self.left.seconds() < 0:
                raise TimeoutError("timed out")
        return b"".join(parts)


def named(method: F, plan: Callable[..., Any]) -> F:
    """A method with the name, description and arguments of the call that it makes, for help() and editors."""
    functools.update_wrapper(method, plan)
    itself, planned = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), inspect.signature(plan)
    result = str(planned.return_annotation).removeprefix("Call[").removesuffix("]")
    arguments = [itself, *planned.parameters.values()]
    method.__signature__ = inspect.Signature(arguments, return_annotation=result)  # type: ignore[attr-defined]
    return method


def reply(response: httpx2.Response, content: bytes) -> Reply:
    """An answer, as the rest of this room sees it."""
    asked_s = retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC))
    return Reply(response.status_code, content, asked_s)


def broken(error: Exception) -> Broken:
    """A failure, as the rest of this room sees it."""
    why = str(error) or type(error).__name__
    never_sent = (*UNSENT, httpx2.InvalidURL, httpx2.UnsupportedProtocol)
    return Broken(why, sent=not isinstance(error, never_sent), passing=isinstance(error, PASSING))


def settings(key: str | None, verify: ssl.SSLContext | str | bool) -> dict[str, Any]:
    """The arguments of httpx2's clients.

    Args:
        key: API key, None for none.
        verify: What vouches for an https endpoint: True for the system's authorities, a file of others, a context of
            your own, or False for nobody.

    Raises:
        BadInput: for a key that no header can hold, or a file that cannot be read.
    """
    if key is not None and not (key.isascii() and key.isprintable()):
        raise BadInput("the key", "letters that no HTTP header can hold", "Give the key without its line end")
    try:
        context = ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify
    except OSError as error:
        raise BadInput(f"certificates {verify}", str(error), "Name a PEM file of authorities") from None
    return {"headers": {"Authorization": f"Bearer {key}"} if key else {}, "verify": context}
