"""How far a run of units through stages is, how fast it goes, and which stage holds it up. Pure accounting.

A unit counts when it is finished. Where units are rare, or many workers finish theirs at once, the last seconds say
little about speed; "now" therefore reaches back over the last seconds and the last few units, whichever is longer.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

WINDOW_S = 10.0
LEAST_UNITS = 4
LIMITING = 0.6  # a stage whose workers rest more than this leaves is not what holds a run up


@dataclass(frozen=True)
class UnitDone:
    """One finished unit of work.

    Attributes:
        unit: Its number in the plan.
        rows: Rows written: pairs, or pairs with one caption each.
        pairs: Rows of the input that it covered, rejects included.
        rejected: How many of them could not be used, by "stage: kind", such as "prepare: truncated".
        bytes_read: Of input.
        bytes_written: Of output.
        seconds: How long each stage was busy with it.
    """

    unit: int
    rows: int
    pairs: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A step that every unit takes.

    Attributes:
        name: As in the keys of `UnitDone.seconds`.
        workers: Tasks or actors that can be busy at once, at least 1.
    """

    name: str
    workers: int = 1


@dataclass(frozen=True)
class Bottleneck:
    """The busiest stage, and the share of its workers' time that it was busy, 0 to 1."""

    stage: str
    utilisation: float


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment.

    Attributes:
        verb: What runs.
        done: Pairs read, those of earlier starts included.
        total: Pairs to read, 0 when unknown.
        before: Pairs that earlier starts of the run had finished; everything below is about this start alone.
        units: Finished units.
        rows: Rows written.
        elapsed_s: Since the start.
        pairs_per_s: Now.
        pairs_per_s_overall: Since the start.
        left_s: Until the end; None when that cannot be known.
        rejected: Pairs that could not be used.
        rejected_by: The same by "stage: kind", most frequent first.
        bytes_read: Of input.
        bytes_written: Of output.
        bytes_read_per_s: Now.
        utilisation: By stage, the share of its workers' time that it was busy, 0 to 1, now.
        utilisation_overall: The same since the start.
        bottleneck: The busiest stage now; None before anything is known.
    """

    verb: str
    done: int
    total: int
    before: int
    units: int
    rows: int
    elapsed_s: float
    pairs_per_s: float
    pairs_per_s_overall: float
    left_s: float | None
    rejected: int
    rejected_by: Mapping[str, int]
    bytes_read: int
    bytes_written: int
    bytes_read_per_s: float
    utilisation: Mapping[str, float]
    utilisation_overall: Mapping[str, float]
    bottleneck: Bottleneck | None

    @property
    def pairs(self) -> int:
        """Pairs that this start has read."""
        return self.done - self.before


class Recent:
    """The units that "now" is measured by, with the times they were finished at.

    Args:
        started_s: When the first unit may have begun.
    """

    def __init__(self, started_s: float) -> None:
        self.times_s = deque([started_s])
        self.units: deque[UnitDone | None] = deque([None])  # the start is no unit

    def add(self, time_s: float, done: UnitDone, least: int) -> None:
        """Takes a unit in, and lets go of those that no later moment will ask for."""
        self.times_s.append(time_s)
        self.units.append(done)
        for _ in range(self.anchor(time_s, least)):
            self.times_s.popleft()
            self.units.popleft()

    def since(self, now_s: float, least: int) -> tuple[float, list[UnitDone]]:
        """Seconds and the units finished in them: at least WINDOW_S and `least` units, where there were as many.

        Both ends are moments at which a unit was finished, so that what is half done does not count as slowness; but
        a silence longer than any between the last units does.
        """
        silence_s = max((b - a for a, b in itertools.pairwise(list(self.times_s)[-least - 1 :])), default=0.0)
        end_s = max(self.times_s[-1], now_s - silence_s)
        first = self.anchor(end_s, least)
        units = [unit for unit in itertools.islice(self.units, first + 1, None) if unit is not None]
        return end_s - self.times_s[first], units

    def anchor(self, end_s: float, least: int) -> int:
        """Position of the moment that the window begins at."""
        early = sum(1 for _ in itertools.takewhile(lambda each: each <= end_s - WINDOW_S, self.times_s)) - 1
        return max(0, min(early, len(self.times_s) - 1 - least))


class Watch:
    """Counts units, and says where the run is.

    Args:
        verb: What runs, such as "extract".
        total: Pairs to read, those of earlier starts included; 0 when unknown.
        stages: In the order that a unit takes them.
        before: Pairs that earlier starts of the same run have finished.
        clock: Seconds since whenever, never going back.
    """

    def __init__(
        self,
        verb: str,
        total: int,
        stages: Sequence[Stage],
        before: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.verb, self.total, self.stages, self.before, self.clock = verb, total, tuple(stages), before, clock
        self.started_s = clock()
        self.recent = Recent(self.started_s)
        self.units = self.rows = self.pairs = self.bytes_read = self.bytes_written = 0
        self.rejected: Counter[str] = Counter()
        self.busy_s: Counter[str] = Counter()

    def add(self, done: UnitDone) -> None:
        """Counts a unit that was finished just now."""
        self.units += 1
        self.rows += done.rows
        self.pairs += done.pairs
        self.bytes_read += done.bytes_read
        self.bytes_written += done.bytes_written
        self.rejected.update(done.rejected)
        self.busy_s.update(done.seconds)
        self.recent.add(self.clock(), done, self.least_units())

    def snapshot(self) -> Snapshot:
        """Where the run is now."""
        now_s = self.clock()
        elapsed_s = now_s - self.started_s
        recent_s, recent = self.recent.since(now_s, self.least_units())
        pairs_per_s = per(sum(each.pairs for each in recent), recent_s)
        overall = per(self.pairs, elapsed_s)
        busy_s: Counter[str] = Counter()
        for each in recent:
            busy_s.update(each.seconds)
        utilisation = self.utilisation(busy_s, recent_s)
        return Snapshot(
            verb=self.verb,
            done=self.before + self.pairs,
            total=self.total,
            before=self.before,
            units=self.units,
            rows=self.rows,
            elapsed_s=elapsed_s,
            pairs_per_s=pairs_per_s,
            pairs_per_s_overall=overall,
            left_s=self.left_s(pairs_per_s, overall),
            rejected=self.rejected.total(),
            rejected_by=dict(self.rejected.most_common()),
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
            bytes_read_per_s=per(sum(each.bytes_read for each in recent), recent_s),
            utilisation=utilisation,
            utilisation_overall=self.utilisation(self.busy_s, elapsed_s),
            bottleneck=busiest(utilisation),
        )

    def least_units(self) -> int:
        """How many units "now" covers at least: workers may finish all at once, so two for each of the busiest."""
        stage = max(self.stages, key=lambda each: self.busy_s[each.name] / each.workers, default=None)
        return max(LEAST_UNITS, 2 * stage.workers if stage else 0)

    def left_s(self, now: float, overall: float) -> float | None:
        """Seconds until the end, at a speed between both: it neither jumps nor remembers a slow start for ever."""
        left = self.total - self.before - self.pairs
        if not self.total or (left > 0 and not now + overall):
            return None
        return max(0.0, 2 * left / (now + overall)) if left > 0 else 0.0

    def utilisation(self, busy_s: Mapping[str, float], seconds: float) -> dict[str, float]:
        """Share of every stage's workers' time that it was busy, 0 to 1."""
        shares = {each.name: per(busy_s.get(each.name, 0.0), seconds * each.workers) for each in self.stages}
        return {name: min(1.0, max(0.0, share)) for name, share in shares.items()}


def per(amount: float, seconds: float) -> float:
    """A speed; 0 where no time has passed."""
    return amount / seconds if seconds > 0 else 0.0


def busiest(utilisation: Mapping[str, float]) -> Bottleneck | None:
    """The stage of the highest utilisation, the first of equals; None where none was busy."""
    stage = max(utilisation, key=lambda name: utilisation[name], default=None)
    return Bottleneck(stage, utilisation[stage]) if stage is not None and utilisation[stage] > 0 else None
