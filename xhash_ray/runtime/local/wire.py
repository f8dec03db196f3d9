"""A slow wire for kernels without netem: takes the frames of two links, lets them wait, loses some, passes them on.

    python -m xhash_ray.runtime.local.wire LINK LINK MILLISECONDS LOSS_PERCENT

Linux and root only. Frames travel as the kernel gives them, with the header that says what is still to be done to them
(checksums, cutting into segments), so offloading may stay on.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

ALL_PROTOCOLS = 0x0003
# Of <linux/if_packet.h>; Python names none of them.
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
LONGEST_FRAME = 2**17
AT_ONCE = 64  # frames taken from one link before the other has its turn
BUFFER_BYTES = 2**23


class Waiting(NamedTuple):
    """A frame on its way.

    Attributes:
        due_s: When it goes on, on the monotonic clock.
        to: The other link.
        frame: With the kernel's header.
    """

    due_s: float
    to: socket.socket
    frame: bytes


def open_link(name: str) -> socket.socket:
    """All frames that come out of a link; what is sent goes into it."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    link.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    link.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    link.setblocking(False)
    link.bind((name, ALL_PROTOCOLS))
    return link


def carry(one: socket.socket, other: socket.socket, delay_s: float, loss: float) -> None:
    """Passes frames on in both directions, for ever.

    Args:
        one: A link.
        other: Another.
        delay_s: How long each frame waits, seconds.
        loss: Share of the frames that are lost, 0 to 1.
    """
    across = {one: other, other: one}
    waiting: deque[Waiting] = deque()  # all wait equally long: the first to come is the first to go
    while True:
        timeout_s = max(0.0, waiting[0].due_s - time.monotonic()) if waiting else None
        for link in select.select(list(across), [], [], timeout_s)[0]:
            for frame in take(link):
                if random.random() >= loss:
                    waiting.append(Waiting(time.monotonic() + delay_s, across[link], frame))
        while waiting and waiting[0].due_s <= time.monotonic():
            ready = waiting.popleft()
            with contextlib.suppress(OSError):  # the other end is full or away: a wire loses it
                ready.to.send(ready.frame)


def take(link: socket.socket) -> list[bytes]:
    """The frames that are there, up to a number."""
    found: list[bytes] = []
    with contextlib.suppress(OSError):  # nothing more, or the link is down
        while len(found) < AT_ONCE:
            found.append(link.recv(LONGEST_FRAME))
    return found


def is_carried(*links: str) -> bool:
    """Whether some process takes the frames of all these links."""
    lines = Path("/proc/net/packet").read_text().splitlines()[1:]
    return {socket.if_nametoindex(link) for link in links} <= {int(line.split()[4]) for line in lines}


def main(arguments: list[str]) -> None:
    """Runs until it is killed."""
    one, other, ms, loss_percent = arguments
    carry(open_link(one), open_link(other), float(ms) / 1000, float(loss_percent) / 100)


if __name__ == "__main__":
    main(sys.argv[1:])
