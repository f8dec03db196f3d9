"""What a decoder's process runs: reads which half is full, decodes it, answers that it is done; until nobody asks.

It imports Pillow and nothing larger, so that it starts in a tenth of a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

from xhash_ray.features.arena import Arena, Half
from xhash_ray.features.faults import Fault, fault_of
from xhash_ray.features.framing import Framing

OUT_OF_MEMORY = 77  # exit code
Work = Callable[[bytes, Framing], bytes]


def main() -> None:
    """Serves until the parent closes its end or dies. Takes its settings as JSON from the command line."""
    settings = json.loads(sys.argv[1])
    die_with_parent(settings["life"])
    modest(settings["memory_limit"])
    framing, work = Framing(settings["preprocessing"]), function(settings["work"])
    arena = Arena(settings["arena"], framing.pixel_bytes, settings["encoded_limit"])
    os.dup2(1, 2)  # to nowhere: libtiff, for one, has a lot to say about damaged files
    try:
        while command := os.read(0, 1):
            serve(arena, arena.halves[command[0]], framing, work)
            os.write(settings["answers"], command)
    except MemoryError:  # the picture in work asked for more than the limit; what it left behind is not worth keeping
        os._exit(OUT_OF_MEMORY)


def serve(arena: Arena, half: Half, framing: Framing, work: Work) -> None:
    """Decodes one chunk, saying which picture it is at."""
    first = half.first
    for i in range(half.count):
        content = half.content(i)
        arena.begin(first + i)
        half.answer(i, attempt(work, content, framing))
    arena.begin(0)


def attempt(work: Work, content: bytes, framing: Framing) -> bytes | Fault:
    """A picture's pixels, or what is wrong with it.

    Raises:
        MemoryError: when it needs more memory than it may have.
    """
    try:
        return work(content, framing)
    except MemoryError:
        raise
    except Exception as error:
        return fault_of(error, content)


def function(name: str) -> Work:
    """A function by "module:name"."""
    module, _, attribute = name.partition(":")
    found: Work = getattr(importlib.import_module(module), attribute)
    return found


def die_with_parent(life: int) -> None:
    """Has the kernel end this process as soon as nobody holds the other end of a pipe, whatever it is doing.

    A pipe's reader can be sent SIGIO, which ends a process that does not handle it. PR_SET_PDEATHSIG would come
    when the *thread* ends that started the decoder, and Ray's workers have many.

    Args:
        life: The end to read from, of a pipe on which nothing is ever sent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Control-C is the parent's business
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    ended = select.poll()
    ended.register(life, 0)
    if ended.poll(0):  # before the kernel knew
        os._exit(0)


def modest(memory_limit: int) -> None:
    """Bounds memory and threads, and offers this process first where the machine has no memory left.

    RLIMIT_DATA counts what is really this process' own and writable. RLIMIT_AS would count the address space that
    threads and allocators merely reserve, which is more than a picture takes.
    """
    with contextlib.suppress(OSError, ValueError):  # a hard limit below it is as good
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    with contextlib.suppress(ImportError):  # Pillow before 11.3
        avif: Any = importlib.import_module("PIL.AvifImagePlugin")
        avif.DEFAULT_MAX_THREADS = 1  # a decoder is one core's
