"""A published set to our features format, cut into query, train and database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Shaped

from xhash_ray.datasets.matrices import open_matrices
from xhash_ray.datasets.pairs import Block, Pairs
from xhash_ray.datasets.parquet import open_parquet
from xhash_ray.datasets.splits import Split, check_digest, make_split
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.options import Import
from xhash_ray.progress import Progress
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.features import from_matrix
from xhash_ray.storage.tables import UNFINISHED, FileFacts

PART_SIZE_BYTES = 64 << 20
MAX_ROWS_PER_PART = 100_000


def import_features(options: Import) -> dict[str, Any]:
    """Writes a set as features with a column `split`: query, train or database.

    The search database of the protocol is train and database together (`--where split!=query`).

    Returns:
        `pairs`, `query`, `train`, `database` (rows of each), `image_length`, `text_length`, `layout`, `split`,
        `split_seed`, `split_digest`, `out`, `files`, `seconds`.

    Raises:
        BadInput: when the set cannot be read, or holds what is no number; nothing is left behind then.
        Mismatch: when arrays do not belong together, or the split is another one than --split-digest says.
    """
    claimed = writing.claim(options.out, "features", options.overwrite)
    pairs, spec = open_pairs(options), options.split or "files"
    split = make_split(spec, pairs.rows, pairs.given, pairs.label_matrix, options.split_seed)
    check_digest(split, options.split_digest, spec)
    progress = Progress("import", pairs.rows)
    progress.say(", ".join(f"{count:,} {part}" for part, count in split.counts.items()))
    files = write(pairs, split, claimed, options.dtype, progress)
    facts = {"layout": options.layout, "split": spec, "split_seed": options.split_seed, "split_digest": split.digest}
    kept = {"classes": list(pairs.classes), "dataset": {**facts, **split.counts}, **pairs.facts}
    writing.commit(claimed.uri, files, {"kind": "features", **kept})
    progress.finish(pairs.rows, claimed.uri)
    lengths = dict(zip(("image_length", "text_length"), pairs.lengths, strict=True))
    closing = {"out": claimed.uri, "files": len(files), "seconds": round(progress.seconds, 2)}
    return {"pairs": pairs.rows, **split.counts, **lengths, **facts, **closing}


def open_pairs(options: Import) -> Pairs:
    """The set that the options name.

    Raises:
        BadOption: for arrays beside Parquet, which has its own.
    """
    if options.layout != "parquet":
        return open_matrices(options.layout, options.source, options.image_features, options.text_features)
    if options.image_features or options.text_features:
        found = "--image-features or --text-features"
        raise BadOption("--layout parquet", found, "Parquet rows hold both features; leave them out")
    return open_parquet(options.source)


def write(pairs: Pairs, split: Split, claimed: writing.Claim, dtype: str, progress: Progress) -> list[FileFacts]:
    """Writes all part files; removes what it wrote when it fails."""
    mark = places.join(claimed.uri, UNFINISHED)
    was_clean = not places.exists(mark)
    written: list[FileFacts] = []
    writing.begin(claimed)
    try:
        for table in part_tables(pairs, split, dtype):
            written.append(tables.write_table(claimed.part(len(written)), table))
            progress.add(table.num_rows)
    except BaseException:
        own_mark = [UNFINISHED] if was_clean else []  # an older run's mark still warns of that run's files
        places.delete(claimed.uri, [*(entry.name for entry in written), *own_mark])
        raise
    return written


def part_tables(pairs: Pairs, split: Split, dtype: str) -> Iterator[pa.Table]:
    """All pairs as tables of the format, each of bounded size."""
    row_bytes = sum(pairs.lengths) * np.dtype(dtype).itemsize
    names, done = split.names(), 0
    for block in pairs.blocks(min(MAX_ROWS_PER_PART, max(1, PART_SIZE_BYTES // max(row_bytes, 1)))):
        yield to_table(block, names[done : done + len(block.ids)], dtype)
        done += len(block.ids)


def to_table(block: Block, names: Shaped[np.ndarray, " n"], dtype: str) -> pa.Table:
    """Some pairs in the features format, with the part of each."""
    columns: dict[str, Any] = {"id": pa.array(block.ids, pa.string())}
    for role, values in (("image", block.image), ("text", block.text)):
        columns[role] = from_matrix(as_floats(values, dtype, role, block.ids))
    if block.labels is not None:
        columns["labels"] = pa.array(block.labels, pa.list_(pa.int32()))
    return pa.table({**columns, "split": pa.array(names, pa.string()), **block.metadata})


def as_floats(values: Shaped[np.ndarray, "n d"], dtype: str, role: str, ids: list[str]) -> Float[np.ndarray, "n d"]:
    """Features in the stored type.

    Raises:
        BadInput: for NaN, an infinite number, or one too large for the type, naming the pair.
    """
    with np.errstate(over="ignore"):
        floats = values.astype(dtype)
    bad = np.flatnonzero(~np.isfinite(floats).all(axis=1))
    if len(bad):
        fits = not np.isfinite(values[bad[0]]).all()
        what = "NaN or infinite" if fits else f"too large for {dtype}"
        do = "Mend or remove that pair" if fits else "Give --dtype float32, or scale the features"
        raise BadInput("importing features", f"{role} feature of pair '{ids[bad[0]]}' is {what}", do)
    return floats
