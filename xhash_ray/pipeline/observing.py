"""One run as people and machines see it: lines, events, metrics, the closing report; and what is too many rejects."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from xhash_ray.errors import BadInput, XhashError
from xhash_ray.pipeline.events import Events
from xhash_ray.pipeline.lines import WatchProgress
from xhash_ray.pipeline.report import MOST_REJECTS, Report, write_report
from xhash_ray.pipeline.reporting import RunMetrics
from xhash_ray.pipeline.watching import Snapshot, Stage, UnitDone, Watch
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.unit_log import UnitFacts, UnitLog
from xhash_ray.storage.writing import REJECTS

RUN_FOLDER = "_run"
BEAT_S = 0.5
REPORT = "report.html"
ACCEPTED = "identity: duplicate id"  # whoever asks for the first of equal ids has accepted that others are left out


class Observer:
    """Follows a run over units from its start to its end, good or bad.

    Args:
        verb: What runs.
        log: What is done.
        stages: In the order that a unit takes them.
        total: Pairs of the input.
        done: Units that earlier starts finished.
        most: Share of pairs that may be unusable.
        made_by: Settings and fingerprints, for the report.
        events: A local file for JSON events, "-" or None.
    """

    def __init__(
        self,
        verb: str,
        log: UnitLog,
        stages: Sequence[Stage],
        total: int,
        done: Mapping[int, UnitFacts],
        most: float,
        made_by: Mapping[str, Any],
        events: str | None = None,
    ) -> None:
        self.log, self.total, self.most, self.made_by = log, total, most, made_by
        self.done, self.kinds = dict[int, UnitFacts](), Counter[str]()
        for facts in done.values():
            self.count(facts)
        before = sum(facts.pairs for facts in done.values())
        self.watch = Watch(verb, total, stages, before)
        self.progress = WatchProgress(self.watch)
        self.events = Events(events)
        self.events.started(verb, total, stages, before, out=log.uri, run=log.run)
        self.metrics = RunMetrics(verb)
        self.report: str | None = None
        self.lock, self.over = threading.Lock(), threading.Event()
        self.heart = threading.Thread(target=self.beat, daemon=True)

    def follow(self, answers: Iterable[tuple[UnitFacts, UnitDone]]) -> None:
        """Counts units as they are finished.

        Raises:
            BadInput: as soon as more pairs are unusable than may be.
        """
        self.check()
        self.heart.start()
        for facts, done in answers:
            with self.lock:
                self.count(facts)
                self.watch.add(done)
                self.events.unit(done)
                self.metrics.unit(done)
            self.check()
        self.over.set()
        self.heart.join()

    def count(self, facts: UnitFacts) -> None:
        """Takes a finished unit in, of this start or an earlier one."""
        self.done[facts.unit] = facts
        self.kinds.update(facts.rejected)

    def beat(self) -> None:
        """Says where the run is every few seconds, also while nothing comes."""
        while not self.over.wait(BEAT_S):
            with self.lock:
                if now := self.progress.update():
                    self.events.progress(now)
                    self.metrics.moment(now)

    def check(self) -> None:
        """Raises BadInput when more pairs are unusable than may be: what is done stays done."""
        unusable = self.kinds.total() - self.kinds[ACCEPTED]
        if unusable > self.most * self.total:
            first = next(iter(self.first_rejects(1)), {})
            named = f"{first.get('source')} row {first.get('row')}, id '{first.get('id')}': {first.get('reason')}"
            counts = ", ".join(f"{kind} {count:,}" for kind, count in self.kinds.most_common() if count)
            found = f"{unusable:,} of {self.total:,} pairs are unusable so far ({counts}); one of them: {named}"
            remedy = f"See {places.join(self.log.uri, REJECTS)}; raise --max-rejects and run again: it goes on"
            raise BadInput(f"at most {self.most:.2%} rejects", found, remedy)

    def first_rejects(self, most: int) -> list[dict[str, Any]]:
        """Some rejects, of the first units that have any."""
        found: list[dict[str, Any]] = []
        for facts in sorted(self.done.values(), key=lambda each: each.unit):
            if facts.rejects and len(found) < most:
                found += tables.read_file(places.join(self.log.uri, REJECTS, facts.rejects.name)).to_pylist()
        return found[:most]

    def finish(self, **facts: Any) -> Snapshot:
        """The run is complete and published."""
        last = self.progress.update(at_once=True) or self.watch.snapshot()
        self.events.finished(last, **facts)
        self.metrics.moment(last)
        self.close_with(last, None)
        return last

    def close_with(self, last: Snapshot, failure: str | None) -> None:
        """Writes the report; a run does not fail because its report cannot be written."""
        place = places.join(self.log.uri, RUN_FOLDER, REPORT)
        points = self.events.history.points
        with contextlib.suppress(XhashError):
            rejects = self.first_rejects(MOST_REJECTS)
            write_report(place, Report(last, points, self.log.uri, failure, self.made_by, rejects))
            self.report = place

    def __enter__(self) -> Observer:
        self.metrics.__enter__()
        self.metrics.planned(self.total, self.watch.before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        if self.heart.is_alive():
            self.heart.join()
        self.metrics.__exit__(kind, error, trace)
        if error is not None:
            last = self.watch.snapshot()
            reason = str(error) or type(error).__name__
            self.events.failed(reason, last)
            if isinstance(error, Exception):
                self.close_with(last, reason)
        self.events.close()
