"""An index as files of others: FAISS binary indexes, or Parquet."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xhash_ray.errors import BadInput, BadOption
from xhash_ray.index import generations
from xhash_ray.index.generations import Generation
from xhash_ray.index.life import live_rows
from xhash_ray.index.segments import MODALITIES
from xhash_ray.options import IndexExport
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.codes import to_array


def export(options: IndexExport) -> dict[str, Any]:
    """Writes the pairs that are there, in the order of shards and ids, for others to read.

    faiss    image.faiss and text.faiss (IndexBinaryFlat; FAISS has bit j where we have it); ids.txt: line i is the id
             of vector i
    parquet  one file per shard: id, codes, metadata

    Raises:
        BadInput: when there is no index or it is empty, or the folder has files.
        BadOption: when faiss is not installed.
    """
    base, out = generations.current(places.normalise(options.index)), places.normalise(options.out)
    if places.exists(out):
        raise BadInput(f"exporting to {options.out}", "something is there", "Name another folder")
    shards = [shard_rows(base, number) for number in range(base.shards)]
    if not any(map(len, shards)):
        raise BadInput(f"exporting the index at {options.index}", "no rows", "Add pairs first")
    names = export_faiss(out, shards) if options.format == "faiss" else export_parquet(out, shards)
    return {"out": out, "format": options.format, "rows": sum(map(len, shards)), "files": names}


def shard_rows(base: Generation, number: int) -> pa.Table:
    """The live rows of a shard by id; no rows, and no columns, for an empty one."""
    parts = [live_rows(base, facts) for facts in base.segments if facts.shard == number]
    return pa.concat_tables(parts).sort_by("id") if parts else pa.table({})


def export_parquet(out: str, shards: list[pa.Table]) -> list[str]:
    """One Parquet file per shard that has rows."""
    names = [f"shard-{number:05d}-of-{len(shards):05d}.parquet" for number in range(len(shards))]
    written = [(name, rows) for name, rows in zip(names, shards, strict=True) if len(rows)]
    return [tables.write_table(places.join(out, name), rows).name for name, rows in written]


def export_faiss(out: str, shards: list[pa.Table]) -> list[str]:
    """A binary index per modality, and the ids by position."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        raise BadOption("--format faiss", "faiss is not installed", "pip install 'xhash-ray[bench]'") from None
    full = [rows for rows in shards if len(rows)]
    for modality in MODALITIES:
        codes = np.concatenate([to_array(rows[f"{modality}_code"]) for rows in full])
        index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
        index.add(np.ascontiguousarray(codes))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index.faiss"
            faiss.write_index_binary(index, str(path))
            places.write_bytes(places.join(out, f"{modality}.faiss"), path.read_bytes())
    ids = [name for rows in full for name in rows["id"].to_pylist()]
    places.write_bytes(places.join(out, "ids.txt"), ("\n".join(ids) + "\n").encode())
    return [*(f"{modality}.faiss" for modality in MODALITIES), "ids.txt"]
