"""Ids of a segment, which stay on disk: those of some rows are read when they are asked for.

A row's id takes two reads, where it begins and what it is. From a disk that nobody has read yet, each is a wait of a
millisecond; so whoever wants many asks for all of them first, and the system fetches them side by side. Where all ids
together are few, they are asked for once and for all.
"""

from __future__ import annotations

import mmap

import numpy as np
import pyarrow as pa

from xhash_ray.errors import BadInput

OFFSET_BYTES = 4
POPULATE_READ = 22  # MADV_POPULATE_READ of madvise(2): a page touched later costs a microsecond, and hits touch many


class StoredIds:
    """The id column of a mapped file.

    Args:
        column: string [n], one chunk or none.
        mapped: The file it lies in.
        address: Where that begins in memory.
    """

    def __init__(self, column: pa.ChunkedArray, mapped: mmap.mmap, address: int) -> None:
        if not pa.types.is_string(column.type):
            raise BadInput("ids of a segment", f"of type {column.type}", "Write them as string")
        self.column: pa.StringArray = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        self.mapped, self.address = mapped, address
        _, offsets, names = self.column.buffers()
        self.starts = np.frombuffer(offsets, np.int32)[self.column.offset :] if offsets else np.zeros(1, np.int32)
        self.names_at = int(names.address) if names else 0
        self.names = memoryview(names) if names else memoryview(b"")

    def __len__(self) -> int:
        return len(self.column)

    def of(self, rows: np.ndarray) -> list[str]:
        """The ids of some rows. Slices of the buffer: Arrow's own taking costs more than the names of a few rows."""
        begins, ends = self.starts[rows].tolist(), self.starts[rows + 1].tolist()
        return [str(self.names[begin:end], "utf-8") for begin, end in zip(begins, ends, strict=True)]

    def find(self, identity: str) -> int | None:
        """The row of an id, by bisection; None when it is not here."""
        wanted, low, high = identity.encode(), 0, len(self.column)
        while low < high:
            middle = (low + high) // 2
            if self.column[middle].as_py().encode() < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self.column) and self.column[low].as_py() == identity else None

    @property
    def addresses(self) -> tuple[int, int]:
        """Where the starts and the bytes of the names lie in memory."""
        return self.starts.ctypes.data, self.names_at

    @property
    def size_bytes(self) -> int:
        """Of the whole column."""
        return int(self.starts.nbytes) + int(self.starts[len(self.column)] - self.starts[0])

    def ask_for_all(self) -> None:
        """Has the system read the whole column: mapped at once where it can, or else in its own time."""
        for address, length in ((self.starts.ctypes.data, self.starts.nbytes), (self.names_at, self.size_bytes)):
            page = max(0, address - self.address) // mmap.PAGESIZE * mmap.PAGESIZE
            if hasattr(mmap, "MADV_WILLNEED") and address and page < len(self.mapped):
                within = page, min(length + mmap.PAGESIZE, len(self.mapped) - page)
                try:
                    self.mapped.madvise(POPULATE_READ, *within)
                except OSError:  # before Linux 5.14
                    self.mapped.madvise(mmap.MADV_WILLNEED, *within)

    def ask_for_starts(self, rows: np.ndarray) -> None:
        """Has the system read where some ids begin, without waiting."""
        self.ask_for(self.starts.ctypes.data + OFFSET_BYTES * rows.astype(np.int64))

    def ask_for_names(self, rows: np.ndarray) -> None:
        """Has the system read some ids, without waiting for more than their beginnings."""
        self.ask_for(self.names_at + self.starts[rows].astype(np.int64))

    def ask_for(self, addresses: np.ndarray) -> None:
        """Has the system read the pages at some addresses. Source: madvise(2), MADV_WILLNEED."""
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        for page in np.unique((addresses - self.address) // mmap.PAGESIZE).tolist():
            start = page * mmap.PAGESIZE
            if 0 <= start < len(self.mapped):  # an empty column lies nowhere
                self.mapped.madvise(mmap.MADV_WILLNEED, start, min(mmap.PAGESIZE, len(self.mapped) - start))
