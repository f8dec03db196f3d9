"""Codes to segments in two steps that can be taken again from wherever they stopped.

    cut        some row groups of the code files -> building/RUN/cut-NNNNNN.arrow, one record batch per segment to be
    assemble   that batch of every cut, sorted by id -> segments/RUN-SSSSS-of-SSSSS-PPP.arrow, and, when it is whole,
               building/RUN/SSSSS-PPP.json, which says what it is

A segment holds the ids of one part of its shard's range of hashes, so an id that occurs twice meets itself. RUN names
everything that decides the result: a build that is started again finds what the last one left, and leaves it out.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xhash_ray.core.shards import shard_of
from xhash_ray.errors import BadInput
from xhash_ray.index.segments import SegmentFacts, segment_name, write_segment
from xhash_ray.storage import streams, tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.where import Where, filter_rows

BUILDING = "building"
SEGMENT_ROWS = 4_000_000  # about so many at most: a segment is sorted in memory
CUT_ROWS = 2_000_000


@dataclass(frozen=True)
class Build:
    """What every task of a build knows.

    Attributes:
        out: The index's folder.
        run: Eight hexadecimal digits in the names of its files.
        since: The generation to be.
        shards: Of the index.
        parts: Segments of a shard.
        where: Which rows count.
    """

    out: str
    run: str
    since: int
    shards: int
    parts: int
    where: Where | None

    @property
    def segments(self) -> int:
        """Of all shards."""
        return self.shards * self.parts

    def place(self, name: str = "") -> str:
        """URI of something that only the build needs."""
        return places.join(self.out, BUILDING, self.run, *([name] if name else []))


@dataclass(frozen=True)
class Cut:
    """Row groups that are cut together.

    Attributes:
        number: Position in the plan.
        sources: (file URI, numbers of its row groups).
        rows: Of them all.
    """

    number: int
    sources: tuple[tuple[str, tuple[int, ...]], ...]
    rows: int

    @property
    def name(self) -> str:
        """Of the file that is made of it."""
        return f"cut-{self.number:06d}.arrow"


def plan_cuts(groups: Iterable[tuple[str, int, int]], rows_per_cut: int) -> list[Cut]:
    """Gathers row groups (file, number, rows), in order, until they have so many rows."""
    cuts: list[Cut] = []
    taken: dict[str, list[int]] = {}
    rows = 0
    for source, group, count in groups:
        taken.setdefault(source, []).append(group)
        rows += count
        if rows >= rows_per_cut:
            cuts.append(Cut(len(cuts), tuple((name, tuple(each)) for name, each in taken.items()), rows))
            taken, rows = {}, 0
    return [*cuts, Cut(len(cuts), tuple((name, tuple(each)) for name, each in taken.items()), rows)] if rows else cuts


def parts_of(rows: int, shards: int, segment_rows: int) -> int:
    """Segments per shard, so that each has about segment_rows at most."""
    return max(1, -(-rows // (shards * segment_rows)))


def run_of(facts: dict[str, Any]) -> str:
    """Eight hexadecimal digits that name everything that decides a build's result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def partition(table: pa.Table, parts: int) -> list[pa.Table]:
    """Cuts a table of codes by the shard of each id; part i holds shard i's rows, possibly none, in their order."""
    table = table.set_column(table.schema.get_field_index("id"), "id", table["id"].cast(pa.string()))
    owners = shard_of(table["id"].to_pylist(), parts)
    whole = table.take(pa.array(np.argsort(owners, kind="stable")))
    starts = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=parts))])
    return [whole.slice(start, stop - start) for start, stop in itertools.pairwise(starts)]


def assemble(parts: Sequence[pa.Table]) -> pa.Table:
    """A segment from its parts: rows sorted by id.

    Raises:
        BadInput: when an id occurs twice (naming it), or is missing.
    """
    table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()  # columns by name, in any order
    if table["id"].null_count:
        raise BadInput("building an index", f"{table['id'].null_count:,} rows without an id", "Give every row an id")
    # Sorted as UTF-8 bytes, which is also the order of Python's str comparison by code point.
    table = table.take(pc.sort_indices(table["id"])).combine_chunks()
    ids = table["id"]
    twice = pc.equal(ids.slice(1), ids.slice(0, max(0, len(ids) - 1)))
    if pc.any(twice).as_py():
        name, count = ids[pc.index(twice, True).as_py()], pc.sum(twice).as_py()
        found = f"id '{name}' occurs twice ({count} such rows in this shard)"
        raise BadInput("building an index", found, "Make ids unique before encoding")
    return table


def write_cut(build: Build, cut: Cut) -> int:
    """Takes the first step for one cut; returns how many of its rows count."""
    read = [tables.read_row_groups(source, groups) for source, groups in cut.sources]
    rows = filter_rows(pa.concat_tables(read), build.where)
    if rows["id"].null_count:
        found = f"{rows['id'].null_count:,} rows without an id in {cut.sources[0][0]} or the files after it"
        raise BadInput("building an index", found, "Give every row an id")
    with (
        streams.written(build.place(cut.name)) as file,
        streams.arrow_writer(file, rows.schema) as writer,
    ):
        for part in partition(rows, build.segments):
            writer.write_batch(batch_of(part))
    return len(rows)


def batch_of(rows: pa.Table) -> pa.RecordBatch:
    """A table as one record batch, be it empty."""
    columns = [column.chunk(0) if column.num_chunks else column.combine_chunks() for column in rows.combine_chunks()]
    return pa.record_batch(columns, schema=rows.schema)


def write_assembled(build: Build, number: int, cuts: Sequence[Cut]) -> SegmentFacts | None:
    """Takes the second step for one segment; None for one without rows. Errors as of `assemble`."""
    rows = assemble(list(read_cuts(build, number, cuts)))
    shard, part = divmod(number, build.parts)
    made = None
    if len(rows):
        name = segment_name(build.run, shard, build.shards, part)
        made = write_segment(build.out, name, shard, build.since, rows)
    places.write_json(build.place(done_name(number)), vars(made) if made else {})
    return made


def read_cuts(build: Build, number: int, cuts: Sequence[Cut]) -> Iterator[pa.Table]:
    """A segment's rows in every cut."""
    for cut in cuts:
        filesystem, path = places.arrow_filesystem(build.place(cut.name))
        with places.said_clearly(build.place(cut.name)), filesystem.open_input_file(path) as file:
            yield pa.Table.from_batches([pa.ipc.open_file(file).get_batch(number)])


def done_name(number: int) -> str:
    """Of the file that says that a segment is whole."""
    return f"segment-{number:06d}.json"


def done_before(build: Build) -> set[str]:
    """Names of what an earlier start of this build finished."""
    if not places.exists(build.place()):
        return set()
    return {places.name_of(name) for name in places.list_files(build.place(), (".arrow", ".json"))}


def read_done(build: Build, number: int) -> SegmentFacts | None:
    """What `write_assembled` wrote down."""
    facts = places.read_json(build.place(done_name(number)))
    return SegmentFacts(**facts) if facts else None
