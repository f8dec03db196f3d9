"""The parent's side of a decoder's process: to start it, to ask it, to wait for it, to end it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from xhash_ray.features.arena import Arena
from xhash_ray.features.decoder_main import OUT_OF_MEMORY
from xhash_ray.features.faults import Fault

START_LIMIT_S = 120.0  # that imports may take, of a package that lies on a slow disk
END_LIMIT_S = 5.0
# glibc's malloc would give pictures' memory back after each and fetch it for the next, a quarter of all time.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2), "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2)}
OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)  # sent by somebody, not by what went wrong within
MAIN = "from xhash_ray.features.decoder_main import main; main()"


class Fate(NamedTuple):
    """How a decoder ended.

    Attributes:
        serial: Of the picture that it was at, 0 for none.
        fault: What that is held to have done.
        from_outside: It was killed, and not by its parent: perhaps the machine had no memory left.
    """

    serial: int
    fault: Fault
    from_outside: bool


class Child:
    """A running decoder.

    Args:
        file: Of the arena.
        arena: The same, mapped.
        settings: `preprocessing`, `work`, `encoded_limit`, `memory_limit`; see `decoding.Decoder`.
    """

    def __init__(self, file: int, arena: Arena, settings: Mapping[str, Any]) -> None:
        self.arena, self.overdue = arena, 0
        arena.begin(0)
        life, life_end = os.pipe()
        answers_end, answers = os.pipe()
        # As files, which are closed, and the process with them, when nobody has this object any more.
        self.life, self.answers = os.fdopen(life_end, "wb", 0), os.fdopen(answers_end, "rb", 0)
        given = json.dumps({**settings, "arena": file, "life": life, "answers": answers})
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        self.process = subprocess.Popen(
            # A new interpreter, as a fork of a parent with threads may find locks taken by nobody. Without site,
            # which takes longer to import than all the rest; the search path is the parent's.
            [sys.executable, "-S", "-P", "-W", "ignore", "-c", MAIN, given],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            pass_fds=(file, life, answers),
            env={**MALLOC, **os.environ, "PYTHONPATH": search_path()},
        )
        os.close(life)
        os.close(answers)
        self.news = select.poll()
        self.news.register(self.answers, select.POLLIN)

    def ask(self, half: int) -> None:
        """Tells it that a half is full. One byte fits the pipe whatever it is doing; a dead one shows later."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(bytes([half]))

    def answered(self, timeout_s: float) -> bool:
        """Waits until it has finished a half.

        Args:
            timeout_s: For one picture.

        Returns:
            False when it is dead instead: by itself, or ended here because a picture took too long. See `fate`.
        """
        while True:
            serial = self.arena.working_on
            left = self.arena.since + (timeout_s if serial else START_LIMIT_S) - time.monotonic()
            # Whatever is begun while we wait is not overdue before `timeout_s` from now.
            if self.news.poll(max(0.0, min(left, timeout_s)) * 1000):
                return bool(self.answers.read(1))
            if left <= 0 and serial == self.arena.working_on:
                self.overdue = serial
                self.process.kill()
                return False

    def fate(self, timeout_s: float) -> Fate:
        """How a dead one died, and at which picture; `answered` has returned False."""
        code = self.process.wait()
        serial = self.arena.working_on  # now it cannot change any more
        if self.overdue:  # one that was finished while we made up our mind was in time
            reason = f"decoding took more than {timeout_s:g} s"
            return Fate(serial if serial == self.overdue else 0, Fault("timeout", reason), False)
        return Fate(serial, Fault("crash", f"the decoder {ending(code)}"), -code in OUTSIDE)

    def last_words(self) -> str:
        """What it wrote while it started; later it is silent."""
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def close(self) -> None:
        """Ends it, at once, in the middle of a picture as well."""
        self.life.close()
        try:
            self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.said.close()
        self.answers.close()


def ending(code: int) -> str:
    """A process' exit code in words."""
    if code == OUT_OF_MEMORY:
        return "ran out of memory"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"died of {signal.Signals(-code).name}"
    except ValueError:
        return f"died of signal {-code}"


def search_path() -> str:
    """The parent's, and this package's place, which an editable install may know only by its finder."""
    places = [str(Path(__file__).parents[2]), *(place or os.getcwd() for place in sys.path)]
    return os.pathsep.join(dict.fromkeys(places))
