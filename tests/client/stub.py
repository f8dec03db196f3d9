"""An endpoint that answers what a test tells it to, over real sockets."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Step = Callable[[BaseHTTPRequestHandler], None]


class Asked(NamedTuple):
    """A request as it came: the path still quoted, the body decoded where there is one."""

    verb: str
    path: str
    body: Any
    headers: dict[str, str]


class Stub(ThreadingHTTPServer):
    """Takes the next step of its script for every request; the last one again and again."""

    daemon_threads, block_on_close = True, False

    def __init__(self, steps: list[Step], bound: socket.socket | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=bound is None)
        if bound is not None:
            self.socket.close()
            self.socket, self.server_address = bound, bound.getsockname()
            self.server_activate()
        self.steps, self.asked, self.over, self.scheme = list(steps), list[Asked](), threading.Event(), "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def next(self) -> Step:
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no error."""


class Handler(BaseHTTPRequestHandler):
    """Notes the request, then acts."""

    protocol_version = "HTTP/1.1"
    server: Stub

    def act(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(content) if content else None
        self.server.asked.append(Asked(self.command, self.path, body, dict(self.headers)))
        self.server.next()(self)

    do_GET = do_POST = act  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing."""


def says(content: Any, status: int = 200, **headers: str) -> Step:
    """Answers JSON, or bytes as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    def step(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return step


def refuses(status: int, **headers: str) -> Step:
    """Answers an error as the endpoint does."""
    return says({"error": {"asked": "a search", "found": "something odd", "do": "Mend it"}}, status, **headers)


def breaks(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection without an answer."""
    handler.close_connection = True


def stalls(handler: BaseHTTPRequestHandler) -> None:
    """Never answers."""
    handler.server.over.wait(600)


def stalls_late(handler: BaseHTTPRequestHandler) -> None:
    """Sends a head after half a second, and never a body."""
    handler.server.over.wait(0.5)
    handler.send_response(200)
    handler.send_header("Content-Length", "10")
    handler.end_headers()
    stalls(handler)


def trickles(handler: BaseHTTPRequestHandler) -> None:
    """Sends a letter every 50 ms, for longer than anybody waits."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.over.wait(0.05):
        handler.wfile.write(b" ")
        handler.wfile.flush()


@contextmanager
def nobody() -> Iterator[tuple[str, socket.socket]]:
    """A URL where nobody listens, and its socket: bound, so that nobody else can begin to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}", bound


@contextmanager
def endpoint(*steps: Step, bound: socket.socket | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Stub]:
    """A stub that runs, on a port of its own or on a socket that is bound."""
    stub = Stub(list(steps), bound)
    if tls is not None:
        stub.socket, stub.scheme = tls.wrap_socket(stub.socket, server_side=True), "https"
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        stub.over.set()
        stub.shutdown()
        thread.join()
        stub.server_close()
