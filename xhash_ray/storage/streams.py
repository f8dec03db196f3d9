"""Large files and objects, written and fetched piece by piece: memory stays small, and readers see all or nothing."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from xhash_ray.errors import Mismatch
from xhash_ray.storage import uri as places

PIECE_BYTES = 32 * 2**20


class DigestingFile:
    """Passes on what is written, and keeps its size and SHA-256.

    Attributes:
        size_bytes: Written so far.
    """

    closed = False  # Arrow asks

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size_bytes, self.digest = file, 0, hashlib.sha256()

    def write(self, piece: Any) -> int:
        """Writes bytes or a buffer."""
        view = memoryview(piece).cast("B")
        self.digest.update(view)
        self.file.write(view)
        self.size_bytes += len(view)
        return len(view)

    def flush(self) -> None:
        """Asked for by Arrow; the context manager that made this file flushes it."""

    @property
    def sha256(self) -> str:
        """Of all that was written, in hexadecimal."""
        return self.digest.hexdigest()


@contextmanager
def written(uri: str) -> Iterator[DigestingFile]:
    """A file or object that appears, whole and on disk, when the block ends; when it raises, nothing does."""
    with places.said_clearly(uri):
        if places.is_local(uri):
            with written_locally(Path(places.normalise(uri))) as file:
                yield file
        else:
            with written_remotely(uri) as file:
                yield file


@contextmanager
def written_locally(path: Path) -> Iterator[DigestingFile]:
    """Written beside the target, then renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".writing-", delete=False) as temporary:
        try:
            yield DigestingFile(temporary)  # type: ignore[arg-type]
            temporary.flush()
            os.fsync(temporary.fileno())
            os.chmod(temporary.name, 0o644)
            os.replace(temporary.name, path)
        except BaseException:
            os.unlink(temporary.name)
            raise


@contextmanager
def written_remotely(uri: str) -> Iterator[DigestingFile]:
    """An upload in parts that is completed in the end (fsspec's `autocommit=False`), or aborted."""
    file = places.fsspec_filesystem(uri).open(uri, "wb", block_size=PIECE_BYTES, autocommit=False)
    try:
        yield DigestingFile(file)
        file.close()
        file.commit()
    except BaseException:
        file.discard()
        raise


def arrow_writer(file: DigestingFile, schema: pa.Schema) -> pa.RecordBatchFileWriter:
    """Writes an Arrow file; to be closed before the file is."""
    return pa.ipc.new_file(pa.PythonFile(file, mode="w"), schema)


def fetch(uri: str, path: str, sha256: str | None = None) -> None:
    """Copies a remote file to a local path; it appears there when it is whole, and what it was said to be.

    Raises:
        Mismatch: when its SHA-256 is another than the given one; nothing appears then.
    """
    with (
        places.said_clearly(uri),
        places.fsspec_filesystem(uri).open(uri, "rb", block_size=PIECE_BYTES, cache_type="readahead") as source,
        written_locally(Path(path)) as target,
    ):
        while piece := source.read(PIECE_BYTES):
            target.write(piece)
        if sha256 is not None and target.sha256 != sha256:
            raise Mismatch(f"fetching {uri}", "its SHA-256 is another", "Restore the file or roll back")
