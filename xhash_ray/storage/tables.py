"""Sets of Parquet files that belong together: a file, or a folder with one schema.

A folder that one of our stages wrote holds a manifest, `_dataset.json`, put there last: its existence is the
commit, and it lists exactly the files that count. A folder without one (somebody else's) is all its .parquet
files in name order. Footers of many part files are merged into one `_metadata` object, so that planning over
thousands of parts opens one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import uri as places
from xhash_ray.storage.versions import versions_of

MANIFEST = "_dataset.json"
FOOTERS = "_metadata"
UNFINISHED = "_unfinished"
FORMAT_VERSION = 1
READERS = 16  # footers are small; what takes time is the way to the store


@dataclass(frozen=True)
class TableSet:
    """Parquet files of one schema.

    Attributes:
        uri: Where they were asked for.
        files: Their URIs in order.
        rows: Rows of each file.
        schema: The Arrow schema they share.
        facts: What the manifest says, {} without one.
    """

    uri: str
    files: tuple[str, ...]
    rows: tuple[int, ...]
    schema: pa.Schema
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def total_rows(self) -> int:
        """Rows of all files."""
        return sum(self.rows)


@dataclass(frozen=True)
class FileFacts:
    """What a written file is: name within its folder, rows, size in bytes, SHA-256."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


def open_tables(uri: str, what: str) -> TableSet:
    """Finds the files of a table set and checks that they share one schema.

    Args:
        uri: A Parquet file or a folder.
        what: What the caller expects, for error lines: "features", "codes".

    Raises:
        BadInput: when there is nothing, or something that is not Parquet.
        Mismatch: when files differ in schema, or the manifest is of a newer format.
    """
    facts = read_manifest(uri)
    if facts is not None:
        return open_committed(uri, facts, what)
    if places.exists(places.join(uri, UNFINISHED)):
        raise BadInput(f"{what} at {uri}", "a run that did not finish left them", "Run that stage again")
    files = tuple(places.list_files(uri, (".parquet", ".pq")))
    if not files:
        raise BadInput(f"{what} at {uri}", "no Parquet file", f"Name a file or folder that holds {what}")
    footers = read_footers(files, what)
    schema = footers[0].schema.to_arrow_schema()
    for name, footer in zip(files, footers, strict=True):
        check_same_schema(files[0], schema, name, footer.schema.to_arrow_schema())
    return TableSet(uri, files, tuple(footer.num_rows for footer in footers), schema)


def open_committed(uri: str, facts: dict[str, Any], what: str) -> TableSet:
    """A set with a manifest: two objects are opened, however many parts there are."""
    if not facts["files"]:
        raise BadInput(f"{what} at {uri}", "no rows", f"Name a folder that holds {what}")
    files = tuple(places.join(uri, entry["name"]) for entry in facts["files"])
    schema = read_footer(files[0], what).schema.to_arrow_schema()
    return TableSet(uri, files, tuple(entry["rows"] for entry in facts["files"]), schema, facts)


def read_manifest(uri: str) -> dict[str, Any] | None:
    """The manifest of a folder that one of our stages committed, None where there is none."""
    place = places.join(uri, MANIFEST)
    if uri.endswith((".parquet", ".pq")) or not places.exists(place):
        return None
    facts = places.read_json(place)
    version = facts.get("format_version")
    if version != FORMAT_VERSION:
        raise Mismatch(f"reading {place}", f"format version {version}", f"This version reads {FORMAT_VERSION}")
    return facts


def read_footer(uri: str, what: str) -> pq.FileMetaData:
    """The footer of one Parquet file.

    Raises:
        BadInput: when the file is not Parquet, or is truncated.
    """
    filesystem, path = places.arrow_filesystem(uri)
    try:
        with places.said_clearly(uri):
            return pq.read_metadata(path, filesystem=filesystem)
    except pa.ArrowInvalid as error:
        line = str(error).splitlines()[0]
        raise BadInput(f"{what} in {uri}", f"not readable as Parquet ({line})", "Replace the file") from None


