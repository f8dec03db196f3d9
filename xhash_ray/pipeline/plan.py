"""A corpus cut into units of work: the same corpus and settings give the same units, whoever cuts and however often.

A plan is made once, written into the commit log, and read by whoever goes on. A corpus that has grown gets another plan
of its new files alone (`--extend`): what is done stays as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from xhash_ray.core.shards import even_split
from xhash_ray.corpus.sources import Part
from xhash_ray.errors import Mismatch

PIXEL_BYTES = 192 * 2**20  # prepared images that travel together
MOST_ROWS = 1024


@dataclass(frozen=True)
class Unit:
    """Some rows of a part, that are read, computed, written and committed together.

    Attributes:
        number: Position among all units of the run.
        part: Number of the part.
        start: First row, counted within the part.
        stop: One past the last row.
    """

    number: int
    part: int
    start: int
    stop: int

    @property
    def pairs(self) -> int:
        """Rows of the input that it covers."""
        return self.stop - self.start


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        identity: Everything that decides the result, but for the corpus' content.
        parts: What is read, with the number of its rows.
        units: In order.
        classes: Names of the label numbers.
        metadata: Columns that travel along.
        duplicates: By part, rows (counted within it) whose id an earlier row has.
    """

    identity: dict[str, Any]
    parts: tuple[Part, ...]
    units: tuple[Unit, ...]
    classes: tuple[str, ...]
    metadata: pa.Schema
    duplicates: dict[int, list[int]] = field(default_factory=dict)

    @property
    def pairs(self) -> int:
        """Rows of the input."""
        return sum(unit.pairs for unit in self.units)

    @property
    def files(self) -> dict[str, str]:
        """Version of every file that the plan reads, by URI."""
        return {part.source: part.version for part in self.parts}

    def as_json(self) -> dict[str, Any]:
        """Plain values, as stored."""
        return {
            "identity": self.identity,
            "pairs": self.pairs,
            "parts": [asdict(part) for part in self.parts],
            "units": [[unit.number, unit.part, unit.start, unit.stop] for unit in self.units],
            "classes": list(self.classes),
            "metadata": base64.b64encode(self.metadata.serialize().to_pybytes()).decode(),
            "duplicates": {str(part): rows for part, rows in self.duplicates.items()},
        }


def from_json(value: Mapping[str, Any]) -> Plan:
    """A plan as it was stored."""
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(value["metadata"])))
    return Plan(
        value["identity"],
        tuple(Part(**{**part, "groups": tuple(part["groups"])}) for part in value["parts"]),
        tuple(Unit(*numbers) for numbers in value["units"]),
        tuple(value["classes"]),
        schema,
        {int(part): rows for part, rows in value["duplicates"].items()},
    )


def joined(plans: Sequence[Plan]) -> Plan:
    """The plans of a run as one: that of the first start and those of its extensions."""
    first, last = plans[0], plans[-1]
    return Plan(
        first.identity,
        tuple(part for plan in plans for part in plan.parts),
        tuple(unit for plan in plans for unit in plan.units),
        last.classes,
        first.metadata,
        {part: rows for plan in plans for part, rows in plan.duplicates.items()},
    )


def rows_for(image_shape: Sequence[int] | None) -> int:
    """Rows of a unit, by the size of a prepared image alone, so that every machine cuts alike.

    Args:
        image_shape: Channels, height, width; None where no images are prepared.
    """
    if image_shape is None:
        return MOST_ROWS
    image_bytes = image_shape[0] * image_shape[1] * image_shape[2]
    return max(1, min(MOST_ROWS, PIXEL_BYTES // image_bytes))


def cut(parts: Sequence[Part], rows_per_unit: int, first: int = 0) -> list[Unit]:
    """Units of about equal length, at most rows_per_unit rows each, none across two parts.

    Args:
        parts: With their rows known; those without any give no unit.
        rows_per_unit: At least 1.
        first: Number of the first unit.
    """
    units: list[Unit] = []
    for part in parts:
        rows = part.rows or 0
        for start, stop in even_split(rows, -(-rows // rows_per_unit)) if rows else ():
            units.append(Unit(first + len(units), part.number, start, stop))
    return units


def compare(plan: Plan, now: Sequence[Part], corpus: str) -> list[Part]:
    """The parts of files that a plan does not know, numbered after those it does.

    Raises:
        Mismatch: when a file that the plan reads has changed, or is gone.
    """
    versions = {part.source: part.version for part in now}
    for source, version in plan.files.items():
        found = versions.get(source)
        if found != version:
            state = "is gone" if found is None else f"has changed (it was {version}, it is {found})"
            remedy = "Put it back, or give --overwrite to begin anew"
            raise Mismatch(f"going on with {corpus}", f"{source} {state} since the run was begun", remedy)
    new = [part for part in now if part.source not in plan.files]
    first = 1 + max((part.number for part in plan.parts), default=-1)
    return [renumbered(part, first + place) for place, part in enumerate(new)]


def renumbered(part: Part, number: int) -> Part:
    """A part under another number."""
    return Part(number, part.source, part.version, part.groups, part.start, part.rows)


def extended_classes(before: Sequence[str], found: set[str]) -> tuple[str, ...]:
    """Label names with numbers that stay what they were: new names come after the old."""
    return (*before, *sorted(found - set(before)))


def check_metadata(before: pa.Schema, found: pa.Schema, corpus: str) -> None:
    """Raises Mismatch when new files bring columns that the old have not, or of other types."""
    for entry in found:
        position = before.get_field_index(entry.name)
        kind = before.field(position).type if position >= 0 else "absent"
        if kind != entry.type and not (position >= 0 and pa.types.is_string(before.field(position).type)):
            change = f"column '{entry.name}' is {entry.type} in the new files and {kind} in those that are done"
            raise Mismatch(f"extending with {corpus}", change, "Write the files alike, or name another folder")
