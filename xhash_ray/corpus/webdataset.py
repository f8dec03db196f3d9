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
from typing import IO, Any

from xhash_ray.corpus.pairs import Pair, Reject, as_labels, identity, to_pair
from xhash_ray.corpus.sources import Survey, metadata_schema
from xhash_ray.corpus.units import Unit
from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "bmp", "gif")
TEXT_SUFFIXES = ("txt", "caption", "text")


class WebDataset:
    """Pairs in tar files, one unit per tar."""

    def __init__(self, uri: str, files: Sequence[str], columns: Mapping[str, str]) -> None:
        self.uri, self.files, self.columns = uri, list(files), dict(columns)

    def plan(self, rows_per_unit: int) -> list[Unit]:
        """One unit per tar: a tar can only be read from its start."""
        return [Unit(number, name) for number, name in enumerate(self.files)]

    def survey(self, unit: Unit) -> Survey:
        """Reads everything but the images' bytes."""
        rows = [self.row(key, members) for key, members in samples(unit.source, with_images=False)]
        taken = set(self.columns.values())
        labels = {label for row in rows for label in as_labels(row.get(self.columns["labels"]))}
        extra = [{key: value for key, value in row.items() if key not in taken} for row in rows]
        ids = [name for name in (identity(row, self.columns) for row in rows) if name]
        return Survey(ids, labels, metadata_schema(extra))

    def read(self, unit: Unit) -> Iterator[Pair | Reject]:
        """The tar's pairs in order."""
        for key, members in samples(unit.source, with_images=True):
            image = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
            yield to_pair(self.row(key, members), self.columns, image, f"{unit.source} sample {key}")

    def row(self, key: str, members: Mapping[str, bytes]) -> dict[str, Any]:
        """A sample's small files as one row."""
        row: dict[str, Any] = {}
        if "json" in members:
            row |= to_object(members["json"])
        caption = next((members[suffix] for suffix in TEXT_SUFFIXES if suffix in members), None)
        if caption is not None:
            row[self.columns["text"]] = caption.decode("utf-8", "replace")
        elif self.columns["text"] not in row and "caption" in row:
            row[self.columns["text"]] = row.pop("caption")
        if "cls" in members:
            row[self.columns["labels"]] = members["cls"].decode("utf-8", "replace").strip()
        row.setdefault(self.columns["id"], key)
        return row


def to_object(content: bytes) -> dict[str, Any]:
    """A sample's JSON metadata; {} for what is no JSON object, since its image and caption may be good."""
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def samples(uri: str, with_images: bool) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, {suffix: bytes}) of each sample of a tar; images are b"" when not wanted.

    Raises:
        BadInput: when the tar is damaged.
    """
    with places.said_clearly(uri), places.fsspec_filesystem(uri).open(uri, "rb") as stream:
        check_end(uri, stream)
        try:
            yield from group_members(stream, with_images)
        except tarfile.TarError as error:
            raise BadInput(f"corpus tar {uri}", f"damaged: {error}", "Replace the file") from None


def check_end(uri: str, stream: IO[bytes]) -> None:
    """Raises BadInput for a tar that was cut off: the reader itself takes a cut between members for the end."""
    size_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size_bytes - tarfile.BLOCKSIZE))
    tail = stream.read(tarfile.BLOCKSIZE)
    stream.seek(0)
    is_compressed = stream.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7")
    stream.seek(0)
    if not is_compressed and (size_bytes < tarfile.BLOCKSIZE or tail.strip(b"\0")):
        raise BadInput(f"corpus tar {uri}", "damaged: it ends without an end-of-archive mark", "Replace the file")


def group_members(stream: IO[bytes], with_images: bool) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Collects consecutive members of one key."""
    current, members = "", dict[str, bytes]()
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for entry in archive:
            if not entry.isfile():
                continue
            folder, _, name = entry.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            if key != current and members:
                yield current, members
                members = {}
            current = key
            wanted = with_images or suffix.lower() not in IMAGE_SUFFIXES
            extracted = archive.extractfile(entry) if wanted else None
            members[suffix.lower()] = extracted.read() if extracted else b""
    if members:
        yield current, members
