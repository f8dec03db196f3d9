"""One shard: codes in memory, ordered by id, and the k nearest of them.

Because rows are sorted by id, the kernel's order (distance, row) is the order (distance, id), and merging shards
by (distance, id) gives the list that one machine holding everything would give.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from xhash_ray.core.hamming import search
from xhash_ray.core.topk import check_k
from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.codes import to_array

MODALITIES = ("image", "text")


class Hit(NamedTuple):
    """One answer: compares by (distance, id), so a sorted list of hits is an answer in its order."""

    distance: int
    id: str
    shard: int
    row: int


@dataclass(frozen=True)
class Shard:
    """A shard in memory.

    Attributes:
        number: Its position in the index.
        codes: uint8 [n, bits / 8] by modality.
        ids: n ids, ascending.
        metadata: n rows of everything else.
    """

    number: int
    codes: dict[str, np.ndarray]
    ids: pa.Array
    metadata: pa.Table

    def search(self, queries: np.ndarray, target: str, k: int) -> list[list[Hit]]:
        """The k nearest codes of a modality.

        Args:
            queries: uint8 [q, bits / 8].
            target: "image" or "text".
            k: At least 1.
        """
        if target not in MODALITIES:
            raise BadInput("searching", f"target '{target}'", "Ask for image or text")
        hits = search(self.codes[target], queries, k)
        return [
            [Hit(int(d), self.ids[int(row)].as_py(), self.number, int(row)) for d, row in zip(*line, strict=True)]
            for line in zip(hits.distances, hits.rows, strict=True)
        ]

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Metadata of some rows."""
        if self.metadata.num_columns == 0:
            return [{} for _ in numbers]
        taken: list[dict[str, Any]] = self.metadata.take(pa.array(numbers, pa.int64())).to_pylist()
        return taken

    def find(self, identity: str) -> int | None:
        """The row of an id, None when the shard does not hold it."""
        row = np.searchsorted(np.asarray(self.ids.to_numpy(zero_copy_only=False), dtype=object), identity)
        return int(row) if row < len(self.ids) and self.ids[int(row)].as_py() == identity else None


def load_shard(uri: str, number: int, sha256: str | None = None) -> Shard:
    """Reads a shard file.

    Args:
        uri: The Parquet file.
        number: Its position in the index.
        sha256: What the manifest says its content is; checked when given.

    Raises:
        Mismatch: when the content is not what the manifest says.
    """
    content = places.read_bytes(uri)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise Mismatch(f"shard {uri}", "its SHA-256 differs from the manifest's", "Restore the file or build again")
    table = tables.parse(content)
    codes = {name: to_array(table[f"{name}_code"]) for name in MODALITIES}
    kept = [name for name in table.column_names if name not in {"id", "image_code", "text_code"}]
    return Shard(number, codes, table["id"].combine_chunks(), table.select(kept))


def merge_hits(parts: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """Merges shards' answers to one query into the first k by (distance, id)."""
    return sorted(hit for part in parts for hit in part)[: check_k(k)]
