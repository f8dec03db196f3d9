"""The client whose methods are awaited, on asyncio."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx2

from xhash_ray.client import calls, exchange
from xhash_ray.client.refusals import Outcome, result
from xhash_ray.client.retry import DEFAULT, Retry
from xhash_ray.client.wire import Call
from xhash_ray.errors import XhashError

P = ParamSpec("P")
T = TypeVar("T")


def asking(plan: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """A method that takes what a call takes, and returns its result when awaited."""

    async def method(self: AsyncClient, *args: P.args, **options: P.kwargs) -> T:
        return await self.ask(plan(*args, **options))

    return exchange.named(method, plan)


class AsyncClient:
    """Asks one endpoint; coroutines of one event loop may share it.

    Arguments, methods and errors are those of `Client`; methods are awaited, `async with` opens and closes it.
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
        self.http = httpx2.AsyncClient(**exchange.settings(key, verify))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes its connections."""
        await self.http.aclose()

    search = asking(calls.search)
    search_batch = asking(calls.search_batch)
    encode = asking(calls.encode)
    item = asking(calls.item)
    index = asking(calls.index)
    activate = asking(calls.activate)
    rollback = asking(calls.rollback)
    delete = asking(calls.delete)
    add = asking(calls.add)

    async def alive(self) -> bool:
        """Whether an endpoint answers; asked once, and no error if not."""
        try:
            return await self.ask(calls.alive())
        except XhashError:
            return False

    async def ask(self, call: Call[T]) -> T:
        """The result of a call, tried as often as it may be."""
        import asyncio  # who gets here has it; `xhash query`, which never does, starts 40 ms sooner without

        course = exchange.Course(call, self.retry, self.timeout_s)
        while True:
            try:
                async with asyncio.timeout(course.left.seconds()):
                    outcome = await self.attempt(course)
            except TimeoutError as error:
                outcome = exchange.broken(error)
            pause_s = course.pause_s(outcome)
            if pause_s is None:
                return result(call, self.url, outcome)
            await asyncio.sleep(pause_s)

    async def attempt(self, course: exchange.Course) -> Outcome:
        """Sends a call once."""
        try:
            response = await self.http.request(**course.request(self.url))
        except exchange.FAILURES as error:
            return exchange.broken(error)
        return exchange.reply(response, response.content)
