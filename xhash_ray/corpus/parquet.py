"""A corpus in Parquet: `image` bytes in the rows, or `image_path` naming files beside them.

Also what img2dataset writes as Parquet (`jpg`, `caption`, `key`), and Hugging Face's tables of image folders
(`file_name`): see `roles`. Rows that img2dataset could not download (`status` other than "success") are no rows of the
corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xhash_ray.corpus.footers import open_files
from xhash_ray.corpus.pairing import Numbered, Row, pairs_of, survey_of_pairs
from xhash_ray.corpus.pairs import Pair, Reading, Reject, as_labels
from xhash_ray.corpus.paths import fetch, resolve
from xhash_ray.corpus.roles import resolved
from xhash_ray.corpus.sources import Part, Survey
from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places
from xhash_ray.storage.features import is_list, is_string

BATCH_ROWS, BATCH_BYTES = 1024, 8 * 2**20  # what is decoded at once, at most
BUFFER_BYTES = 8 * 2**20  # what one request to an object store brings
SUCCESS = "success"


class ParquetCorpus:
    """Pairs in Parquet files of one schema.

    Raises:
        BadInput: when a needed column is missing or of a type that cannot hold what it should.
        Mismatch: when the files differ in schema.
    """

    def __init__(self, uri: str, files: Sequence[str], reading: Reading) -> None:
        self.uri, self.files = uri, open_files(uri, files)
        self.names = self.files.schema.names
        self.reading = resolved(reading, self.names)
        self.status = "status" if is_from_img2dataset(self.files.schema) else None
        self.check_columns()

    def check_columns(self) -> None:
        """Raises BadInput unless what a pair needs is there with usable types."""
        columns, needs = self.reading.columns, self.reading.needs
        wanted = [columns["id"]] if self.reading.identity == "given" else []
        if "image" in needs and not self.image_columns():
            wanted.append(columns["image"])
        wanted += [columns["text"]] if "text" in needs else []
        for name in wanted:
            if name not in self.names:
                self.refuse(f"column '{name}' is missing; there are {', '.join(self.names)}", "Rename a column")
        self.check_types()

    def check_types(self) -> None:
        """Raises BadInput for a caption or an image of a type that cannot hold one."""
        for role, holds, wanted in (
            ("text", holds_text, "a string or a list of strings"),
            ("image", holds_image, "encoded image bytes"),
        ):
            name = self.reading.columns[role]
            if role in self.reading.needs and name in self.names:
                kind = self.files.schema.field(name).type
                if not holds(kind):
                    self.refuse(f"column '{name}' is {kind}", f"Store {wanted}")

    def refuse(self, found: str, remedy: str) -> None:
        """Raises the error about a column."""
        raise BadInput(f"corpus at {self.uri}", found, f"{remedy}, or name another column with --columns role=column")

    def parts(self, rows: int) -> list[Part]:
        """Row groups, see `ParquetFiles.parts`."""
        return self.files.parts(rows)

    def survey(self, part: Part) -> Survey:
        """Reads ids and labels only, everything where ids are made of the content."""
        taken = set(self.reading.columns.values())
        metadata = pa.schema([entry for entry in self.files.schema if entry.name not in taken])
        if self.reading.identity == "content":
            return survey_of_pairs(self.read(part), metadata)
        id_column, label_column = self.reading.columns["id"], self.reading.columns["labels"]
        ids, labels = [], set[str]()
        for _, row in self.rows(part, (id_column, label_column)):
            name = row[id_column]
            ids.append("" if name is None else str(name))
            labels.update(as_labels(row.get(label_column)))
        return Survey(ids, labels, metadata)

    def read(self, part: Part) -> Iterator[Pair | Reject]:
        """The part's pairs, images fetched where only their names are stored."""
        columns, needs = self.reading.columns, self.reading.needs
        unread = {columns["text"]} if "text" not in needs else set()
        unread |= {columns["image"], columns["image_path"]} if "image" not in needs else set()
        rows = self.rows(part, [name for name in self.names if name not in unread])
        fetches = self.image_columns() != [columns["image"]]
        return pairs_of(rows, lambda row: self.image_of(row, part.source), self.reading, part.source, fetches)

    def image_of(self, row: Row, source: str) -> bytes | str | None:
        """A row's image, None where it has none, or the reason why it cannot be read.

        A Hugging Face image struct {bytes, path} counts as its bytes.
        """
        image = row.get(self.reading.columns["image"])
        if isinstance(image, dict):
            image = image.get("bytes")
        path = row.get(self.reading.columns["image_path"])
        if not image and isinstance(path, str) and path:
            return fetch(resolve(source, path))
        return image if isinstance(image, bytes) else None

    def located(self, part: Part) -> Iterator[tuple[str, int]]:
        """Reads the id column only (everything where ids are made of the content); positions are rows of the file."""
        if self.reading.identity == "content":
            return ((pair.id, pair.row) for pair in self.read(part) if isinstance(pair, Pair))
        column = self.reading.columns["id"]
        named = ((row[column], number) for number, row in self.rows(part, [column]))
        return ((str(name), number) for name, number in named if name is not None and str(name))

    def image(self, part: Part, position: int) -> bytes | None:
        """Reads the image columns of the row's group, up to the row."""
        try:
            group, within = self.files.group_of(part.source, position)
        except IndexError:
            return None
        image = self.image_of(self.row_at(part.source, group, within), part.source)
        return image if isinstance(image, bytes) and image else None

    def row_at(self, source: str, group: int, row: int) -> Mapping[str, Any]:
        """What one row tells of its image; the row group is never in memory as a whole."""
        for batch in batches(source, [group], self.image_columns()):
            if row < len(batch):
                found: dict[str, Any] = batch.slice(row, 1).to_pylist()[0]
                return found
            row -= len(batch)
        return {}

    def image_columns(self) -> list[str]:
        """Columns that an image is found by."""
        wanted = (self.reading.columns["image"], self.reading.columns["image_path"])
        return [name for name in wanted if name in self.names]

    def rows(self, part: Part, columns: Sequence[str]) -> Iterator[Numbered]:
        """Some columns of a part's rows, those that are there, with the rows' numbers in the file."""
        asked = dict.fromkeys((*columns, *([self.status] if self.status else [])))
        first = part.start
        for batch in batches(part.source, part.groups, [name for name in asked if name in self.names]):
            for number, row in enumerate(batch.to_pylist(), first):
                if self.status is None or row[self.status] == SUCCESS:
                    yield number, row
            first += len(batch)


