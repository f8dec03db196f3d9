"""A load generator: keep-alive connections that send prepared requests, closed loop (as fast as answered) or open
(at a rate, whatever happens). It speaks just enough HTTP/1.1 to cost little of the machine that it measures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np


class Load(NamedTuple):
    """What came of a load.

    Attributes:
        seconds: float [answers], of each, in the order of their ends; open loops count from when it was due.
        failed: Answers that were not 200.
        duration_s: From the first request to the last answer.
    """

    seconds: np.ndarray
    failed: int
    duration_s: float

    @property
    def per_s(self) -> float:
        """Good answers a second."""
        return len(self.seconds) / self.duration_s

    def quantile_ms(self, share: float) -> float:
        """Milliseconds within which so many were answered."""
        return float(np.quantile(self.seconds, share) * 1e3) if len(self.seconds) else float("nan")


def request_bytes(url: str, body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One keep-alive connection."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> int:
        """Sends a request and reads its answer; returns the status, 0 where the connection broke."""
        try:
            return await self.asked(request)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0

    async def asked(self, request: bytes) -> int:
        """`ask`, which raises where the connection breaks."""
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        await self.reader.readexactly(length)
        if b"connection: close" in head:
            self.close()
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        """Lets it go; the next request opens another."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def closed_loop(url: str, bodies: Sequence[bytes], callers: int, total: int) -> Load:
    """So many callers, each of whom asks again when it has its answer."""
    requests, seconds, failed, left = [request_bytes(url, body) for body in bodies], [], 0, iter(range(total))

    async def caller() -> None:
        nonlocal failed
        connection = Connection(url)
        for number in left:
            started_s = time.perf_counter()
            status = await connection.ask(requests[number % len(requests)])
            if status == 200:
                seconds.append(time.perf_counter() - started_s)
            else:
                failed += 1
        connection.close()

    started_s = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return Load(np.array(seconds), failed, time.perf_counter() - started_s)


async def open_loop(url: str, bodies: Sequence[bytes], per_s: float, total: int, connections: int = 256) -> Load:
    """Requests at a rate; who has to wait for a connection has waited."""
    requests, seconds, failed = [request_bytes(url, body) for body in bodies], [], 0
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(connections):
        free.put_nowait(Connection(url))

    async def one(number: int, due_s: float) -> None:
        nonlocal failed
        connection = await free.get()
        try:
            status = await connection.ask(requests[number % len(requests)])
        finally:
            free.put_nowait(connection)
        if status == 200:
            seconds.append(time.perf_counter() - due_s)
        else:
            failed += 1

    started_s, tasks = time.perf_counter(), []
    for number in range(total):
        due_s = started_s + number / per_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due_s)))
    await asyncio.gather(*tasks)
    return Load(np.array(seconds), failed, time.perf_counter() - started_s)
