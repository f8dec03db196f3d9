"""Work units: the parts a corpus is cut into before anything is read. Pure arithmetic over sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """A contiguous part of one source file.

    Attributes:
        number: Position in the plan; the parts written from it carry this number.
        source: URI of the file.
        group: Row group within a Parquet file, 0 for other forms.
        start: First row within the group (tars are one unit and have start 0).
        stop: One past the last row, None where the number of rows is not known before reading.
    """

    number: int
    source: str
    group: int = 0
    start: int = 0
    stop: int | None = None


def plan_units(groups: Sequence[tuple[str, int, int]], rows_per_unit: int) -> list[Unit]:
    """Cuts row groups into units of at most rows_per_unit rows, in order.

    Args:
        groups: (source, group, rows) of each row group; groups without rows give no unit.
        rows_per_unit: At least 1.
    """
    units: list[Unit] = []
    for source, group, rows in groups:
        for start in range(0, rows, rows_per_unit):
            units.append(Unit(len(units), source, group, start, min(start + rows_per_unit, rows)))
    return units
