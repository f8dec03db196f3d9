"""A run over units as metrics: what the driver knows of it, and what each process has done of its steps.

Counters of pairs and busy time by step are live: the process that did a step adds them there and then (`report_steps`),
to Ray, where there is one series per process and node, and a step that was done again because a process died counts
again. The driver's own backends (a file, a push) see this process alone, so there the driver relays the same counts as
units are finished. Everything else is known to the driver only, and is reported by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from xhash_ray import telemetry
from xhash_ray.pipeline.watching import Snapshot, UnitDone


class RunMetrics:
    """The metrics of one run while it is under way.

    Args:
        verb: What runs.
        clock: Unix time in seconds.
    """

    def __init__(self, verb: str, clock: Callable[[], float] = time.time) -> None:
        self.verb, self.clock = verb, clock

    def __enter__(self) -> RunMetrics:
        telemetry.set("xhash_run_active", 1, verb=self.verb)
        self.moved()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        telemetry.set("xhash_run_active", 0, verb=self.verb)

    def planned(self, total: int, before: int) -> None:
        """Pairs of the input, 0 when unknown, and those of them that earlier starts have finished."""
        telemetry.set("xhash_run_pairs", total, verb=self.verb)
        telemetry.set("xhash_run_done_pairs", before, verb=self.verb)

    def units(self, count: int) -> None:
        """Some units of work are finished."""
        telemetry.add("xhash_run_units", count, verb=self.verb)
        self.moved()

    def moved(self) -> None:
        """Something has come to its end just now."""
        telemetry.set("xhash_run_progress_timestamp_seconds", self.clock(), verb=self.verb)

    def unit(self, done: UnitDone) -> None:
        """A unit is finished."""
        telemetry.add("xhash_read_bytes", done.bytes_read, verb=self.verb)
        telemetry.add("xhash_written_bytes", done.bytes_written, verb=self.verb)
        for reason, count in done.rejected.items():
            step, _, kind = reason.partition(": ")
            telemetry.add("xhash_rejected_pairs", count, verb=self.verb, step=step, kind=kind)
        for step, seconds in done.seconds.items():
            telemetry.relay("xhash_step_pairs", done.pairs, verb=self.verb, step=step)
            telemetry.relay("xhash_step_busy_seconds", seconds, verb=self.verb, step=step)
        self.units(1)

    def moment(self, snapshot: Snapshot) -> None:
        """Where the run is; what cannot be known yet is left out."""
        telemetry.set("xhash_run_done_pairs", snapshot.done, verb=self.verb)
        telemetry.set("xhash_run_pairs_per_second", snapshot.pairs_per_s, verb=self.verb)
        if snapshot.left_s is not None:
            telemetry.set("xhash_run_left_seconds", snapshot.left_s, verb=self.verb)
        for step, share in snapshot.utilisation.items():
            telemetry.set("xhash_step_utilisation_ratio", share, verb=self.verb, step=step)


def report_steps(answer: Any, verb: str, names: tuple[str, ...]) -> None:
    """Reports what this process has just done of a unit.

    Args:
        answer: What a step gives on: a unit as `loading`, `preparing`, `extracting` or `committing` have it, or the
            facts of a finished one with its `UnitDone`.
        verb: What runs.
        names: The steps that this process did.
    """
    pairs, seconds = work_of(answer)
    for step in names:
        telemetry.add("xhash_step_pairs", pairs, verb=verb, step=step)
        telemetry.add("xhash_step_busy_seconds", seconds[step], verb=verb, step=step)


def work_of(answer: Any) -> tuple[int, Mapping[str, float]]:
    """Pairs of the input that an answer covers, and how long each step was busy with them."""
    if isinstance(answer, tuple):
        _, done = answer
        return done.pairs, done.seconds
    loaded = getattr(answer, "loaded", answer)
    return loaded.unit.pairs, loaded.seconds
