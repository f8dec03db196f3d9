"""Overload over a real socket: who cannot be served is refused at once, who is accepted is served in bounded time.

"At once" is before anything is scanned, and time is bounded by the number of scans that one waits for: the machine's
own speed decides nothing here.
"""

import asyncio
import json

import httpx2

from tests.ports import free_port
from tests.serving.test_http import Encoder
from xhash_ray.benchmarks.load import Connection, request_bytes
from xhash_ray.serving import http
from xhash_ray.serving.backends import GroupServer, InProcess
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.listening import Ports, listen
from xhash_ray.serving.router import Router

BATCH, WAITING = 8, 32
SCANS = 1 + WAITING // BATCH  # that one may wait for: the one under way, and those of all who may wait
QUERY = {"code": "0102", "metadata": False, "timeout_s": 60}


class Gated(InProcess):
    """A group that scans while a gate is open."""

    def __init__(self, server: GroupServer) -> None:
        super().__init__(server)
        self.gate = asyncio.Event()

    async def call(self, method, deadline_s, *arguments):
        if method == "search":
            await self.gate.wait()
        return await super().call(method, deadline_s, *arguments)


class Counting(Router):
    """A router that notes how many scans began between a query's coming and its answer."""

    def __init__(self, *given, **named) -> None:
        super().__init__(*given, **named)
        self.scans: list[int] = []

    async def search(self, *given):
        before = self.coalescer.batches
        answer = await super().search(*given)
        self.scans.append(self.coalescer.batches - before)
        return answer


class Asking:
    """Callers with a connection for every question, and what they were answered."""

    def __init__(self, url: str, callers: int, each: int, **query) -> None:
        self.url, self.each, self.statuses = url, each, list[int]()
        self.request = request_bytes(f"{url}/v1/search", json.dumps({**QUERY, **query}).encode())
        self.callers = asyncio.gather(*(self.caller() for _ in range(callers)))

    async def caller(self) -> None:
        """Asks again when it is answered."""
        for _ in range(self.each):
            connection = Connection(self.url)
            self.statuses.append(await connection.ask(self.request))
            connection.close()

    async def until(self, answers: int) -> None:
        """Waits until so many have an answer."""
        while len(self.statuses) < answers:
            await asyncio.sleep(0.01)

    def counts(self) -> tuple[int, int]:
        """How many were answered, and how many refused with 503; nothing else may come."""
        counts = self.statuses.count(200), self.statuses.count(503)
        assert sum(counts) == len(self.statuses), self.statuses
        return counts


def test_under_and_after_overload(index):
    async def scene():
        group = Gated(GroupServer(index))
        router = Counting(index, [group], batch=BATCH, waiting=WAITING)
        http.door.opened = Gateway(router, Encoder(), Keys(None))
        await http.door.opened.activate(None)
        port = free_port()
        kept = await listen(Ports(http=port))
        url = f"http://127.0.0.1:{port}"
        try:
            await at_once(url, group)
            await in_bounded_time(url, router)
            await with_words(url, group)
            await and_again(url, group)
        finally:
            http.door.opened = None
            kept[0].cancel()

    async def at_once(url, group):
        accepted = 1 + WAITING  # one is scanned
        many = Asking(url, callers=300, each=1)
        await many.until(300 - accepted)
        assert many.counts() == (0, 300 - accepted), "nothing was scanned meanwhile"
        group.gate.set()
        await many.callers
        assert many.counts() == (accepted, 300 - accepted)

    async def in_bounded_time(url, router):
        many = Asking(url, callers=100, each=4)
        await many.callers
        answered, _ = many.counts()
        assert answered > WAITING
        assert max(router.scans) <= SCANS + 1, "the next may begin before an answer is on its way"

    async def with_words(url, group):
        group.gate.clear()
        async with httpx2.AsyncClient(timeout=None, limits=httpx2.Limits(max_connections=None)) as client:
            asked = [asyncio.ensure_future(client.post(f"{url}/v1/search", json=QUERY)) for _ in range(WAITING * 3)]
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            group.gate.set()
            await asyncio.gather(*asked)
        (refusal, *_) = (each.result() for each in done)
        assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "1")
        assert "others wait" in refusal.json()["error"]["found"]

    async def and_again(url, group):
        few = Asking(url, callers=4, each=5)
        await few.callers
        assert few.counts() == (20, 0), "it recovers by itself"
        group.gate.clear()
        late = Asking(url, callers=WAITING, each=1, timeout_s=0.02)
        await late.callers
        answered, _ = late.counts()
        assert answered <= 1, "what is past its time before its turn is dropped; the first lacks its shards"

    asyncio.run(scene())
