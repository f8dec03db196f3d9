"""The life of an index: add, upsert, delete, compact, roll back; each ends in one commit or changes nothing.

Files are written first, under names that no other run has; then one generation names them. A run that dies, or that
another writer overtakes, leaves files that nobody names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from xhash_ray.core.shards import shard_of
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.index import generations
from xhash_ray.index.build import BUILDING, SEGMENT_ROWS, assemble, partition, parts_of
from xhash_ray.index.generations import Generation
from xhash_ray.index.segments import (
    IndexFile,
    SegmentFacts,
    checked_file,
    map_table,
    segment_name,
    write_arrow,
    write_segment,
)
from xhash_ray.index.shard import deleted_in
from xhash_ray.options import IndexAdd, IndexCompact, IndexDelete, IndexInfo, IndexRollback, IndexUpsert
from xhash_ray.progress import Progress
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import require_fingerprint
from xhash_ray.storage.codes import open_codes
from xhash_ray.storage.where import filter_rows, parse_where
from xhash_ray.storage.writing import new_run


def add(options: IndexAdd) -> dict[str, Any]:
    """Adds pairs that are not there yet.

    Raises:
        BadInput: for an id that is there, or occurs twice, or no rows.
        Mismatch: for codes of another model or length.
        Conflict: when another writer was first.
    """
    return put(options, "add")


def upsert(options: IndexUpsert) -> dict[str, Any]:
    """Adds pairs; those whose id is there take its place. Errors as of `add`, but for ids that are there."""
    return put(options, "upsert")


def put(options: IndexAdd | IndexUpsert, change: str) -> dict[str, Any]:
    """`add` or `upsert`."""
    base = generations.current(places.normalise(options.index))
    return put_rows(base, new_rows(base, options), change)


def put_rows(base: Generation, rows: pa.Table, change: str) -> dict[str, Any]:
    """One new segment per shard that gets rows, and tombstones for what they replace.

    Args:
        base: What is changed.
        rows: `id`, `image_code`, `text_code` and metadata.
        change: "add" or "upsert"; errors as of these.
    """
    check_columns(base, rows)
    parts = [assemble([part]) if len(part) else part for part in partition(rows, base.shards)]
    there = [in_shard(base, number, part["id"]) for number, part in enumerate(parts)]
    replaced = pa.concat_arrays(there).sort()
    if len(replaced) and change == "add":
        found = f"id '{replaced[0]}' is there already ({len(replaced):,} such rows)"
        raise BadInput(f"adding to the index at {base.uri}", found, "Use upsert, or leave them out")
    run, since = new_run(), base.number + 1
    written = [
        write_segment(base.uri, segment_name(run, number, base.shards), number, since, part)
        for number, part in enumerate(parts)
        if len(part)
    ]
    buried = bury(base, run, replaced)
    total = base.rows + len(rows) - len(replaced)
    made = follow(base, change, [*base.segments, *written], [*base.tombstones, *buried], total)
    return told(made, added=len(rows) - len(replaced), replaced=len(replaced))


def check_columns(base: Generation, rows: pa.Table) -> None:
    """Raises Mismatch for a column that no type joins with the index's: no filter and no `compact` could read both."""
    for facts in base.segments:
        known = map_table(checked_file(base.uri, facts, digest=False)).schema
        for field in rows.schema:
            if field.name not in known.names:
                continue
            there = known.field(field.name)
            try:
                pa.unify_schemas([pa.schema([there]), pa.schema([field])], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                found = f"column '{field.name}' is {field.type}, in the index {there.type}"
                do = "Cast the column, or leave it out"
                raise Mismatch(f"rows for the index at {base.uri}", found, do) from None


def new_rows(base: Generation, options: IndexAdd | IndexUpsert) -> pa.Table:
    """The rows to put, checked to be of the index's model."""
    codes = open_codes(places.normalise(options.codes))
    if codes.bits != base.bits:
        found = f"codes of {codes.bits} bits at {options.codes}"
        raise Mismatch(f"index of {base.bits} bits", found, "Encode with the model of the index")
    require_fingerprint({"fingerprint": base.facts["model_fingerprint"]}, codes.fingerprint, options.codes)
    rows = filter_rows(tables.read_table(codes.tables), parse_where(options.where))
    if len(rows) == 0:
        raise BadInput(f"codes at {options.codes}", "no rows", "Check the folder and --where")
    return rows


def delete(options: IndexDelete) -> dict[str, Any]:
    """Deletes pairs by id.

    Raises:
        BadInput: for ids that are not there (unless that is allowed), or that are given twice, or none at all.
        Conflict: when another writer was first.
    """
    base = generations.current(places.normalise(options.index))
    return delete_ids(base, asked_ids(options), options.ignore_missing)


def delete_ids(base: Generation, ids: Sequence[str], ignore_missing: bool = False) -> dict[str, Any]:
    """Deletes pairs by id. Errors as of `delete`."""
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise BadInput("deleting from an index", f"id '{twice}' is given twice", "Give every id once")
    asked = pa.array(ids, pa.string())
    there = pa.concat_arrays([in_shard(base, number, part) for number, part in enumerate(by_shard(asked, base.shards))])
    missing = pc.filter(asked, pc.invert(pc.is_in(asked, value_set=there)))
    if len(missing) and not ignore_missing:
        found = f"id '{missing[0]}' is not there ({len(missing):,} such ids)"
        raise BadInput(f"deleting from the index at {base.uri}", found, "Check the ids, or ignore missing ones")
    if not len(there):
        return told(base, deleted=0, missing=len(missing))
    buried = bury(base, new_run(), there.sort())
    made = follow(base, "delete", base.segments, [*base.tombstones, *buried], base.rows - len(there))
    return told(made, deleted=len(there), missing=len(missing))


def asked_ids(options: IndexDelete) -> list[str]:
    """The ids named on the command line and in a file."""
    names = list(options.ids)
    if options.ids_file:
        names += places.read_bytes(places.normalise(options.ids_file)).decode().splitlines()
    names = [name for name in names if name]
    if not names:
        raise BadInput("deleting from an index", "no ids", "Give --ids a,b,c or --ids-file with one on each line")
    return names


def compact(options: IndexCompact) -> dict[str, Any]:
    """Merges the segments of every shard into as few as hold it, without deleted rows.

    Deletes generations beyond the last few, and files that a killed or overtaken writer left long ago.

    Raises:
        BadInput: when not even the current generation is to be kept.
        Conflict: when another writer was first.
    """
    if options.keep < 1:
        raise BadInput("index compact", f"--keep {options.keep}", "Keep at least the current generation")
    base = generations.current(places.normalise(options.index))
    progress, run, since = Progress("index compact", base.rows), new_run(), base.number + 1
    written: list[SegmentFacts] = []
    for number in range(base.shards):
        kept = [facts for facts in base.segments if facts.shard == number]
        if is_compact(base, kept):
            written += kept
        else:
            written += merged(base, kept, number, run, since)
        progress.add(sum(facts.rows for facts in kept))
    made = base if written == base.segments else follow(base, "compact", written, [], base.rows)
    deleted = prune(made, options.keep)
    left = sweep(made, options.orphans_after_s)
    return told(made, segments_before=len(base.segments), files_deleted=len(deleted), orphans_deleted=len(left))


def is_compact(base: Generation, segments: Sequence[SegmentFacts]) -> bool:
    """Whether a shard has no more segments than its rows need, and no deleted rows."""
    first = min((facts.since for facts in segments), default=0)
    dead = any(facts.since > first for facts in base.tombstones)
    return not dead and len(segments) <= parts_of(sum(facts.rows for facts in segments), 1, SEGMENT_ROWS)


def merged(base: Generation, segments: Sequence[SegmentFacts], shard: int, run: str, since: int) -> list[SegmentFacts]:
    """The live rows of a shard in new segments, each one part of the shard's range of hashes."""
    parts = parts_of(sum(facts.rows for facts in segments), 1, SEGMENT_ROWS)
    cut = [partition(live_rows(base, facts), base.shards * parts) for facts in segments]
    made = []
    for part in range(parts):
        rows = assemble([each[shard * parts + part] for each in cut])
        if len(rows) or parts == 1:
            name = segment_name(run, shard, base.shards, part)
            made.append(write_segment(base.uri, name, shard, since, rows))
    return made


def sweep(last: Generation, age_s: float) -> list[str]:
    """Deletes files of the index that no generation names and that nobody has changed for so long; returns their names.

    A writer at work has put its files down lately: age is what tells them from those of one that died.
    """
    known = generations.numbers(last.uri)
    named = {name for number in known for name in generations.read(last.uri, number).files()}
    folders = ("segments", "tombstones", BUILDING)
    old = [f"{folder}/{n}" for folder in folders for n in places.files_older_than(places.join(last.uri, folder), age_s)]
    orphans = [name for name in old if name not in named]
    places.delete(last.uri, orphans)
    return orphans


def prune(last: Generation, keep: int) -> list[str]:
    """Deletes generations but the last few, and files that none of those names; returns their names.

    Only files that a deleted generation named are deleted; `sweep` takes care of others.
    """
    known = generations.numbers(last.uri)
    states = {number: generations.read(last.uri, number) for number in known}
    kept = {name for number in known[-keep:] for name in states[number].files()}
    old = known[:-keep]
    dead = sorted({name for number in old for name in states[number].files()} - kept)
    models = {states[number].facts["model"] for number in old} - {states[n].facts["model"] for n in known[-keep:]}
    places.delete(last.uri, [*(generations.name_of(number) for number in old), *dead, *sorted(models)])
    return dead


def rollback(options: IndexRollback) -> dict[str, Any]:
    """Makes an older generation's content current again, as a new generation.

    Raises:
        BadInput: for a generation that does not exist, is current, or lacks a file.
        Conflict: when another writer was first.
    """
    base = generations.current(places.normalise(options.index))
    target = options.to if options.to is not None else base.facts["parent"]
    if target is None or target == base.number:
        found = "it is the first" if target is None else f"generation {target} is current"
        raise BadInput(f"rolling back the index at {options.index}", found, "Name an older one with --to")
    older = generations.read(base.uri, int(target))
    for facts in [*older.segments, *older.tombstones]:
        checked_file(base.uri, facts, digest=False)  # `verify` reads them whole
    made = generations.commit(base.uri, base, "rollback", older.segments, older.tombstones, older.rows, older.facts)
    return told(made, content_of=older.number)


def info(options: IndexInfo) -> dict[str, Any]:
    """What an index is, and its history."""
    base = generations.current(places.normalise(options.index))
    history = [generations.read(base.uri, number).facts for number in generations.numbers(base.uri)]
    kept = ("generation", "change", "created_unix_s", "rows")
    return {
        **told(base),
        "bits": base.bits,
        "shards": base.shards,
        "method": base.facts["method"],
        "model_fingerprint": base.facts["model_fingerprint"],
        "size_bytes": sum(facts.size_bytes for facts in [*base.segments, *base.tombstones]),
        "deleted_rows": sum(facts.rows for facts in base.segments) - base.rows,
        "history": [{name: facts[name] for name in kept} | {"segments": len(facts["segments"])} for facts in history],
    }


def follow(
    base: Generation, change: str, segments: Sequence[SegmentFacts], tombstones: Sequence[IndexFile], rows: int
) -> Generation:
    """Commits a change of an index that stays one of the same model."""
    return generations.commit(base.uri, base, change, segments, tombstones, rows, base.facts)


def told(made: Generation, **more: Any) -> dict[str, Any]:
    """What a verb says in the end."""
    return {
        "index": made.uri, "generation": made.number, "rows": made.rows, "segments": len(made.segments), **more
    }  # fmt: skip


def by_shard(ids: pa.Array, shards: int) -> list[pa.Array]:
    """Ids cut by the shard they belong to."""
    owners = pa.array(shard_of(ids.to_pylist(), shards))
    return [ids.filter(pc.equal(owners, shard)) for shard in range(shards)]


def in_shard(base: Generation, number: int, ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Those of some ids that a shard holds and that are not deleted."""
    wanted = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    found = wanted.slice(0, 0)
    for facts in base.segments if len(wanted) else []:
        if facts.shard == number:
            found = pa.concat_arrays([found, wanted.filter(pc.is_in(wanted, value_set=live_ids(base, facts)))])
    return found


def live_ids(base: Generation, facts: SegmentFacts) -> pa.Array:
    """The ids of a segment that are not deleted."""
    ids: pa.Array = live_rows(base, facts, digest=False)["id"].combine_chunks()
    return ids


def live_rows(base: Generation, facts: SegmentFacts, digest: bool = True) -> pa.Table:
    """The rows of a segment that are not deleted, mapped from disk; `digest`: its SHA-256 is checked first."""
    table = map_table(checked_file(base.uri, facts, digest))
    dead = deleted_in(base, facts.since)
    return table if dead is None else table.filter(pc.invert(pc.is_in(table["id"], value_set=dead)))


def bury(base: Generation, run: str, ids: pa.Array) -> list[IndexFile]:
    """Writes tombstones; none for no ids."""
    if not len(ids):
        return []
    name = f"tombstones/{run}.arrow"
    return [write_arrow(base.uri, name, base.number + 1, pa.table({"id": ids}))]
