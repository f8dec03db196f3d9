"""How often each unit was tried, kept outside the processes that try: whoever is killed cannot count.

A process that dies by a signal leaves no word why. So workers say when memory runs short, and a unit that died so is
tried with half the batch. One that keeps dying without a reason is given up, by name, instead of being tried for ever.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xhash_ray.errors import XhashError

SHORT = 0.9  # share of memory in use at which a worker says so; Ray kills at 0.95
POLL_S = 0.05
PATIENT = 3  # attempts with the whole batch where nothing is known of memory
MOST = 12
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


class Attempts:
    """Attempts at units, and those that died when memory was short."""

    def __init__(self) -> None:
        self.begun, self.short = Counter[int](), Counter[int]()
        self.pressed = set[int]()

    def begin(self, unit: int) -> tuple[int, int]:
        """Counts an attempt.

        Returns:
            Its number from 1 on, and how often its batch is to be halved.
        """
        if unit in self.pressed:
            self.pressed.discard(unit)
            self.short[unit] += 1
        self.begun[unit] += 1
        return self.begun[unit], self.short[unit] + max(0, self.begun[unit] - PATIENT)

    def press(self, unit: int) -> None:
        """Memory is short while a unit is under way."""
        self.pressed.add(unit)

    def end(self, unit: int) -> None:
        """A unit came through: memory was enough after all."""
        self.pressed.discard(unit)


def counter() -> Any:
    """An actor that counts, beside the driver: it dies with nobody else's node."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Attempts).options(**options).remote()


@contextlib.contextmanager
def attempt(attempts: Any, unit: int) -> Iterator[int]:
    """How often a unit's batch is to be halved; meanwhile memory is looked at.

    Raises:
        XhashError: when the unit has been tried too often.
    """
    number, halvings = ray.get(attempts.begin.remote(unit))
    if number > MOST:
        found = f"it was begun {MOST} times, and every time the process died"
        raise XhashError(f"computing unit {unit}", found, "See the worker's logs; its rows are those of the plan")
    with watched(lambda: attempts.press.remote(unit)):
        yield halvings
    attempts.end.remote(unit)


@contextlib.contextmanager
def watched(short: Callable[[], object]) -> Iterator[None]:
    """Calls a function once if memory runs short while the block runs."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(POLL_S):
            if memory_used() > SHORT:
                short()
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)


def memory_used() -> float:
    """The share of memory in use: of the container where it is limited, else of the machine."""
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int(path.read_text()) for path in LIMITS)
        return used / limit if limit else 0.0
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(facts[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return 1.0 - free / total
