"""Files of a store as streams: what fails is said to be the store's trouble or the file's; packed ones are unpacked."""

from __future__ import annotations

import contextlib
import io
import lzma
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

import pyarrow as pa

from xhash_ray.errors import BadInput, XhashError
from xhash_ray.storage import uri as places

BLOCK_BYTES = 16 * 2**20  # what one request to a store brings
PACKED_SUFFIXES = (".gz", ".zst", ".bz2", ".xz")
MARKS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz"}
# What unpackers raise about bytes that are not what they should be. Troubles of the store are XhashErrors by then.
DAMAGE = (OSError, EOFError, lzma.LZMAError, zlib.error, tarfile.TarError, pa.ArrowInvalid)


class Stored(io.RawIOBase):
    """A file of a store to read and to seek in; its troubles are XhashErrors that name it, through whatever reads it.

    Raises:
        BadInput: when it is not there, or may not be read.
        XhashError: when the store does not answer.
    """

    def __init__(self, uri: str, block_bytes: int = BLOCK_BYTES) -> None:
        super().__init__()
        self.uri = uri
        with places.said_clearly(uri):
            self.filesystem, path = places.fsspec_place(uri)  # an archive's closes its files when it is forgotten
            stream: Any = self.filesystem.open(path, "rb", block_size=block_bytes)
            self.stream = stream if is_seekable(stream) else copied(stream)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        with places.said_clearly(self.uri):
            return bytes(self.stream.read(size))

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        with places.said_clearly(self.uri):
            return int(self.stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self.stream.tell())

    def close(self) -> None:
        if not self.closed:
            self.stream.close()
        super().close()


def stored(uri: str, block_bytes: int = BLOCK_BYTES) -> IO[bytes]:
    """A file of a store, opened; errors as of `Stored`."""
    return cast(IO[bytes], Stored(uri, block_bytes))


def is_seekable(stream: Any) -> bool:
    """Whether one can go to any place of a stream (a web server may serve whole files only)."""
    try:
        stream.seek(0, io.SEEK_END)
        stream.seek(0)
    except (ValueError, OSError):
        return False
    return True


def copied(stream: Any) -> IO[bytes]:
    """A stream's content in a temporary file, at its start."""
    copy = cast(IO[bytes], tempfile.TemporaryFile())  # noqa: SIM115  whoever gets it closes it
    with stream:
        while block := stream.read(BLOCK_BYTES):
            copy.write(block)
    copy.seek(0)
    return copy


def packing_of(stream: IO[bytes]) -> str | None:
    """How a stream is packed, told by its first bytes; it is left at its start."""
    stream.seek(0)
    head = stream.read(6)
    stream.seek(0)
    return next((name for mark, name in MARKS.items() if head.startswith(mark)), None)


def unpacked(stream: IO[bytes]) -> IO[bytes]:
    """A stream's content, unpacked where it is packed; what comes out of the unpacker cannot be sought in."""
    packing = packing_of(stream)
    if packing is None:
        return stream
    if packing == "xz":
        return cast(IO[bytes], lzma.open(stream))
    return cast(IO[bytes], pa.input_stream(stream, compression=packing))


@contextlib.contextmanager
def refused_if_damaged(what: str, remedy: str = "Replace the file") -> Iterator[None]:
    """Turns what unpackers and tar readers raise into a BadInput.

    Args:
        what: The file, for the error.
        remedy: What to do about it.
    """
    try:
        yield
    except XhashError:
        raise
    except DAMAGE as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(what, f"damaged: {line}", remedy) from None
