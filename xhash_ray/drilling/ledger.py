"""The books of a drill's load: what became of every request, when, and after how long."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from xhash_ray.drilling.judging import ERROR, EXACT, INCOMPLETE, WRONG, Verdict
from xhash_ray.errors import BadInput, Overloaded, Unreachable, XhashError

LATER, SILENT, FAILED = "ask again (503)", "no answer", "failed (500)"


class Event(NamedTuple):
    """One request.

    Attributes:
        ended_s: On the clock of time.monotonic.
        seconds: It took.
        outcome: Of judging: EXACT, INCOMPLETE, WRONG; or ERROR.
        detail: Why it is wrong, or the kind of error.
        generation: That the answer names; None for an error.
        missing: Shards that the answer names.
        said: The error's own words.
    """

    ended_s: float
    seconds: float
    outcome: str
    detail: str = ""
    generation: int | None = None
    missing: tuple[int, ...] = ()
    said: str = ""

    @property
    def good(self) -> bool:
        """Whether it is what is wanted at all times."""
        return self.outcome == EXACT


def failed(ended_s: float, seconds: float, error: XhashError) -> Event:
    """A request that was refused. All questions are valid ones: whoever says they are not says what is wrong."""
    said = str(error)[:300]
    if isinstance(error, BadInput):
        return Event(ended_s, seconds, WRONG, f"refused as bad: {said}", said=said)
    kind = LATER if isinstance(error, Overloaded) else SILENT if isinstance(error, Unreachable) else FAILED
    return Event(ended_s, seconds, ERROR, kind, said=said)


def judged(ended_s: float, seconds: float, verdict: Verdict, generation: int, missing: Sequence[int]) -> Event:
    """A request that was answered."""
    return Event(ended_s, seconds, verdict.outcome, verdict.why, generation, tuple(missing))


class Ledger:
    """Events in the order in which they ended; threads may share it."""

    def __init__(self) -> None:
        self.lock, self.events = threading.Lock(), list[Event]()

    def note(self, event: Event) -> None:
        """Writes one down."""
        with self.lock:
            self.events.append(event)

    def since(self, moment_s: float) -> list[Event]:
        """Those that ended at a moment or later."""
        with self.lock:
            return [event for event in self.events if event.ended_s >= moment_s]


class Summary(NamedTuple):
    """What a scenario saw.

    Attributes:
        requests: All of them.
        errors: By kind.
        incomplete: Answers with a certificate that holds.
        wrong: Answers that are neither exact nor that.
        reasons: Of those, the most frequent ones.
        missing: Shards that answers lacked.
        generations: That answers named.
        worst_s: The slowest request, answered or not.
        said: Errors in their own words, the most frequent ones.
    """

    requests: int
    errors: dict[str, int]
    incomplete: int
    wrong: int
    reasons: list[str]
    missing: list[int]
    generations: list[int]
    worst_s: float
    said: list[str]


def summarise(events: Sequence[Event], told: int = 5) -> Summary:
    """Counts."""
    wrong = Counter(event.detail for event in events if event.outcome == WRONG)
    errors = Counter(event.detail for event in events if event.outcome == ERROR)
    said = Counter(event.said for event in events if event.said)
    return Summary(
        requests=len(events),
        errors=dict(sorted(errors.items())),
        incomplete=sum(event.outcome == INCOMPLETE for event in events),
        wrong=wrong.total(),
        reasons=[reason for reason, _ in wrong.most_common(told)],
        missing=sorted({shard for event in events for shard in event.missing}),
        generations=sorted({event.generation for event in events if event.generation is not None}),
        worst_s=max((event.seconds for event in events), default=0.0),
        said=[words for words, _ in said.most_common(told)],
    )
