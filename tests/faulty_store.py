"""A proxy on loopback before an S3 server (moto), which does to requests what its rules say (tests/store_faults.py).

    python -m tests.faulty_store --upstream http://127.0.0.1:5000 --port 5001 --seed 3 \
        --faults slowdown:probability=0.1 reset-halfway:on=GET,times=5

or, in a test, `with FaultyStore(upstream) as store: store.set(Fault("reset", times=2))`. As a process of its own it
is told by HTTP: PUT /_faults with a JSON list of rules replaces them, GET tells them and what was injected. Bodies are
kept in memory. Signatures are not checked: moto does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
import struct
import threading
from collections import Counter
from dataclasses import asdict
from xml.sax.saxutils import escape

import aiohttp
from aiohttp import web
from yarl import URL

from tests import store_listings
from tests.store_faults import (
    ERRORS,
    LOST,
    PAGES,
    RESET,
    RESET_HALFWAY,
    SILENT,
    SLOW,
    STALE_LISTING,
    STORED,
    TRICKLE,
    TRUNCATED,
    Fault,
    Faults,
    parse,
)
from tests.store_requests import is_listing, key_of, operation_of, place_of

CONTROL = "/_faults"  # no bucket's name may begin so
LARGEST_BODY = 2**31
PIECES = 8  # of a body that trickles
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server", "expect"}
FAULT = web.RequestKey("fault", object)


class FaultyStore:
    """The proxy, on a thread of its own.

    Args:
        upstream: URL of the S3 server.
        port: To listen on, 0 takes a free one.
        seed: Of the draws of rules with a probability.

    Attributes:
        url: Of the proxy.
        faults: The rules in force.
    """

    def __init__(self, upstream: str, port: int = 0, seed: int = 0) -> None:
        self.upstream, self.faults, self.listings = upstream.rstrip("/"), Faults(seed), store_listings.Written()
        self.listener = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self) -> FaultyStore:
        started = threading.Event()
        self.loop.call_soon(started.set)
        self.thread.start()
        started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.stopped.cancel)
        self.thread.join()

    def set(self, *faults: Fault) -> None:
        """Replaces the rules (none: every request is passed on) and the counts."""
        self.faults.set(faults)

    @property
    def injected(self) -> Counter[str]:
        """How often each kind of fault befell a request since `set`."""
        return self.faults.counts()

    def operations(self) -> list[str]:
        """S3 operations asked for since `set`, in order."""
        return [operation for operation, _ in self.faults.seen]

    def work(self) -> None:
        """Serves until told to stop."""
        asyncio.set_event_loop(self.loop)
        self.stopped = self.loop.create_task(self.serve())
        try:
            self.loop.run_until_complete(self.stopped)
        except asyncio.CancelledError:
            self.loop.close()

    async def serve(self) -> None:
        """Listens; cancelled, it drops what is under way."""
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", CONTROL, self.control)
        app.router.add_route("*", "/{path:.*}", self.answer, expect_handler=self.expect)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, self.listener).start()
        unlimited = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(auto_decompress=False, timeout=unlimited) as self.session:
            try:
                await asyncio.Event().wait()
            finally:
                await runner.cleanup()

    async def control(self, request: web.Request) -> web.Response:
        """Tells and replaces the rules of a proxy that runs elsewhere."""
        if request.method == "PUT":
            self.set(*(Fault(**entry) for entry in await request.json()))
        rules = [asdict(rule.fault) for rule in self.faults.rules]
        return web.json_response({"faults": rules, "injected": self.injected, "requests": len(self.faults.seen)})

    def befall(self, request: web.Request) -> Fault | None:
        """Draws a request's fault, once."""
        if FAULT not in request:
            request[FAULT] = self.faults.draw(request.method, operation_of(request), key_of(request))
        return request[FAULT]

    async def expect(self, request: web.Request) -> None:
        """Gives leave to send a body ("100 Continue"), but where nothing is ever answered."""
        fault = self.befall(request)
        if fault is None or fault.kind not in (SILENT, RESET):
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Passes a request on, and does to it what its fault says."""
        fault = self.befall(request)
        kind = fault.kind if fault else ""
        if kind == SILENT:
            await asyncio.Event().wait()
        if kind == RESET:
            return cut(request, reset=True)
        body = await request.read()
        if kind in ERRORS or kind in PAGES:
            return refused(request, kind)
        if kind == LOST:
            return cut(request)
        status, headers, content = await self.passed_on(request, body)
        if kind == STORED:
            return cut(request)
        return await deliver(request, status, headers, content, fault)

    async def passed_on(self, request: web.Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The upstream's answer: status, headers, body. Listings lack what was written a moment ago."""
        lag_s = self.faults.listing_lag_s(key_of(request)) if is_listing(request) else 0.0
        url = store_listings.unlimited(request.raw_path) if lag_s else request.raw_path
        kept = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        async with self.session.request(
            request.method, URL(self.upstream + url, encoded=True), headers=kept, data=body or None,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"), allow_redirects=False,
        ) as reply:  # fmt: skip
            content = await reply.read()
            self.listings.note(operation_of(request), place_of(request), reply.status)
            if lag_s and reply.status == 200:
                content, hidden = self.listings.without_new(content, place_of(request), request.query, lag_s)
                self.faults.count(STALE_LISTING, hidden)
            headers = [(name, value) for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP]
            if request.method == "HEAD" and "Content-Length" in reply.headers:
                headers.append(("Content-Length", reply.headers["Content-Length"]))
            return reply.status, headers, content


