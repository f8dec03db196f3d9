"""Servers of a drill's own: an S3 store with a gate before it that can be shut, a Redis, and where they listen.

The gate passes bytes on. Shut, it accepts and never answers, as a store behind a dead load balancer does: the worst
case, since nobody is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from xhash_ray.errors import XhashError
from xhash_ray.runtime.local import network as local_network
from xhash_ray.runtime.local import processes as local_processes

START_S, END_S = 60.0, 10.0
PIECE = 2**16
LOOPBACK, REACHABLE = "127.0.0.1", "10.230"


def no_store() -> str:
    """Why there can be no S3 server here, "" where there can."""
    return "" if importlib.util.find_spec("moto") else "no S3 server: pip install 'moto[server]'"


def no_redis() -> str:
    """Why there can be no Redis here, "" where there can."""
    return "" if shutil.which("redis-server") else "no program redis-server: install the package of that name"


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on."""
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def address_for_nodes(namespaces: bool) -> Iterator[str]:
    """Where servers listen that all nodes need: for namespaces an address which their default route leads to."""
    if not namespaces:
        yield LOOPBACK
        return
    address = f"{REACHABLE}.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
    local_network.run("ip", "address", "add", f"{address}/32", "dev", "lo")
    try:
        yield address
    finally:
        local_network.run("ip", "address", "del", f"{address}/32", "dev", "lo")


@contextlib.contextmanager
def server(words: Sequence[str], host: str, port: int, log: Path) -> Iterator[None]:
    """A server process, from its first sign of life to the end of the block.

    Raises:
        XhashError: when it does not listen in time.
    """
    process = local_processes.spawn(words, log, os.environ)
    try:
        wait_listening(process, host, port, log)
        yield
    finally:
        end(process)


def wait_listening(process: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    """Returns as soon as somebody listens. Raises XhashError when the process ends, or the time does."""
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
            return
        time.sleep(0.1)
    raise XhashError(f"a server on {host}:{port}", "it does not listen", f"See {log}")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that leads its session, and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_S)
            return


@contextlib.contextmanager
def redis(host: str, folder: Path) -> Iterator[str]:
    """A Redis that keeps nothing on disk; HOST:PORT of it."""
    port = free_port(host)
    words = ["redis-server", "--bind", host, "--port", str(port), "--save", "", "--appendonly", "no"]
    with server([*words, "--protected-mode", "no", "--dir", str(folder)], host, port, folder / "redis.log"):
        yield f"{host}:{port}"


@contextlib.contextmanager
def store(host: str, folder: Path) -> Iterator[Gate]:
    """An S3 server on loopback and the gate before it, which is what nodes are told of."""
    port = free_port()
    words = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)]
    with server(words, LOOPBACK, port, folder / "store.log"), Gate(host, LOOPBACK, port) as gate:
        yield gate


def make_bucket(url: str, name: str) -> None:
    """A bucket of the store's."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/{name}", method="PUT"), timeout=20).close()


class Gate:
    """A TCP proxy on a thread of its own.

    Args:
        host: To listen on.
        upstream_host: To pass on to.
        upstream_port: Likewise.

    Attributes:
        url: Of the gate.
    """

    def __init__(self, host: str, upstream_host: str, upstream_port: int) -> None:
        self.upstream = (upstream_host, upstream_port)
        self.listener = socket.create_server((host, 0))
        self.url = f"http://{host}:{self.listener.getsockname()[1]}"
        self.loop = asyncio.new_event_loop()
        self.opened = asyncio.Event()
        self.opened.set()
        self.thread = threading.Thread(target=self.work, daemon=True)

    def __enter__(self) -> Gate:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.listener.close()

    def shut(self) -> None:
        """From now on nothing is passed on, not even of connections that are there."""
        self.loop.call_soon_threadsafe(self.opened.clear)

    def open(self) -> None:
        """What waits is passed on again."""
        self.loop.call_soon_threadsafe(self.opened.set)

    def work(self) -> None:
        """Serves until the loop is stopped."""
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(asyncio.start_server(self.serve, sock=self.listener))
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        await self.opened.wait()
        try:
            there, back = await asyncio.open_connection(*self.upstream)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self.pass_on(reader, back), self.pass_on(there, writer), return_exceptions=True)

    async def pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """One direction of it, until either end closes."""
        try:
            while piece := await source.read(PIECE):
                await self.opened.wait()
                target.write(piece)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()
