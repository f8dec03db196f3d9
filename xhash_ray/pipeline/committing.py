"""The last stage: a unit is written, then committed. Imports little, since processes that only write start with it."""

from __future__ import annotations

import collections
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from xhash_ray.corpus.pairs import Reject
from xhash_ray.pipeline.loading import Loaded
from xhash_ray.pipeline.plan import Unit
from xhash_ray.pipeline.watching import UnitDone
from xhash_ray.storage.unit_log import UnitFacts, UnitLog

REJECTS = pa.schema(
    [(name, pa.string()) for name in ("id", "source")]
    + [("row", pa.int64())]
    + [(name, pa.string()) for name in ("stage", "kind", "reason")]
)


@dataclass(frozen=True)
class Embedded:
    """A unit whose rows are complete: `table` is what is written of it."""

    loaded: Loaded
    table: pa.Table


def write_unit(done: Embedded, log: UnitLog) -> list[tuple[UnitFacts, UnitDone]]:
    """Writes what a unit has become, then commits it: its manifest, and what the watch counts."""
    began_s = time.perf_counter()
    loaded = done.loaded
    kinds = collections.Counter(f"{reject.stage}: {reject.kind}" for reject in loaded.rejects)
    part = log.write_part(loaded.unit.number, done.table)
    rejects = log.write_rejects(loaded.unit.number, to_table(loaded.rejects))
    facts = UnitFacts(loaded.unit.number, loaded.unit.pairs, part, rejects, dict(sorted(kinds.items())))
    facts = log.commit(facts)
    seconds = loaded.seconds | {"write": time.perf_counter() - began_s}
    return [(facts, to_done(loaded.unit, facts, loaded.bytes_read, seconds))]


def to_done(unit: Unit, facts: UnitFacts, bytes_read: int, seconds: dict[str, float]) -> UnitDone:
    """A finished unit as the watch counts it."""
    written = sum(file.size_bytes for file in (facts.part, facts.rejects) if file)
    return UnitDone(unit.number, facts.rows, unit.pairs, facts.rejected, bytes_read, written, seconds)


def to_table(rejects: Sequence[Reject]) -> pa.Table:
    """Rejects by row of their file."""
    ordered = sorted(rejects, key=lambda reject: reject.row)
    return pa.Table.from_pylist([asdict(reject) for reject in ordered], REJECTS)
