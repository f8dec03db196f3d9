"""The load generator counts what a server really did."""

import asyncio

import numpy as np
import pytest

from xhash_ray.benchmarks.load import Load, closed_loop, open_loop


class Server:
    """Answers POSTs after a while, the first only when so many are there; every fifth with 503."""

    def __init__(self, pause_s: float, together: int) -> None:
        self.pause_s, self.bodies, self.busy, self.most = pause_s, list[bytes](), 0, 0
        self.together, self.first = together, asyncio.Barrier(together)

    async def answer(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                number = len(self.bodies)
                self.busy += 1
                self.most = max(self.most, self.busy)
                if number <= self.together:
                    await self.first.wait()
                await asyncio.sleep(self.pause_s)
                self.busy -= 1
                status = b"503 Later" if number % 5 == 0 else b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            writer.close()


def loaded(pause_s: float, together: int, load) -> tuple[Server, Load]:
    """A load on a server of its own."""

    async def scene():
        server = Server(pause_s, together)
        listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        found = await load(f"http://127.0.0.1:{port}/x")
        listening.close()
        return server, found

    return asyncio.run(scene())


def test_a_closed_loop_asks_as_often_as_told_and_by_as_many_as_told():
    server, load = loaded(0.01, 4, lambda url: closed_loop(url, [b"a", b"bc"], callers=4, total=50))
    assert sorted(set(server.bodies)) == [b"a", b"bc"]
    assert len(server.bodies) == 50
    assert server.most == 4
    assert (len(load.seconds), load.failed) == (40, 10)
    assert load.seconds.min() >= 0.01
    assert load.duration_s >= 50 / 4 * 0.01
    assert load.per_s == pytest.approx(40 / load.duration_s)


def test_an_open_loop_counts_the_wait_of_requests_that_were_due():
    server, load = loaded(0.05, 1, lambda url: open_loop(url, [b"a"], per_s=200, total=20, connections=1))
    assert len(server.bodies) == 20
    assert server.most == 1
    assert load.seconds.max() > 0.5, "the last was due after 0.1 s and had 19 before it"


def test_quantiles_are_those_of_the_times():
    load = Load(np.arange(1, 101) / 1000, 0, 1.0)
    assert load.quantile_ms(0.5) == pytest.approx(50.5)
    assert load.quantile_ms(0.99) > load.quantile_ms(0.5)
