"""Files of a Parquet corpus by their footers: columns, rows of each row group, versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from xhash_ray.corpus.sources import Part
from xhash_ray.errors import BadInput
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.versions import versions_of


@dataclass(frozen=True)
class ParquetFiles:
    """Parquet files of one schema.

    Attributes:
        schema: The Arrow schema they share.
        counts: Rows of each row group, by file.
        digests: SHA-256 by file, where a manifest lists them.
    """

    schema: pa.Schema
    counts: dict[str, tuple[int, ...]]
    digests: dict[str, str] = field(default_factory=dict)

    def parts(self, rows: int) -> list[Part]:
        """Consecutive row groups of one file, gathered until they hold at least so many rows; none is cut."""
        versions = self.digests or versions_of(list(self.counts))
        cut = ((name, groups) for name, counts in self.counts.items() for groups in gathered(counts, rows))
        return [
            Part(number, name, versions[name], groups, start, count)
            for number, (name, (groups, start, count)) in enumerate(cut)
        ]

    def group_of(self, source: str, row: int) -> tuple[int, int]:
        """The row group that holds a row of a file, and the row within it.

        Raises:
            IndexError: when the file has no such row.
        """
        for group, count in enumerate(self.counts[source]):
            if row < count:
                return group, row
            row -= count
        raise IndexError(f"{source} has no such row")


def gathered(counts: Sequence[int], rows: int) -> Iterator[tuple[tuple[int, ...], int, int]]:
    """Row groups that belong together: their numbers, the first row of the first, rows of all."""
    groups: list[int] = []
    start = held = 0
    for number, count in enumerate(counts):
        groups.append(number)
        held += count
        if held >= max(1, rows):
            yield tuple(groups), start, held
            groups, start, held = [], start + held, 0
    if held:
        yield tuple(groups), start, held


def open_files(uri: str, files: Sequence[str]) -> ParquetFiles:
    """Reads the footers of Parquet files, or the merged ones of a folder that one of our stages wrote.

    Args:
        uri: What was asked for; a manifest in it says which files count.
        files: The files found there.

    Raises:
        BadInput: when a file is not Parquet, or a run that did not finish left them.
        Mismatch: when they differ in schema.
    """
    facts = None if [uri] == list(files) or "::" in uri else tables.read_manifest(uri)
    if facts is not None:
        found = tables.open_committed(uri, facts, "corpus")
        counts: dict[str, list[int]] = {name: [] for name in found.files}
        for name, _, rows in tables.row_groups(found):
            counts[name].append(rows)
        digests = {places.join(uri, entry["name"]): entry["sha256"] for entry in facts["files"]}
        return ParquetFiles(found.schema, {name: tuple(rows) for name, rows in counts.items()}, digests)
    footers = tables.read_footers(files, "corpus")
    schema = footers[0].schema.to_arrow_schema()
    for name, footer in zip(files, footers, strict=True):
        tables.check_same_schema(files[0], schema, name, footer.schema.to_arrow_schema())
    groups = ([footer.row_group(group).num_rows for group in range(footer.num_row_groups)] for footer in footers)
    return ParquetFiles(schema, {name: tuple(rows) for name, rows in zip(files, groups, strict=True)})


def refuse_unfinished(uri: str) -> None:
    """Raises BadInput for a folder in which one of our stages has not finished."""
    if places.exists(places.join(uri, tables.UNFINISHED)):
        raise BadInput(f"corpus at {uri}", "a run that did not finish left it", "Run that stage again")
