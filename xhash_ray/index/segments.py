"""Segments: immutable files of rows of one shard, whose codes are read in one piece (README.md here)."""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.index.ids import StoredIds
from xhash_ray.storage import streams
from xhash_ray.storage import uri as places
from xhash_ray.storage.codes import to_array
from xhash_ray.storage.tables import FileFacts

MODALITIES = ("image", "text")
CODE_COLUMNS = ("image_code", "text_code")
ROWS_AT_ONCE = 1_000_000
LOOKUPS_PER_ROW = 500  # looking an id up takes as long as comparing so many
CACHE_VARIABLE = "XHASH_CACHE"


@dataclass(frozen=True)
class IndexFile(FileFacts):
    """A file of an index, its name below the index's folder: also the generation that added it."""

    since: int


@dataclass(frozen=True)
class SegmentFacts(IndexFile):
    """A segment: also its shard, and for each modality the SHA-256 of the codes and how many have each bit set."""

    shard: int
    ones: Mapping[str, list[int]]
    codes_sha256: Mapping[str, str]


@dataclass(frozen=True)
class Segment:
    """A segment that can be searched.

    Attributes:
        facts: What its generation says of it.
        codes: uint8 [n, bits / 8] by modality, in memory; of the modalities that were asked for.
        ids: On disk, as everything that follows: only the rows asked for are read.
        table: Metadata, and the ids once more.
        live: bool [n], False for deleted rows; None when none is.
    """

    facts: SegmentFacts
    codes: Mapping[str, np.ndarray]
    ids: StoredIds
    table: pa.Table
    live: np.ndarray | None

    def find(self, identity: str) -> int | None:
        """The row of an id; None when it is not here or is deleted."""
        row = self.ids.find(identity)
        return row if row is not None and (self.live is None or self.live[row]) else None


def segment_name(run: str, shard: int, shards: int, part: int = 0) -> str:
    """A segment's name below the index's folder."""
    return f"segments/{run}-{shard:05d}-of-{shards:05d}-{part:03d}.arrow"


def write_segment(uri: str, name: str, shard: int, since: int, rows: pa.Table) -> SegmentFacts:
    """Writes the rows of a shard, sorted by id already, as one file."""
    file = write_arrow(uri, name, since, rows)
    codes = {each: to_array(rows[f"{each}_code"]) for each in MODALITIES}
    ones = {each: count_ones(array) for each, array in codes.items()}
    return SegmentFacts(**vars(file), shard=shard, ones=ones, codes_sha256={n: sha256(c) for n, c in codes.items()})


def write_arrow(uri: str, name: str, since: int, rows: pa.Table) -> IndexFile:
    """Writes one Arrow file of one record batch."""
    whole = rows.combine_chunks()
    with streams.written(places.join(uri, name)) as file, streams.arrow_writer(file, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=max(1, len(whole)))
    return IndexFile(name, len(whole), file.size_bytes, file.sha256, since)


