"""A corpus in WebDataset tars: files that share a name up to the first dot are one pair.

000042.jpg  the image (.jpg .jpeg .png .webp .bmp .gif)      000042.txt   the caption
000042.json metadata; `caption` or `text`, `labels`, `id` in it are used where no file gives them
000042.cls  a label
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, NamedTuple

from xhash_ray.corpus.pairs import Pair, Reject, as_labels, identity, to_pair
from xhash_ray.corpus.sources import Survey, metadata_schema
from xhash_ray.corpus.units import Unit
from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "gif")
TEXT_SUFFIXES = ("txt", "caption", "text")


class Sample(NamedTuple):
    """Files of a tar that are one pair.

    Attributes:
        key: What their names have in common.
        members: Their bytes by suffix.
        starts: Where their headers begin in the tar, by suffix.
    """

    key: str
    members: dict[str, bytes]
    starts: dict[str, int]

    @property
    def picture(self) -> str | None:
        """The suffix of the one that is the image."""
        return next((suffix for suffix in IMAGE_SUFFIXES if suffix in self.members), None)


class WebDataset:
    """Pairs in tar files, one unit per tar."""

    def __init__(self, uri: str, files: Sequence[str], columns: Mapping[str, str]) -> None:
        self.uri, self.files, self.columns = uri, list(files), dict(columns)

    def plan(self, rows_per_unit: int) -> list[Unit]:
        """One unit per tar: a tar can only be read from its start."""
        return [Unit(number, name) for number, name in enumerate(self.files)]

    def survey(self, unit: Unit) -> Survey:
        """Reads everything but the images' bytes."""
        rows = [self.row(sample) for sample in samples(unit.source, with_images=False)]
        taken = set(self.columns.values())
        labels = {label for row in rows for label in as_labels(row.get(self.columns["labels"]))}
        extra = [{key: value for key, value in row.items() if key not in taken} for row in rows]
        ids = [name for name in (identity(row, self.columns) for row in rows) if name]
        return Survey(ids, labels, metadata_schema(extra))

    def read(self, unit: Unit) -> Iterator[Pair | Reject]:
        """The tar's pairs in order."""
        for sample in samples(unit.source, with_images=True):
            image = sample.members[sample.picture] if sample.picture else None
            yield to_pair(self.row(sample), self.columns, image, f"{unit.source} sample {sample.key}")

    def located(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """Reads everything but the images' bytes; positions are those of their headers in the tar."""
        for sample in samples(unit.source, with_images=False):
            name = identity(self.row(sample), self.columns)
            if name and sample.picture:
                yield name, sample.starts[sample.picture]

    def image(self, unit: Unit, position: int) -> bytes | None:
        """Goes straight to the image; through all that is before it where the tar is compressed."""
        with places.said_clearly(unit.source), places.fsspec_filesystem(unit.source).open(unit.source, "rb") as stream:
            try:
                return member_at(stream, position)
            except tarfile.TarError as error:
                raise damaged(unit.source, str(error)) from None

    def row(self, sample: Sample) -> dict[str, Any]:
        """A sample's small files as one row."""
        row, members = dict[str, Any](), sample.members
        if "json" in members:
            row |= to_object(members["json"])
        caption = next((members[suffix] for suffix in TEXT_SUFFIXES if suffix in members), None)
        if caption is not None:
            row[self.columns["text"]] = caption.decode("utf-8", "replace")
        elif self.columns["text"] not in row and "caption" in row:
            row[self.columns["text"]] = row.pop("caption")
        if "cls" in members:
            row[self.columns["labels"]] = members["cls"].decode("utf-8", "replace").strip()
        row.setdefault(self.columns["id"], sample.key)
        return row


def to_object(content: bytes) -> dict[str, Any]:
    """A sample's JSON metadata; {} for what is no JSON object, since its image and caption may be good."""
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def samples(uri: str, with_images: bool) -> Iterator[Sample]:
    """The samples of a tar; images are b"" when not wanted.

    Raises:
        BadInput: when the tar is damaged.
    """
    with places.said_clearly(uri), places.fsspec_filesystem(uri).open(uri, "rb") as stream:
        check_end(uri, stream)
        try:
            yield from group_members(stream, with_images)
        except tarfile.TarError as error:
            raise damaged(uri, str(error)) from None


def damaged(uri: str, how: str) -> BadInput:
    """The error for a tar that cannot be read."""
    return BadInput(f"corpus tar {uri}", f"damaged: {how}", "Replace the file")


def check_end(uri: str, stream: IO[bytes]) -> None:
    """Raises BadInput for a tar that was cut off: the reader itself takes a cut between members for the end."""
    size_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size_bytes - tarfile.BLOCKSIZE))
    tail = stream.read(tarfile.BLOCKSIZE)
    if not is_compressed(stream) and (size_bytes < tarfile.BLOCKSIZE or tail.strip(b"\0")):
        raise damaged(uri, "it ends without an end-of-archive mark")


def is_compressed(stream: IO[bytes]) -> bool:
    """Whether a tar is gzip, bzip2 or xz inside; leaves the stream at its start."""
    stream.seek(0)
    mark = stream.read(2)
    stream.seek(0)
    return mark in (b"\x1f\x8b", b"BZ", b"\xfd7")


def member_at(stream: IO[bytes], position: int) -> bytes | None:
    """The file whose header begins at a position of a tar, counted without its compression; None for none."""
    whole = is_compressed(stream)
    stream.seek(0 if whole else position)
    with tarfile.open(fileobj=stream, mode="r|*" if whole else "r:") as archive:
        found = next((entry for entry in archive if not whole or entry.offset == position), None)
        extracted = archive.extractfile(found) if found else None
        return (extracted.read() or None) if extracted else None


def group_members(stream: IO[bytes], with_images: bool) -> Iterator[Sample]:
    """Collects consecutive members of one key."""
    current = Sample("", {}, {})
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for entry in archive:
            if not entry.isfile():
                continue
            folder, _, name = entry.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if key != current.key:
                if current.members:
                    yield current
                current = Sample(key, {}, {})
            wanted = with_images or suffix.lower() not in IMAGE_SUFFIXES
            extracted = archive.extractfile(entry) if wanted else None
            current.members[suffix.lower()] = extracted.read() if extracted else b""
            current.starts[suffix.lower()] = entry.offset
    if current.members:
        yield current