def batches(source: str, groups: Sequence[int], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows of some row groups, a few at a time: the file is streamed, whatever the size of its row groups.

    Raises:
        BadInput: when the file is not there, or is damaged.
    """
    filesystem, path = places.arrow_filesystem(source)
    try:
        with (
            places.said_clearly(source),
            # Its pre_buffer, which is the default, would hold the whole of every column's row group.
            pq.ParquetFile(path, filesystem=filesystem, buffer_size=BUFFER_BYTES, pre_buffer=False) as reader,
        ):
            rows = rows_of_batch(reader.metadata, groups, columns)
            yield from reader.iter_batches(rows, row_groups=list(groups), columns=list(columns), use_threads=False)
    except pa.ArrowInvalid as error:
        line = str(error).splitlines()[0]
        raise BadInput(f"corpus in {source}", f"not readable as Parquet ({line})", "Replace the file") from None


def rows_of_batch(footer: pq.FileMetaData, groups: Sequence[int], columns: Sequence[str]) -> int:
    """How many rows of some columns are BATCH_BYTES, by what the footer says of their sizes."""
    size_bytes = rows = 0
    for group in (footer.row_group(number) for number in groups):
        chunks = (group.column(number) for number in range(group.num_columns))
        size_bytes += sum(
            chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.partition(".")[0] in columns
        )
        rows += group.num_rows
    return max(1, min(BATCH_ROWS, BATCH_BYTES * rows // max(1, size_bytes)))


def is_from_img2dataset(schema: pa.Schema) -> bool:
    """Whether rows say of themselves if they were downloaded.

    Source: img2dataset/downloader.py, whose rows all have these columns; writer.py, which writes failed ones as well.
    """
    return {"key", "status", "error_message"} <= set(schema.names) and is_string(schema.field("status").type)


def holds_text(kind: pa.DataType) -> bool:
    """Whether a column of a type can hold captions."""
    kind = kind.value_type if is_list(kind) or pa.types.is_dictionary(kind) else kind
    return is_string(kind)


def holds_image(kind: pa.DataType) -> bool:
    """Whether a column of a type can hold encoded images."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