def read_footers(uris: Sequence[str], what: str) -> list[pq.FileMetaData]:
    """The footers of several files; errors as of `read_footer`."""
    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(lambda name: read_footer(name, what), uris))


def check_same_schema(first_uri: str, first: pa.Schema, other_uri: str, other: pa.Schema) -> None:
    """Raises Mismatch naming the column in which two files differ."""
    if first.equals(other):
        return
    for name in dict.fromkeys([*first.names, *other.names]):
        here = first.field(name).type if name in first.names else "absent"
        there = other.field(name).type if name in other.names else "absent"
        if here != there:
            found = f"column '{name}' is {here} in {first_uri} and {there} in {other_uri}"
            raise Mismatch("one schema in all files", found, "Write the files alike")


def require_columns(tables: TableSet, names: Sequence[str], what: str) -> None:
    """Raises BadInput when a column is missing."""
    for name in names:
        if name not in tables.schema.names:
            found = f"column '{name}' is missing; there are {', '.join(tables.schema.names)}"
            raise BadInput(f"{what} at {tables.uri}", found, "Rename a column or name another file")


def read_table(tables: TableSet, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a set in file order, some columns or all."""
    parts = [read_file(name, columns) for name in tables.files]
    return pa.concat_tables(parts)


def read_file(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of one file."""
    filesystem, path = places.arrow_filesystem(uri)
    with places.said_clearly(uri):
        return pq.ParquetFile(path, filesystem=filesystem).read(columns=list(columns) if columns else None)


def file_versions(tables: TableSet) -> dict[str, str]:
    """What tells one content of every file from another: its SHA-256, or what its store says of it."""
    if tables.facts:
        return {places.join(tables.uri, entry["name"]): entry["sha256"] for entry in tables.facts["files"]}
    return versions_of(tables.files)


def read_row_groups(uri: str, groups: Sequence[int]) -> pa.Table:
    """Some row groups of one file."""
    filesystem, path = places.arrow_filesystem(uri)
    with places.said_clearly(uri):
        return pq.ParquetFile(path, filesystem=filesystem).read_row_groups(list(groups))


def row_groups(tables: TableSet) -> list[tuple[str, int, int]]:
    """The row groups of a set in order: (file URI, row group, rows). From `_metadata` where there is one."""
    if tables.facts:
        merged = read_footer(places.join(tables.uri, FOOTERS), "merged footers")
        if merged.num_rows != tables.total_rows:
            raise Mismatch(f"reading {tables.uri}", f"{FOOTERS} is of another run", "Run that stage again")
        counts: dict[str, int] = {}
        groups = []
        for number in range(merged.num_row_groups):
            name = merged.row_group(number).column(0).file_path
            groups.append((places.join(tables.uri, name), counts.get(name, 0), merged.row_group(number).num_rows))
            counts[name] = counts.get(name, 0) + 1
        return groups
    footers = read_footers(tables.files, "table")
    return [
        (name, group, footer.row_group(group).num_rows)
        for name, footer in zip(tables.files, footers, strict=True)
        for group in range(footer.num_row_groups)
    ]


def iter_row_groups(uri: str, row_groups: Sequence[int], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Row groups of one file, one table each."""
    filesystem, path = places.arrow_filesystem(uri)
    with places.said_clearly(uri):
        reader = pq.ParquetFile(path, filesystem=filesystem)
        for group in row_groups:
            yield reader.read_row_group(group, columns=list(columns) if columns else None)


def to_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file; the same rows give the same bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def write_table(uri: str, table: pa.Table) -> FileFacts:
    """Writes one Parquet file in one step."""
    content = to_bytes(table)
    places.write_bytes(uri, content)
    digest = hashlib.sha256(content).hexdigest()
    return FileFacts(places.name_of(uri), table.num_rows, len(content), digest)


def parse(content: bytes) -> pa.Table:
    """A Parquet file that is in memory already.

    Raises:
        BadInput: when the bytes are not Parquet.
    """
    try:
        return pq.read_table(pa.BufferReader(content))
    except pa.ArrowInvalid as error:
        raise BadInput("reading a table", str(error).splitlines()[0], "Replace the file") from None