def sha256(array: np.ndarray) -> str:
    """Of an array's bytes, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def count_ones(codes: np.ndarray) -> list[int]:
    """How many codes have each bit set."""
    total = np.zeros(codes.shape[1] * 8, dtype=np.int64)
    for start in range(0, len(codes), ROWS_AT_ONCE):
        total += np.unpackbits(codes[start : start + ROWS_AT_ONCE], axis=1, bitorder="little").sum(
            axis=0, dtype=np.int64
        )
    counts: list[int] = total.tolist()
    return counts


def open_segment(
    uri: str,
    facts: SegmentFacts,
    deleted: pa.Array | None = None,
    modalities: Sequence[str] = MODALITIES,
    whole: bool = False,
) -> Segment:
    """Loads a segment's codes, checked by their SHA-256, and maps the rest of it (`xhash index verify` checks that).

    Args:
        uri: The index's folder.
        facts: Of the segment.
        deleted: Ids that are dead in it.
        modalities: Whose codes are loaded.
        whole: Whether all ids and metadata will be read, rather than those of a few rows.

    Raises:
        BadInput: when the file is missing or no Arrow file.
        Mismatch: when its size or its codes are not what the generation says.
    """
    path = checked_file(uri, facts, digest=False)
    table, mapped, address = map_file(path)
    if not whole and hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)  # or every row asked for brings a hundred kilobytes along
    codes = {}
    for each in modalities:
        codes[each] = read_codes(path, table[f"{each}_code"], address)
        if sha256(codes[each]) != facts.codes_sha256[each]:
            found = f"the SHA-256 of the {each} codes in {facts.name} is another"
            raise Mismatch(f"index at {uri}", found, "Restore the file or roll back")
    ids = StoredIds(table["id"], mapped, address)
    return Segment(facts, codes, ids, table.drop_columns(list(CODE_COLUMNS)), live_mask(ids, deleted))


def live_mask(ids: StoredIds, deleted: pa.Array | None) -> np.ndarray | None:
    """bool [n], False for deleted rows; None when none is. Few ids are looked up, many compared with all there are."""
    if deleted is None or not len(deleted):
        return None
    if len(deleted) * LOOKUPS_PER_ROW > len(ids):
        dead = pc.is_in(ids.column, value_set=deleted).to_numpy(zero_copy_only=False)
        return ~dead if dead.any() else None
    rows = [row for row in map(ids.find, deleted.to_pylist()) if row is not None]
    live = np.ones(len(ids), dtype=bool)
    live[rows] = False
    return live if rows else None


def read_deleted(uri: str, facts: IndexFile) -> pa.Array:
    """The ids of a file of tombstones."""
    ids: pa.Array = map_table(checked_file(uri, facts))["id"].combine_chunks()
    return ids


def map_table(path: str) -> pa.Table:
    """An Arrow file mapped into memory."""
    return map_file(path)[0]


def map_file(path: str) -> tuple[pa.Table, mmap.mmap, int]:
    """An Arrow file mapped into memory, its mapping, and the address at which it begins there."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    whole = pa.py_buffer(mapped)
    try:
        return pa.ipc.open_file(pa.BufferReader(whole)).read_all(), mapped, whole.address
    except pa.ArrowInvalid as error:
        raise BadInput(f"segment {path}", str(error).splitlines()[0], "Restore the file or roll back") from None


def read_codes(path: str, column: pa.ChunkedArray, address: int) -> np.ndarray:
    """A code column read into memory of its own, in larger pages than a mapped file has."""
    mapped = to_array(column)
    if mapped.size == 0:
        return mapped
    return np.fromfile(path, np.uint8, mapped.size, offset=mapped.ctypes.data - address).reshape(mapped.shape)


def checked_file(uri: str, facts: IndexFile, digest: bool = True) -> str:
    """A local path of a file whose content is what the generation says; without `digest` only its size is looked at.

    Raises:
        BadInput: when it is missing.
        Mismatch: when its size or SHA-256 is another.
    """
    place = places.join(uri, facts.name)
    path = place if places.is_local(place) else fetched(place, facts)
    if not os.path.exists(path):
        raise BadInput(f"index at {uri}", f"{facts.name} is missing", "Restore the file or roll back")
    size_bytes = os.path.getsize(path)
    if size_bytes != facts.size_bytes:
        found = f"{facts.name} has {size_bytes:,} bytes instead of {facts.size_bytes:,}"
        raise Mismatch(f"index at {uri}", found, "Restore the file or roll back")
    if digest and digest_of(path) != facts.sha256:
        raise Mismatch(f"index at {uri}", f"the SHA-256 of {facts.name} is another", "Restore the file or roll back")
    return path


def digest_of(path: str) -> str:
    """SHA-256 of a local file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache() -> Path:
    """The folder of local copies, which its owner alone may enter: ids and metadata lie in it.

    Raises:
        BadInput: for a folder of somebody else's, who could put other rows into it.
    """
    folder = Path(os.environ.get(CACHE_VARIABLE, os.path.join(tempfile.gettempdir(), "xhash-cache")))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise BadInput(f"a local cache in {folder}", "another user's folder", f"Name one of yours in {CACHE_VARIABLE}")
    return folder


def fetched(place: str, facts: IndexFile) -> str:
    """A local copy of an object, named by its digest; fetched where it is not there yet."""
    target = cache() / f"{facts.sha256}.arrow"
    if not target.exists() or target.stat().st_size != facts.size_bytes:
        streams.fetch(place, str(target), facts.sha256)
    return str(target)
