"""The client whose methods wait."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import httpx2

from xhash_ray.client import calls, exchange
from xhash_ray.client.refusals import Outcome, result
from xhash_ray.client.retry import DEFAULT, Retry
from xhash_ray.client.wire import Call
from xhash_ray.errors import XhashError

P = ParamSpec("P")
T = TypeVar("T")


def asking(plan: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    """A method that takes what a call takes, and returns its result."""

    def method(self: Client, *args: P.args, **options: P.kwargs) -> T:
        return self.ask(plan(*args, **options))

    return exchange.named(method, plan)


class Client:
    """Asks one endpoint; threads may share it.

    Every method raises Unreachable when nothing answers in time, BadInput when the endpoint refuses what it is asked,
    Overloaded when it should be asked again later, Conflict when another writer was first, and XhashError when the
    endpoint failed.

    Args:
        url: Such as http://127.0.0.1:8000 or https://search.example/xhash.
        timeout_s: For each call, all its attempts and the pauses between them together.
        key: API key, where the endpoint wants one.
        retry: When a call is tried again: questions after broken connections, 503 and 429; changes (`activate`,
            `rollback`, `delete`, `add`) only where no connection came about, so that none is made twice.
        verify: What vouches for an https endpoint: True for the system's authorities, a PEM file of others, an
            SSLContext, or False for nobody.

    Raises:
        BadInput: for a key that no header can hold, or a file of authorities that cannot be read.
    """

    def __init__(
        self,
        url: str,
        timeout_s: float = 30.0,
        key: str | None = None,
        retry: Retry = DEFAULT,
        verify: ssl.SSLContext | str | bool = True,
    ) -> None:
        self.url, self.timeout_s, self.retry = url.rstrip("/"), timeout_s, retry
        self.http = httpx2.Client(**exchange.settings(key, verify))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self.http.close()

    search = asking(calls.search)
    search_batch = asking(calls.search_batch)
    encode = asking(calls.encode)
    item = asking(calls.item)
    index = asking(calls.index)
    activate = asking(calls.activate)
    rollback = asking(calls.rollback)
    delete = asking(calls.delete)
    add = asking(calls.add)

    def alive(self) -> bool:
        """Whether an endpoint answers; asked once, and no error if not."""
        try:
            return self.ask(calls.alive())
        except XhashError:
            return False

    def ask(self, call: Call[T]) -> T:
        """The result of a call, tried as often as it may be."""
        course = exchange.Course(call, self.retry, self.timeout_s)
        while True:
            outcome = self.attempt(course)
            pause_s = course.pause_s(outcome)
            if pause_s is None:
                return result(call, self.url, outcome)
            time.sleep(pause_s)

    def attempt(self, course: exchange.Course) -> Outcome:
        """Sends a call once."""
        try:
            with self.http.stream(**course.request(self.url)) as response:
                return exchange.reply(response, course.gathered(response.iter_bytes()))
        except exchange.FAILURES as error:
            return exchange.broken(error)
