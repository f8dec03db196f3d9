"""Building an index on Ray: a shuffle of code rows by the hash of their id, one task per part, one per shard."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import ray

from xhash_ray.core.shards import shard_of
from xhash_ray.errors import BadInput
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.gates import parse_gates, pass_gates
from xhash_ray.index.generations import MODELS, Generation, commit, current, numbers
from xhash_ray.index.segments import SegmentFacts, segment_name, write_segment
from xhash_ray.options import IndexBuild
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import copy_artefact, read_artefact, require_fingerprint
from xhash_ray.storage.codes import open_codes
from xhash_ray.storage.where import Where, filter_rows, parse_where
from xhash_ray.storage.writing import new_run


def build_index(options: IndexBuild) -> dict[str, Any]:
    """Builds a sharded index from codes.

    Returns:
        `out`, `rows`, `shards`, `rows_per_shard`, `bits`, `size_bytes`, `code_bytes_per_pair`, `seconds`.

    Raises:
        Mismatch: when the codes were made by another model.
        BadInput: for codes or a model that cannot be read, ids that occur twice, or no rows at all.
    """
    out = places.normalise(options.out)
    before = earlier(options, out)
    shard_of([], options.shards)
    gates = parse_gates(options.gates)
    codes = open_codes(places.normalise(options.codes))
    model = places.normalise(options.model)
    facts = read_artefact(model).facts
    require_fingerprint(facts, codes.fingerprint, options.codes)
    where = parse_where(options.where)
    progress, run = Progress("index build", codes.tables.total_rows), new_run()
    since = before.number + 1 if before else 1
    with cluster.connected():
        segments = shuffle(list(codes.tables.files), options.shards, out, run, since, where, progress)
    rows = [sum(facts.rows for facts in segments if facts.shard == shard) for shard in range(options.shards)]
    if sum(rows) == 0:
        raise BadInput(f"index of {options.codes}", "no rows", "Check the folder and --where")
    try:
        found = pass_gates(gates, out, segments)
    except BadInput:
        places.delete(out, [entry.name for entry in segments])
        raise
    copy = f"{MODELS}/{facts['fingerprint'][:12]}"
    copy_artefact(model, places.join(out, copy))
    kept = {"method": facts["method"], "model_fingerprint": facts["fingerprint"], "encoder": facts["encoder"]}
    kept |= {"bits": codes.bits, "model": copy, "classes": list(codes.classes), "shards": options.shards}
    made = commit(out, before, "build", segments, [], sum(rows), kept)
    progress.finish(sum(rows), out)
    return {
        "out": out,
        "generation": made.number,
        "rows": sum(rows),
        "shards": options.shards,
        "rows_per_shard": rows,
        "bits": codes.bits,
        "size_bytes": sum(entry.size_bytes for entry in segments),
        "code_bytes_per_pair": 2 * codes.bits // 8,
        "gates": found,
        "seconds": round(progress.seconds, 2),
    }


def earlier(options: IndexBuild, out: str) -> Generation | None:
    """The generation that the new one follows; none in a free folder.

    Raises:
        BadInput: when there is an index that may not be built anew.
    """
    if places.is_file(out):
        raise BadInput(f"writing an index to {out}", "a file of that name", "Name a folder")
    if not numbers(out):
        return None
    if not options.overwrite:
        raise BadInput(f"writing an index to {out}", "an index is there", "Name another folder or give --overwrite")
    return current(out)


def shuffle(
    files: list[str], shards: int, out: str, run: str, since: int, where: Where | None, progress: Progress
) -> list[SegmentFacts]:
    """Cuts every code file by shard, then assembles every shard; rows travel between tasks only."""
    split = partition_file.options(num_returns=shards)
    parts = [split.remote(name, shards, where) for name in files]
    by_shard = [[part] for part in parts] if shards == 1 else parts  # num_returns=1 gives the reference itself
    waiting = [
        write_shard.remote(out, segment_name(run, shard, shards), shard, since, *[part[shard] for part in by_shard])
        for shard in range(shards)
    ]
    written: list[SegmentFacts] = []
    try:
        for reference in waiting:
            facts = ray.get(reference)
            written += [facts] if facts else []
            progress.add(facts.rows if facts else 0)
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    return written


@ray.remote(num_cpus=1)
def partition_file(uri: str, shards: int, where: Where | None) -> Any:
    """One code file as a table per shard."""
    parts = partition(filter_rows(tables.read_file(uri), where), shards)
    return parts[0] if shards == 1 else parts


@ray.remote(num_cpus=1)
def write_shard(out: str, name: str, shard: int, since: int, *parts: pa.Table) -> SegmentFacts | None:
    """Assembles and writes one shard; None for one without rows."""
    rows = assemble(parts)
    return write_segment(out, name, shard, since, rows) if len(rows) else None
