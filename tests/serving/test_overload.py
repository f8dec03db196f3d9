"""Overload over a real socket: who cannot be served is refused at once, who is accepted is served in bounded time."""

import asyncio
import json
import time

import httpx2
import numpy as np

from tests.index.test_life import index, model  # noqa: F401 (fixtures)
from tests.serving.test_calls import free_port
from tests.serving.test_http import Encoder, Metrics
from xhash_ray.benchmarks.load import Connection, request_bytes
from xhash_ray.serving import http
from xhash_ray.serving.backends import GroupServer, InProcess
from xhash_ray.serving.gateway import Gateway
from xhash_ray.serving.keys import Keys
from xhash_ray.serving.listening import Ports, listen
from xhash_ray.serving.router import Router

SCAN_S, BATCH, WAITING = 0.05, 8, 32


class Slow(InProcess):
    """A group whose scans take a while, however many queries share them."""

    async def call(self, method, deadline_s, *arguments):
        if method == "search":
            await asyncio.sleep(SCAN_S)
        return await super().call(method, deadline_s, *arguments)


async def asked(url: str, callers: int, each: int, **query) -> tuple[list[float], list[float], int]:
    """Seconds of those answered, of those refused with 503, and how many were answered otherwise."""
    request = request_bytes(f"{url}/v1/search", json.dumps({"code": "0102", "metadata": False, **query}).encode())
    answered, refused, others = list[float](), list[float](), 0

    async def caller() -> None:
        nonlocal others
        connection = Connection(url)
        for _ in range(each):
            started_s = time.perf_counter()
            status = await connection.ask(request)
            taken_s = time.perf_counter() - started_s
            others += status not in (200, 503)
            (answered if status == 200 else refused).append(taken_s)
        connection.close()

    await asyncio.gather(*(caller() for _ in range(callers)))
    return answered, refused, others


def test_under_and_after_overload(index):  # noqa: F811
    async def scene():
        router = Router(index, [Slow(GroupServer(index))], batch=BATCH, waiting=WAITING)
        http.door.opened = Gateway(router, Encoder(), Keys(None), Metrics())
        await http.door.opened.activate(None)
        port = free_port()
        kept = await listen(Ports(http=port))
        url = f"http://127.0.0.1:{port}"
        try:
            answered, refused, others = await asked(url, callers=300, each=3)
            assert others == 0
            assert len(refused) > len(answered) > 3 * BATCH
            bound_s = SCAN_S * (1 + WAITING / BATCH)  # what may wait, and the batch before it
            assert np.quantile(answered, 0.5) < bound_s + 1, "the rest is this machine answering refusals"
            async with httpx2.AsyncClient() as client:
                bodies = [client.post(f"{url}/v1/search", json={"code": "0102"}) for _ in range(WAITING * 3)]
                later = [each for each in await asyncio.gather(*bodies) if each.status_code == 503]
            assert later
            assert {each.headers["Retry-After"] for each in later} == {"1"}
            assert "others wait" in later[0].json()["error"]["found"]
            answered, refused, others = await asked(url, callers=4, each=5)
            assert (len(answered), len(refused), others) == (20, 0, 0), "it recovers by itself"
            _, refused, _ = await asked(url, callers=WAITING, each=1, timeout_s=0.02)
            assert refused, "what is past its time before its turn is dropped"
            assert max(refused) < 5
        finally:
            http.door.opened = None
            kept[0].cancel()

    asyncio.run(scene())
