"""A run as JSON for machines: one object per line, and the history that the closing report draws.

Every object has `event`, `time_unix_s` and `verb`. What else there is, by event:

    started   pairs_total (0 when unknown), pairs_before (finished by earlier starts of the run),
              stages [{name, workers}], and whatever the caller adds
    unit      unit, rows, pairs, rejected_pairs {"stage: kind": count}, bytes_read, bytes_written,
              busy_s {stage: seconds}
    progress  pairs_done (earlier starts included), pairs_total, pairs_before, units, rows, elapsed_s,
              pairs_per_s (now), pairs_per_s_overall, left_s, rejected_pairs, rejected_pairs_by {"stage: kind": count},
              bytes_read, bytes_written, bytes_read_per_s (now), utilisation {stage: 0..1} (now),
              utilisation_overall {stage: 0..1}, bottleneck {stage, utilisation} or null
    finished  as progress, and whatever the caller adds
    failed    reason, and as progress where the run got far enough

All but pairs_done, pairs_total and pairs_before are about this start of the run alone. What is not known, and what
is no finite number, is null. A file is appended to: a run that is started again adds a second `started`.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from types import TracebackType
from typing import Any, TextIO

from xhash_ray.errors import BadInput
from xhash_ray.pipeline.watching import Snapshot, Stage, UnitDone
from xhash_ray.storage import uri as places

HISTORY_POINTS = 2000


class History:
    """Moments of a run, bounded: when there are too many, every second one goes, and from then on fewer come in.

    Args:
        limit: Most points that are kept, at least 2.
    """

    def __init__(self, limit: int = HISTORY_POINTS) -> None:
        self.limit, self.step, self.seen = limit, 1, 0
        self.kept: list[Snapshot] = []
        self.last: Snapshot | None = None

    def add(self, point: Snapshot) -> None:
        """Takes a moment in."""
        if self.seen % self.step == 0:
            self.kept.append(point)
        self.seen, self.last = self.seen + 1, point
        if len(self.kept) >= self.limit:
            self.kept, self.step = self.kept[::2], self.step * 2

    @property
    def points(self) -> list[Snapshot]:
        """Evenly spaced ones and the last, oldest first."""
        ends = [self.last] if self.last is not None and (not self.kept or self.kept[-1] is not self.last) else []
        return [*self.kept, *ends]


class Events:
    """Writes events, and remembers the moments among them.

    Args:
        path: A local file that is appended to, "-" for standard error, None to remember only.
        clock: Unix time in seconds.

    Raises:
        BadInput: when the file cannot be opened.
    """

    def __init__(self, path: str | None, clock: Callable[[], float] = time.time) -> None:
        self.path, self.clock, self.verb = path, clock, ""
        self.history = History()
        self.file = open_file(path) if path not in (None, "-") else None
        self.silent = path is None

    def started(self, verb: str, total: int, stages: Sequence[Stage] = (), before: int = 0, **facts: Any) -> None:
        """A run, or one that goes on, begins."""
        self.verb = verb
        known = {"pairs_total": total, "pairs_before": before, "stages": stages}
        self.write("started", known | facts)

    def unit(self, done: UnitDone) -> None:
        """A unit is finished."""
        known = {**vars(done), "rejected_pairs": done.rejected, "busy_s": done.seconds}
        self.write("unit", {name: value for name, value in known.items() if name not in {"rejected", "seconds"}})

    def progress(self, snapshot: Snapshot) -> None:
        """Where the run is."""
        self.history.add(snapshot)
        self.write("progress", fields_of(snapshot))

    def finished(self, snapshot: Snapshot, **facts: Any) -> None:
        """The run is complete."""
        self.history.add(snapshot)
        self.write("finished", fields_of(snapshot) | facts)

    def failed(self, reason: str, snapshot: Snapshot | None = None) -> None:
        """The run has ended without a result."""
        if snapshot is not None:
            self.history.add(snapshot)
        self.write("failed", {"reason": reason} | (fields_of(snapshot) if snapshot is not None else {}))

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """One line, flushed. A disk that fills up, or a reader that goes away, ends the events and not the run."""
        if self.silent:
            return
        content = {"event": event, "time_unix_s": round(self.clock(), 3), "verb": self.verb, **fields}
        try:
            print(json.dumps(plain(content), allow_nan=False), file=self.file or sys.stderr, flush=True)
        except OSError as error:
            self.silent = True
            print(f"[{self.verb}] no more events in {self.path}: {error}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Closes the file; nothing is written after it."""
        self.silent = True
        if self.file is not None:
            with contextlib.suppress(OSError):  # what a full disk did not take has been said
                self.file.close()

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_file(path: str | None) -> TextIO:
    """A local file to append to."""
    asked, do = f"writing events to {path}", "Name a local file in a folder that exists, or - for standard error"
    if not path or not places.is_local(path):
        raise BadInput(asked, "no name of a local file", do)
    try:
        return open(places.normalise(path), "a", encoding="utf-8")
    except OSError as error:
        raise BadInput(asked, error.strerror or str(error), do) from None


def fields_of(snapshot: Snapshot) -> dict[str, Any]:
    """A moment under the names that events have."""
    renamed = {"done": "pairs_done", "total": "pairs_total", "before": "pairs_before"}
    renamed |= {"rejected": "rejected_pairs", "rejected_by": "rejected_pairs_by"}
    return {renamed.get(name, name): value for name, value in vars(snapshot).items() if name != "verb"}


def plain(value: Any) -> Any:
    """A value as JSON has it: no NaN or infinity, keys are text, and what JSON does not know is its text."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(vars(value))
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):  # numbers and arrays of numpy's
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
