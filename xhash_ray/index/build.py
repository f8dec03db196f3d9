"""Codes to shards: which rows go where, and a shard's rows in their final order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xhash_ray.core.shards import shard_of
from xhash_ray.errors import BadInput


def partition(table: pa.Table, shards: int) -> list[pa.Table]:
    """Cuts a table of codes by the shard of each id; part i holds shard i's rows, possibly none."""
    owners = shard_of(table["id"].to_pylist(), shards)
    return [table.filter(pa.array(owners == shard)) for shard in range(shards)]


def assemble(parts: Sequence[pa.Table]) -> pa.Table:
    """A shard from its parts: rows sorted by id.

    Raises:
        BadInput: when an id occurs twice (naming it).
    """
    table = pa.concat_tables(parts).combine_chunks()
    # Sorted as UTF-8 bytes, which is also the order of Python's str comparison by code point.
    table = table.take(pc.sort_indices(table["id"]))
    ids = np.asarray(table["id"].to_pylist(), dtype=object)
    twice: np.ndarray = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        found = f"id '{ids[twice[0]]}' occurs twice ({len(twice)} such rows in this shard)"
        raise BadInput("building an index", found, "Make ids unique before encoding")
    return table
