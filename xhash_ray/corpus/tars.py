"""Tar files of samples: members in a row that share a name up to the first dot, as webdataset groups them.

Tars may be packed (gzip, zstd, bzip2, xz; their first bytes tell). One that is not is read past what is not wanted.
"""

from __future__ import annotations

import contextlib
import io
import re
import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

from xhash_ray.corpus.streams import BLOCK_BYTES, packing_of, refused_if_damaged, stored, unpacked
from xhash_ray.errors import BadInput

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "avif")
# webdataset/tariterators.py leaves out what is called so, and what has no stem or no suffix.
META = re.compile(r"__[^/]*__($|/)")
MEMBER_BYTES = 2**18  # asked of a store at once where one image is wanted
TAIL_BYTES = 64 * 2**10


class Sample(NamedTuple):
    """Files of a tar that are one pair.

    Attributes:
        number: Position in the tar.
        key: What their names have in common.
        members: Their bytes by suffix; b"" for those that were not wanted.
        starts: Where their headers begin in the tar, by suffix.
    """

    number: int
    key: str
    members: dict[str, bytes]
    starts: dict[str, int]


def samples(uri: str, wanted: frozenset[str], block_bytes: int = BLOCK_BYTES) -> Iterator[Sample]:
    """The samples of a tar in order.

    Args:
        uri: The tar.
        wanted: Suffixes of members whose bytes are wanted.
        block_bytes: What one request to a store brings.

    Raises:
        BadInput: when the tar is damaged, once the damage is reached; or is cut off, at once.
    """
    with opened(uri, block_bytes) as archive:
        current = Sample(0, "", {}, {})
        for entry in entries(archive):
            key, suffix = cut_name(entry.name)
            if not entry.isfile() or not key or META.match(entry.name):
                continue
            if key != current.key:
                if current.members:
                    yield current
                current = Sample(current.number + bool(current.members), key, {}, {})
            extracted = archive.extractfile(entry) if suffix in wanted else None
            current.members[suffix] = extracted.read() if extracted else b""
            current.starts[suffix] = entry.offset
        if current.members:
            yield current
        while archive.fileobj and archive.fileobj.read(BLOCK_BYTES):
            pass  # behind the last member there is nothing, unless the packing was cut off: it says so here


def cut_name(name: str) -> tuple[str, str]:
    """A member's key and suffix (in lower case), ("", "") for one that belongs to no sample."""
    folder, _, last = name.rpartition("/")
    stem, dot, suffix = last.partition(".")
    if not stem or not dot:
        return "", ""
    return (f"{folder}/{stem}" if folder else stem), suffix.lower()


@contextlib.contextmanager
def opened(uri: str, block_bytes: int, position: int | None = None) -> Iterator[tarfile.TarFile]:
    """A tar to go through.

    Args:
        uri: The tar.
        block_bytes: What one request to a store brings.
        position: Where a member begins from which to go on; packed tars are gone through from their start.

    Raises:
        BadInput: when it is not there, or is damaged.
        XhashError: when the store does not answer.
    """
    with stored(uri, block_bytes) as stream, refused_if_damaged(f"corpus tar {uri}"):
        if packing_of(stream) is not None:
            with tarfile.open(fileobj=unpacked(stream), mode="r|") as archive:
                yield archive
            return
        if position is None:
            check_end(uri, stream)
        stream.seek(position or 0)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            yield archive


def entries(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """A tar's members, none of which is kept: there may be millions."""
    while (entry := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield entry


def check_end(uri: str, stream: IO[bytes]) -> None:
    """Raises BadInput for a tar that was cut off: the reader itself takes a cut between members for the end."""
    size_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size_bytes - tarfile.BLOCKSIZE))
    tail = stream.read(tarfile.BLOCKSIZE)
    if size_bytes < tarfile.BLOCKSIZE or tail.strip(b"\0"):
        raise BadInput(f"corpus tar {uri}", "damaged: it ends without an end-of-archive mark", "Replace the file")


def member_at(uri: str, position: int) -> bytes | None:
    """The file whose header begins at a position of a tar, counted without its packing; None for none.

    Goes straight there; through all that is before it where the tar is packed.

    Raises:
        BadInput: when the tar is not there, or is damaged.
    """
    with opened(uri, MEMBER_BYTES, position) as archive:
        found = next((entry for entry in entries(archive) if entry.offset >= position), None)
        extracted = archive.extractfile(found) if found and found.offset == position else None
        return (extracted.read() or None) if extracted else None


def first_sample(uri: str) -> Sample | None:
    """Names and places of a tar's first sample; None for a tar of none."""
    return next(samples(uri, frozenset(), MEMBER_BYTES), None)


def last_key(uri: str) -> str | None:
    """The key of a tar's last sample by its last bytes; None where they do not tell, as of packed tars."""
    with stored(uri, MEMBER_BYTES) as stream:
        size_bytes = stream.seek(0, io.SEEK_END)
        begin = max(0, size_bytes - TAIL_BYTES) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        stream.seek(begin)
        tail = stream.read(size_bytes - begin)
    for start in range(len(tail) - tarfile.BLOCKSIZE, -1, -tarfile.BLOCKSIZE):
        with contextlib.suppress(tarfile.TarError):
            entry = tarfile.TarInfo.frombuf(tail[start : start + tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
            return cut_name(entry.name)[0] or None
    return None
