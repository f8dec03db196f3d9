"""A corpus in WebDataset tars: files that share a name up to the first dot are one pair.

000042.jpg   the image (.jpg .jpeg .png .webp .bmp .gif .tif .tiff .avif)
000042.txt   the caption, one however many lines it has
000042.json  metadata; `text`, `caption` or `captions`, `labels` and `id` in it are used where no file gives them; a
             list of strings, as one of those or as the whole file, is that many captions
000042.cls   a label

A role that was mapped is the file of that suffix, or what the JSON calls so. Beside its tar img2dataset leaves a table,
which is read in the tar's place for what it knows: see `sidecars`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xhash_ray.corpus import sidecars
from xhash_ray.corpus.pairing import survey_of_pairs, survey_of_rows
from xhash_ray.corpus.pairs import Pair, Reading, Reject, identity, to_pair
from xhash_ray.corpus.sources import Part, Survey
from xhash_ray.corpus.tars import IMAGE_SUFFIXES, Sample, member_at, samples
from xhash_ray.corpus.text_tables import from_json
from xhash_ray.storage.versions import versions_of

TEXT_SUFFIXES = ("txt", "caption", "text")


class WebDataset:
    """Pairs in tar files, one part per tar: a tar can only be read from its start.

    A tar that is cut off or damaged is refused, and names the file: what of it could be read would be an accident.

    Args:
        uri: What was asked for.
        files: The tars.
        reading: How samples become pairs.
        tables: img2dataset's table of a tar, where it has one.
    """

    def __init__(
        self, uri: str, files: Sequence[str], reading: Reading, tables: Mapping[str, str] | None = None
    ) -> None:
        self.uri, self.files, self.reading, self.tables = uri, list(files), reading, dict(tables or {})

    def parts(self, rows: int) -> list[Part]:
        """One per tar."""
        versions = versions_of(self.files)
        return [Part(number, name, versions[name]) for number, name in enumerate(self.files)]

    def survey(self, part: Part) -> Survey:
        """From the tar's table where that can be trusted; else everything but the images' bytes."""
        if self.reading.identity == "content":
            return survey_of_pairs(self.read(part))
        table = self.table_of(part)
        if table is not None:
            return sidecars.survey(table, self.reading)
        return survey_of_rows((self.row(sample) for sample in self.samples(part, with_images=False)), self.reading)

    def read(self, part: Part) -> Iterator[Pair | Reject]:
        """The tar's pairs in order.

        Raises:
            BadInput: when the tar is damaged, or its table, which was trusted, turns out to be of another tar.
        """
        return (row for row, _ in self.read_with_samples(part))

    def read_with_samples(self, part: Part) -> Iterator[tuple[Pair | Reject, Sample]]:
        """Pairs and rejects, with what they were made of."""
        found = self.samples(part, "image" in self.reading.needs)
        if self.reading.identity == "given":
            table = self.table_of(part)
            found = found if table is None else sidecars.checked(found, table, part.source)
        for sample in found:
            picture = self.picture(sample)
            image = sample.members[picture] if picture else None
            yield to_pair(self.row(sample), self.reading, image, part.source, sample.number), sample

    def located(self, part: Part) -> Iterator[tuple[str, int]]:
        """Reads everything but the images' bytes (those too where ids are made of them); positions are in the tar."""
        if self.reading.identity == "content":
            named = ((row.id, sample) for row, sample in self.read_with_samples(part) if isinstance(row, Pair))
        else:
            found = self.samples(part, with_images=False)
            named = ((identity(self.row(sample), self.reading.columns), sample) for sample in found)
        for name, sample in named:
            picture = self.picture(sample)
            if name and picture:
                yield name, sample.starts[picture]

    def image(self, part: Part, position: int) -> bytes | None:
        """Reads the one member, see `tars.member_at`."""
        return member_at(part.source, position)

    def samples(self, part: Part, with_images: bool) -> Iterator[Sample]:
        """A tar's samples, with the bytes of what can be an image or without."""
        columns = self.reading.columns
        wanted = {"json", "cls", *TEXT_SUFFIXES, columns["text"].lower(), columns["labels"].lower()}
        pictures = {*IMAGE_SUFFIXES, columns["image"].lower()}
        return samples(part.source, frozenset(wanted | pictures if with_images else wanted - pictures))

    def table_of(self, part: Part) -> sidecars.Sidecar | None:
        """img2dataset's table of a tar, None where there is none that can be trusted."""
        place = self.tables.get(part.source)
        return sidecars.trusted(part.source, place, self.reading) if place else None

    def picture(self, sample: Sample) -> str | None:
        """The suffix of the member that is the image."""
        wanted = self.reading.columns["image"]
        suffixes = IMAGE_SUFFIXES if wanted == "image" else (wanted.lower(),)
        return next((suffix for suffix in suffixes if suffix in sample.members), None)

    def row(self, sample: Sample) -> dict[str, Any]:
        """A sample's small files as one row."""
        columns, members = self.reading.columns, sample.members
        row = to_object(members["json"], columns["text"]) if "json" in members else {}
        for role, suffixes in (("text", TEXT_SUFFIXES), ("labels", ("cls",))):
            column = columns[role]
            if column != role:  # the file of that name, then what the JSON calls so, then the usual files
                suffixes = (column.lower(), *(() if column in row else suffixes))
            content = next((members[suffix] for suffix in suffixes if suffix in members), None)
            if content is not None:
                row[column] = content.decode("utf-8", "replace").strip()
        for other in ("caption", "captions"):
            if columns["text"] not in row and other in row:
                row[columns["text"]] = row.pop(other)
        row.setdefault(columns["id"], sample.key)
        return row


def to_object(content: bytes, text_column: str) -> dict[str, Any]:
    """A sample's JSON metadata; {} for what is neither object nor captions, since its image and caption may be good."""
    try:
        value = from_json(content.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return {text_column: value}
    return value if isinstance(value, dict) else {}
