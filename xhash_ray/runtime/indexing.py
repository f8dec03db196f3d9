"""Building an index on Ray: a shuffle of code rows by the hash of their id, one task per part, one per shard."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import ray

from xhash_ray.core.shards import shard_of
from xhash_ray.errors import BadInput
from xhash_ray.index.build import assemble, partition
from xhash_ray.index.manifest import MANIFEST, model_name, shard_name, write_manifest
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
    out = take_index_folder(options)
    shard_of([], options.shards)
    codes = open_codes(places.normalise(options.codes))
    model = places.normalise(options.model)
    facts = read_artefact(model).facts
    require_fingerprint(facts, codes.fingerprint, options.codes)
    where = parse_where(options.where)
    progress = Progress("index build", codes.tables.total_rows)
    started_s, run = time.time(), new_run()
    with cluster.connected():
        shards = shuffle(list(codes.tables.files), options.shards, out, run, where, progress)
    rows = [entry.rows for entry in shards]
    if sum(rows) == 0:
        raise BadInput(f"index of {options.codes}", "no rows", "Check the folder and --where")
    copy_artefact(model, places.join(out, model_name(run)))
    write_manifest(
        out,
        shards,
        {
            "model": model_name(run),
            "created_unix_s": round(started_s),
            "bits": codes.bits,
            "method": facts["method"],
            "model_fingerprint": facts["fingerprint"],
            "encoder": facts["encoder"],
            "classes": list(codes.classes),
        },
    )
    progress.finish(sum(rows), out)
    return {
        "out": out,
        "rows": sum(rows),
        "shards": options.shards,
        "rows_per_shard": rows,
        "bits": codes.bits,
        "size_bytes": sum(entry.size_bytes for entry in shards),
        "code_bytes_per_pair": 2 * codes.bits // 8,
        "seconds": round(progress.seconds, 2),
    }


def take_index_folder(options: IndexBuild) -> str:
    """The normal name of --out, free to be written."""
    out = places.normalise(options.out)
    if places.exists(places.join(out, MANIFEST)) and not options.overwrite:
        raise BadInput(f"writing an index to {out}", "an index is there", "Name another folder or give --overwrite")
    return out


def shuffle(
    files: list[str], shards: int, out: str, run: str, where: Where | None, progress: Progress
) -> list[tables.FileFacts]:
    """Cuts every code file by shard, then assembles every shard; rows travel between tasks only."""
    split = partition_file.options(num_returns=shards)
    parts = [split.remote(name, shards, where) for name in files]
    by_shard = [[part] for part in parts] if shards == 1 else parts  # num_returns=1 gives the reference itself
    waiting = [
        write_shard.remote(places.join(out, shard_name(shard, shards, run)), *[part[shard] for part in by_shard])
        for shard in range(shards)
    ]
    written = []
    try:
        for reference in waiting:
            written.append(ray.get(reference))
            progress.add(written[-1].rows)
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    return written


@ray.remote(num_cpus=1)
def partition_file(uri: str, shards: int, where: Where | None) -> Any:
    """One code file as a table per shard."""
    parts = partition(filter_rows(tables.read_file(uri), where), shards)
    return parts[0] if shards == 1 else parts


@ray.remote(num_cpus=1)
def write_shard(uri: str, *parts: pa.Table) -> tables.FileFacts:
    """Assembles and writes one shard."""
    return tables.write_table(uri, assemble(parts))
