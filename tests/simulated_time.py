"""Coroutines in simulated time: it stands still while anything works, and jumps over every wait.

`run` is `asyncio.run`, but seconds pass only where everybody waits for a moment to come. What a test finds about
deadlines is then exact, and the same on a machine that is slow or stands still for a while.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
BEGIN_S = 1000.0


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which waits for threads that work for it without moving the clock.

    Attributes:
        now_s: The time.
        at_work: Threads that are not done.
    """

    def __init__(self) -> None:
        self.now_s, self.at_work = BEGIN_S, 0
        super().__init__(Jumping(self))

    def time(self) -> float:
        """The time."""
        return self.now_s

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """As of any loop; counted."""
        future = super().run_in_executor(executor, func, *args)
        self.at_work += 1
        future.add_done_callback(self.left)
        return future

    def left(self, _: object) -> None:
        """A thread is done."""
        self.at_work -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Waits for the threads themselves, however long they take."""
        self.at_work += 1
        await super().shutdown_default_executor()


class Jumping(selectors.DefaultSelector):
    """Turns waiting into time that has passed, unless somebody works."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As of any selector."""
        if timeout is None or timeout <= 0 or self.loop.at_work:
            return super().select(timeout if timeout is None or timeout <= 0 else None)
        ready = super().select(0)
        if not ready:
            self.loop.now_s += timeout
        return ready


def run(scene: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns. Meanwhile time.monotonic and time.perf_counter tell the simulated time, too."""
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        for name in ("monotonic", "perf_counter"):
            patch.setattr(time, name, runner.get_loop().time)
        return runner.run(scene)
