"""Ports for servers that tests start."""

from __future__ import annotations

import random
import socket

# Below the range that outgoing connections are given: what nobody has now, nobody gets before it is bound.
PORTS = range(12_000, 20_000)


def free_port() -> int:
    """A port of this machine that nobody listens on, another one every time."""
    for port in random.SystemRandom().sample(PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"none of 200 ports in {PORTS} is free")