async def deliver(
    request: web.Request, status: int, headers: list[tuple[str, str]], content: bytes, fault: Fault | None
) -> web.StreamResponse:
    """Sends an answer: whole, late, slowly, or a part of it."""
    kind, seconds = (fault.kind, fault.seconds) if fault else ("", 0.0)
    if kind == SLOW:
        await asyncio.sleep(seconds)
    response = web.StreamResponse(status=status, headers=headers)
    if request.method != "HEAD" and status not in (204, 304):
        response.content_length = len(content)
    await response.prepare(request)
    if kind in (RESET_HALFWAY, TRUNCATED):
        await response.write(content[: int(len(content) * fault.share)])  # type: ignore[union-attr]
        await asyncio.sleep(0.05)  # what was sent arrives before the end does
        return cut(request, response, reset=kind == RESET_HALFWAY)
    step = max(1, -(-len(content) // PIECES)) if kind == TRICKLE else max(1, len(content))
    for start in range(0, len(content), step):
        if kind == TRICKLE:
            await asyncio.sleep(seconds / PIECES)
        await response.write(content[start : start + step])
    await response.write_eof()
    return response


def refused(request: web.Request, kind: str) -> web.Response:
    """An answer of the kind's own: S3's XML, or a page of something that is no store."""
    if kind in PAGES:
        status, title = PAGES[kind]
        return web.Response(status=status, content_type="text/html", text=f"<html><h1>{title}</h1></html>\n")
    status, code, message = ERRORS[kind]
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message><Resource>{escape(request.path)}</Resource>"
        "<RequestId>FAULTY0000000000</RequestId></Error>"
    )
    return web.Response(status=status, content_type="application/xml", body=b"" if request.method == "HEAD" else text)


def cut(request: web.Request, response: web.StreamResponse | None = None, reset: bool = False) -> web.StreamResponse:
    """Ends the connection, politely (FIN) or not (RST)."""
    transport = request.transport
    if transport is not None and reset:
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    elif transport is not None:
        transport.close()
    return response or web.Response(status=500)


def main() -> None:
    """The proxy as a process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", nargs="*", default=[], type=parse)
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    with FaultyStore(options.upstream, options.port, options.seed) as store:
        store.set(*options.faults)
        print(json.dumps({"url": store.url}), flush=True)
        store.thread.join()


if __name__ == "__main__":
    main()
