"""From what is known of a corpus' parts to a plan: rows, labels, columns, and ids that occur twice."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from xhash_ray.corpus.sources import Part, Source, unify
from xhash_ray.errors import BadInput
from xhash_ray.pipeline import identities
from xhash_ray.pipeline.caption_policy import pair_id
from xhash_ray.pipeline.plan import Plan, check_metadata, cut, extended_classes
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.retrying import patiently
from xhash_ray.storage.unit_log import UnitLog


@dataclass(frozen=True)
class PartFacts:
    """What a survey of one part found.

    Attributes:
        part: Its number.
        digests: Of its ids, uint64 [rows, 2]; zeros for rows without one.
        labels: Distinct label names.
        metadata: Columns that travel along: a pickled Arrow schema, which only crosses processes.
    """

    part: int
    digests: np.ndarray
    labels: set[str]
    metadata: bytes


def survey_part(part: Part, source: Source) -> PartFacts:
    """Reads ids, labels and columns of a part; again where the store fails."""
    found = patiently(lambda: source.survey(part))
    return PartFacts(part.number, identities.digests(found.ids), found.labels, pickle.dumps(found.metadata))


def to_plan(
    identity: dict[str, Any],
    source: Source,
    parts: Sequence[Part],
    facts: Sequence[PartFacts],
    rows_per_unit: int,
    duplicates: str,
    before: Plan | None = None,
    known: np.ndarray | None = None,
) -> Plan:
    """A plan of surveyed parts, or of those that come after another plan's.

    Args:
        identity: What decides the result.
        source: The corpus.
        parts: The parts.
        facts: One for each.
        rows_per_unit: Rows of a unit, at most.
        duplicates: "refuse", or "first": later rows with an id that was there are rejected.
        before: What the run has planned already.
        known: Digests of the ids that it has written, uint64 [n, 2].

    Raises:
        BadInput: when there is no row at all, or an id occurs twice (naming it) and that is refused.
        Mismatch: when new files bring other columns.
    """
    by_part = {each.part: each for each in facts}
    counted = [replace(part, rows=len(by_part[part.number].digests)) for part in parts]
    digests = [by_part[part.number].digests for part in parts]
    if not sum(map(len, digests)):
        raise BadInput(f"corpus at {source.uri}", "no pairs", "Check the name and the columns")
    twice = find_twice(digests, known if known is not None else np.empty((0, identities.WIDTH), np.uint64))
    if twice and duplicates == "refuse":
        refuse_twice(source, counted, twice)
    labels = {label for each in facts for label in each.labels}
    metadata = pa.schema([])
    for each in facts:
        metadata = unify(metadata, pickle.loads(each.metadata))
    if before:
        check_metadata(before.metadata, metadata, source.uri)
    classes = extended_classes(before.classes if before else (), labels)
    first = 1 + before.units[-1].number if before and before.units else 0
    named = {counted[place].number: rows for place, rows in twice.items()}
    units = tuple(cut(counted, rows_per_unit, first))
    return Plan(identity, tuple(counted), units, classes, before.metadata if before else metadata, named)


def find_twice(digests: Sequence[np.ndarray], known: np.ndarray) -> dict[int, list[int]]:
    """Rows whose id an earlier row has, by place of their part: {place: rows within the part}."""
    everything = np.concatenate([known, *digests])
    found = identities.repeated(everything) - len(known)
    found = found[found >= 0]
    starts = np.cumsum([0, *map(len, digests)])
    places_of = np.searchsorted(starts, found, side="right") - 1
    return {int(at): (found[places_of == at] - starts[at]).tolist() for at in np.unique(places_of)}


def refuse_twice(source: Source, parts: Sequence[Part], twice: dict[int, list[int]]) -> None:
    """Raises the error that names an id which occurs twice."""
    place, rows = next(iter(twice.items()))
    name = source.survey(parts[place]).ids[rows[0]]
    count = sum(map(len, twice.values()))
    found = f"id '{name}' occurs again in {parts[place].source}, row {rows[0]:,}; {count:,} rows repeat an id"
    remedy = "Make ids unique, map another column with --columns id=..., or give --duplicates first"
    raise BadInput(f"corpus at {source.uri}", found, remedy)


def written_ids(log: UnitLog, readers: int = 16) -> np.ndarray:
    """Digests of the ids of all pairs that a run has written, uint64 [n, 2]."""
    uris = [places.join(log.uri, facts.part.name) for facts in log.done().values() if facts.part]

    def read(uri: str) -> np.ndarray:
        return identities.digests([pair_id(name) for name in tables.read_file(uri, ["id"])["id"].to_pylist()])

    return gathered(uris, read, readers)


def gathered(uris: Sequence[str], read: Callable[[str], np.ndarray], readers: int) -> np.ndarray:
    """Digests of several files, read beside each other."""
    with ThreadPoolExecutor(readers) as pool:
        return np.concatenate([np.empty((0, identities.WIDTH), np.uint64), *pool.map(read, uris)])
