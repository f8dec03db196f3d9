"""Text tables of any size: where their records begin is noted once, and only the records asked for are read.

Of a table of ten million rows this keeps ten thousand numbers. A table that is packed is unpacked into a temporary file
by every process that reads it.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

import numpy as np

from xhash_ray.corpus.record_scan import COUNT, IS_BLANK, MARKED, START, compiled
from xhash_ray.corpus.streams import BLOCK_BYTES, packing_of, refused_if_damaged, stored, unpacked
from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places

STRIDE = 1024  # records from one mark to the next
SPAN_BYTES = 4 * 2**20  # what is read at once, where one stride is not more
BYTE_ORDER_MARK = codecs.BOM_UTF8


@dataclass(frozen=True)
class Records:
    """Where the records of a table lie.

    Attributes:
        uri: Of the table.
        version: Of its content.
        count: How many there are; the first of separated values is the head.
        marks: int64 [ceil(count / STRIDE) + 1], where every STRIDE-th begins, and where the last ends.
        is_packed: Whether positions are those of the unpacked content.
    """

    uri: str
    version: str
    count: int
    marks: np.ndarray
    is_packed: bool

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
        """The records start .. stop - 1 and some around them: first and one past the last of a block, its bytes.

        Raises:
            XhashError: when the table cannot be read.
        """
        first, end = start // STRIDE, -(-min(stop, self.count) // STRIDE)
        while first < end:
            last = first + 1
            while last < end and self.marks[last + 1] - self.marks[first] <= SPAN_BYTES:
                last += 1
            content = self.between(int(self.marks[first]), int(self.marks[last]))
            yield first * STRIDE, min(last * STRIDE, self.count), content
            first = last

    def between(self, begin: int, end: int) -> bytes:
        """Some bytes of the table."""
        if self.is_packed:
            copy = unpacked_copy(self.uri, self.version)
            return os.pread(copy.fileno(), end - begin, begin)
        with places.said_clearly(self.uri):
            filesystem, path = places.fsspec_place(self.uri)
            content = bytes(filesystem.cat_file(path, start=begin, end=end))
        return content if len(content) <= end - begin else content[begin:end]  # from a server that sends all or nothing


def find_records(uri: str, version: str, delimiter: str | None) -> Records:
    """Reads a table once, from its start to its end.

    Args:
        uri: The table.
        version: Of its content.
        delimiter: Of fields, None for JSON Lines.

    Raises:
        BadInput: when it is no text in UTF-8, or is damaged.
    """
    state, found = begun(), []
    decoder, size = codecs.getincrementaldecoder("utf-8")(), 0
    with stored(uri) as stream:
        is_packed = packing_of(stream) is not None
        for block in blocks_of(stream, uri):
            with refused_if_no_text(uri):
                decoder.decode(block)
            skipped = len(BYTE_ORDER_MARK) if size == 0 and block.startswith(BYTE_ORDER_MARK) else 0
            state[START] += skipped
            found.append(marks_of(block[skipped:], size + skipped, delimiter, state))
            size += len(block)
    with refused_if_no_text(uri):
        decoder.decode(b"", final=True)
    return Records(uri, version, int(state[COUNT]), np.array([*itertools.chain(*found), size], np.int64), is_packed)


def begun() -> np.ndarray:
    """The state of a scan that has seen nothing."""
    state = np.zeros(5, np.int64)
    state[IS_BLANK] = 1
    return state


def marks_of(block: bytes, base: int, delimiter: str | None, state: np.ndarray) -> np.ndarray:
    """Where every STRIDE-th record of a block begins; the state goes on to the next block."""
    marks = np.empty(len(block) // STRIDE + 1, np.int64)
    if block:
        content = np.frombuffer(block, np.uint8)
        compiled()(content, base, -1 if delimiter is None else ord(delimiter), STRIDE, state, marks)
    return marks[: state[MARKED]]


def blocks_of(packed: IO[bytes], uri: str) -> Iterator[bytes]:
    """The content of a table, unpacked, block by block; BadInput where it is damaged."""
    with refused_if_damaged(f"corpus table {uri}"):
        stream = unpacked(packed)
        block = stream.read(BLOCK_BYTES)
    while block:
        yield block
        with refused_if_damaged(f"corpus table {uri}"):
            block = stream.read(BLOCK_BYTES)


def head_of(uri: str, delimiter: str | None) -> str:
    """The beginning of a table, with the whole of its first record; without a byte order mark.

    Raises:
        BadInput: when the table is not there, is damaged, or is no text in UTF-8.
    """
    with stored(uri, 2**18) as packed, refused_if_damaged(f"corpus table {uri}"):
        stream, head = unpacked(packed), b""
        while not first_record_ends(head, delimiter) and (more := stream.read(2**16)):
            head += more
    with refused_if_no_text(uri):
        return codecs.getincrementaldecoder("utf-8")().decode(head.removeprefix(BYTE_ORDER_MARK))


@contextlib.contextmanager
def refused_if_no_text(uri: str) -> Iterator[None]:
    """Turns bytes that are no UTF-8 into a BadInput that names the table."""
    try:
        yield
    except UnicodeDecodeError as error:
        remedy = "Save it as UTF-8 CSV, TSV or JSON Lines"
        raise BadInput(f"corpus table {uri}", f"not readable: {error}", remedy) from None


@functools.lru_cache(maxsize=4)
def unpacked_copy(uri: str, version: str) -> IO[bytes]:
    """A packed table unpacked into a file that is gone with this process; one for each version of it."""
    copy = cast(IO[bytes], tempfile.TemporaryFile())  # noqa: SIM115  it is closed when it is forgotten
    with stored(uri) as stream:
        for block in blocks_of(stream, uri):
            copy.write(block)
    copy.flush()
    return copy


def first_record_ends(head: bytes, delimiter: str | None) -> bool:
    """Whether a table's beginning holds its first record to the end."""
    state = begun()
    marks_of(head.removeprefix(BYTE_ORDER_MARK), 0, delimiter, state)
    return bool(state[COUNT] > 1 or (state[COUNT] == 1 and state[IS_BLANK]))
