"""The first stage: rows of a part, unit by unit. A part is read once, whichever of its units are wanted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from xhash_ray.corpus.pairs import Pair, Reject
from xhash_ray.corpus.sources import Part, Source
from xhash_ray.errors import Mismatch
from xhash_ray.pipeline.plan import Plan, Unit
from xhash_ray.storage.retrying import patiently_each


@dataclass(frozen=True)
class PartTask:
    """A part to be read.

    Attributes:
        part: The part.
        units: Those of its units that are wanted, ascending.
        duplicates: Rows (counted within the part) whose id an earlier row of the corpus has.
    """

    part: Part
    units: tuple[Unit, ...]
    duplicates: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Loaded:
    """The rows of a unit.

    Attributes:
        unit: The unit.
        source: URI of the file they are from.
        pairs: Those that are pairs.
        rejects: Those that are none.
        bytes_read: Of images and texts.
        seconds: That the stage was busy.
    """

    unit: Unit
    source: str
    pairs: list[Pair]
    rejects: list[Reject]
    bytes_read: int
    seconds: dict[str, float] = field(default_factory=dict)


def part_tasks(plan: Plan, done: set[int]) -> list[PartTask]:
    """What is left to be read: every part that has a unit which is not done."""
    wanted: dict[int, list[Unit]] = {}
    for unit in plan.units:
        if unit.number not in done:
            wanted.setdefault(unit.part, []).append(unit)
    return [
        PartTask(part, tuple(wanted[part.number]), frozenset(plan.duplicates.get(part.number, ())))
        for part in plan.parts
        if part.number in wanted
    ]


def load(task: PartTask, source: Source) -> Iterator[Loaded]:
    """Reads a part; rows of units that are not wanted are passed over.

    Raises:
        Mismatch: when the part has fewer rows than were planned: somebody changed the file meanwhile.
        Unreachable: when the store fails for longer than `storage.retrying` has patience.
    """
    rows, at = patiently_each(lambda: source.read(task.part)), 0
    began_s = time.perf_counter()
    for unit in task.units:
        taken = list(itertools.islice(itertools.islice(rows, unit.start - at, None), unit.pairs))
        at = unit.stop
        if len(taken) < unit.pairs:
            found = f"{unit.start + len(taken):,} rows, {task.part.rows:,} were planned"
            raise Mismatch(f"reading {task.part.source}", found, "It was changed meanwhile: begin anew (--overwrite)")
        yield sorted_out(task, unit, taken, began_s)
        began_s = time.perf_counter()


def sorted_out(task: PartTask, unit: Unit, rows: list[Pair | Reject], began_s: float) -> Loaded:
    """Pairs and rejects of a unit; a pair whose id an earlier one has is a reject."""
    pairs, rejects = list[Pair](), list[Reject]()
    for place, row in enumerate(rows, unit.start):
        if isinstance(row, Reject):
            rejects.append(row)
        elif place in task.duplicates:
            why = "an earlier row of the corpus has this id"
            rejects.append(Reject(row.id, task.part.source, row.row, "identity", "duplicate id", why))
        else:
            pairs.append(row)
    size_bytes = sum(len(pair.image) + sum(map(len, pair.texts)) for pair in pairs)
    return Loaded(unit, task.part.source, pairs, rejects, size_bytes, {"read": time.perf_counter() - began_s})
