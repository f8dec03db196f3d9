"""Ports of the endpoint's own, in the process of the gateway: a proxy before it would cost more than the search."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
import uvicorn

from xhash_ray.errors import BadInput, XhashError
from xhash_ray.serving.calls import Calls, Servicer, add_servicer
from xhash_ray.serving.http import door, http_api
from xhash_ray.serving.requests import MAX_BODY_BYTES

GRPC_OPTIONS = [("grpc.max_receive_message_length", MAX_BODY_BYTES), ("grpc.so_reuseport", 0)]


class Ports(NamedTuple):
    """Where to listen.

    Attributes:
        host: Address.
        http: Port, None for none.
        grpc: Port, None for none.
        certificate: Local file of a PEM certificate chain; both ports speak TLS then.
        key: Local file of its private key.
    """

    host: str = "127.0.0.1"
    http: int | None = None
    grpc: int | None = None
    certificate: str | None = None
    key: str | None = None


def check_ports(ports: Ports) -> None:
    """Raises BadInput for a certificate without a key, or files that cannot be read."""
    if (ports.certificate is None) != (ports.key is None):
        found = "only one of certificate and key"
        raise BadInput("TLS", found, "Give both --tls-certificate and --tls-key, or neither")
    for path in (ports.certificate, ports.key):
        if path is not None and not Path(path).is_file():
            raise BadInput("TLS", f"no file {path}", "Name PEM files that this machine can read")


class Server(uvicorn.Server):
    """A server that leaves signals to whoever owns the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


async def listen(ports: Ports) -> list[object]:
    """Answers on the ports until the process ends; returns what must be kept meanwhile.

    Raises:
        XhashError: when nothing can listen there.
    """
    kept: list[object] = []
    if ports.http is not None:
        kept.append(await listen_http(ports))
    if ports.grpc is not None:
        kept.append(await listen_grpc(ports))
    return kept


def settle() -> None:
    """Has the garbage collector leave alone what is there by now: looking through all modules took half a second."""
    gc.collect()
    gc.freeze()


async def listen_http(ports: Ports) -> asyncio.Task[None]:
    """HTTP."""
    port = ports.http or 0
    where = address(ports.host, port)
    try:
        listener = tcp_listener(ports.host, port)
    except OSError as error:
        raise XhashError(f"listening on {where}", error.strerror or str(error), "Choose another port") from None
    tls: Mapping[str, str | None] = {"ssl_certfile": ports.certificate, "ssl_keyfile": ports.key}
    server = Server(uvicorn.Config(http_api(), log_level="error", access_log=False, **tls))  # type: ignore[arg-type]
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[listener]))
    while not (server.started or task.done()):
        await asyncio.sleep(0.02)
    if not server.started:
        raise XhashError(f"listening on {where}", "the server ended at once", "See the gateway's log")
    return task


def address(host: str, port: int) -> str:
    """Host and port as URLs have them: addresses of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tcp_listener(host: str, port: int) -> socket.socket:
    """A listening socket that says it speaks TCP: asyncio sends at once only where it does (TCP_NODELAY), and waits
    40 ms for company otherwise.

    Raises:
        OSError: when nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    return listener


async def listen_grpc(ports: Ports) -> grpc.aio.Server:
    """gRPC."""
    where = address(ports.host, ports.grpc or 0)
    server, servicer = grpc.aio.server(options=GRPC_OPTIONS), Servicer()
    servicer.calls = Calls(lambda: door.gateway)
    add_servicer(servicer, server)
    try:
        if ports.certificate and ports.key:
            pair = (Path(ports.key).read_bytes(), Path(ports.certificate).read_bytes())
            server.add_secure_port(where, grpc.ssl_server_credentials([pair]))
        else:
            server.add_insecure_port(where)
        await server.start()
    except (RuntimeError, OSError) as error:
        found = str(error).splitlines()[0][:200]
        raise XhashError(f"listening on {where}", found, "Choose another --grpc-port") from None
    return server
