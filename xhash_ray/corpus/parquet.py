"""A corpus in Parquet: `image` bytes in the rows, or `image_path` naming files beside them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xhash_ray.corpus.pairs import Pair, Reject, as_labels, identity, to_pair
from xhash_ray.corpus.paths import fetch, resolve
from xhash_ray.corpus.sources import Survey
from xhash_ray.corpus.units import Unit, plan_units
from xhash_ray.errors import BadInput
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.features import is_list, is_string

BATCH_ROWS = 64
BUFFER_BYTES = 8 * 2**20  # what one request to an object store brings


class ParquetCorpus:
    """Pairs in Parquet files of one schema.

    Raises:
        BadInput: when a needed column is missing or of a type that cannot hold what it should.
    """

    def __init__(self, uri: str, files: Sequence[str], columns: Mapping[str, str]) -> None:
        self.uri, self.columns = uri, columns
        self.tables = tables.open_tables(uri, "corpus")
        self.check_columns()

    def check_columns(self) -> None:
        """Raises BadInput unless id, text and one form of image are there with usable types."""
        tables.require_columns(self.tables, [self.columns["id"], self.columns["text"]], "corpus")
        schema = self.tables.schema
        if not {self.columns["image"], self.columns["image_path"]} & set(schema.names):
            tables.require_columns(self.tables, [self.columns["image"]], "corpus")
        text = schema.field(self.columns["text"]).type
        if not is_string(text) and not (is_list(text) and is_string(text.value_type)):
            self.refuse(self.columns["text"], text, "a string or a list of strings")
        if self.columns["image"] in schema.names:
            image = schema.field(self.columns["image"]).type
            if not (pa.types.is_binary(image) or pa.types.is_large_binary(image) or pa.types.is_struct(image)):
                self.refuse(self.columns["image"], image, "encoded image bytes")

    def refuse(self, column: str, kind: pa.DataType, wanted: str) -> None:
        """Raises the error about a column's type."""
        raise BadInput(
            f"corpus at {self.uri}",
            f"column '{column}' is {kind}",
            f"Store {wanted}, or name another column with --columns",
        )

    def plan(self, rows_per_unit: int) -> list[Unit]:
        """Units from the footers' row counts."""
        return plan_units(tables.row_groups(self.tables), rows_per_unit)

    def survey(self, unit: Unit) -> Survey:
        """Reads the id and label columns only."""
        wanted = [self.columns["id"], self.columns["labels"]]
        table = self.rows(unit, [name for name in wanted if name in self.tables.schema.names])
        ids = [str(name) for name in table[self.columns["id"]].to_pylist() if name is not None and str(name)]
        labels: set[str] = set()
        if self.columns["labels"] in table.column_names:
            labels = {label for value in table[self.columns["labels"]].to_pylist() for label in as_labels(value)}
        taken = set(self.columns.values())
        return Survey(ids, labels, pa.schema([entry for entry in self.tables.schema if entry.name not in taken]))

    def rows(self, unit: Unit, columns: list[str] | None) -> pa.Table:
        """A unit's rows as a table."""
        group = row_group(unit.source, unit.group, tuple(columns) if columns else None)
        return group.slice(unit.start, None if unit.stop is None else unit.stop - unit.start)

    def read(self, unit: Unit) -> Iterator[Pair | Reject]:
        """The unit's pairs, images fetched where only their paths are stored."""
        for number, row in enumerate(self.rows(unit, None).to_pylist(), unit.start):
            source = f"{unit.source} row group {unit.group} row {number}"
            yield self.pair(row, unit, source)

    def pair(self, row: dict[str, Any], unit: Unit, source: str) -> Pair | Reject:
        """One row as a pair."""
        image = self.fetched(row, unit)
        if isinstance(image, str):
            return Reject(identity(row, self.columns), source, image)
        return to_pair(row, self.columns, image, source)

    def fetched(self, row: Mapping[str, Any], unit: Unit) -> bytes | str | None:
        """A row's image, None where it has none, or the reason why it cannot be read.

        A Hugging Face image struct {bytes, path} counts as its bytes.
        """
        image = row.get(self.columns["image"])
        if isinstance(image, dict):
            image = image.get("bytes")
        path = row.get(self.columns["image_path"])
        if not image and isinstance(path, str):
            return fetch(resolve(unit.source, path))
        return image if isinstance(image, bytes) else None

    def located(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """Reads the id column only; positions are rows of the row group."""
        names = self.rows(unit, [self.columns["id"]])[self.columns["id"]].to_pylist()
        numbered = enumerate(names, unit.start)
        return ((str(name), number) for number, name in numbered if name is not None and str(name))

    def image(self, unit: Unit, position: int) -> bytes | None:
        """Reads the image columns of the row group, up to the row."""
        columns = [self.columns["image"], self.columns["image_path"]]
        row = row_at(unit, position, [name for name in columns if name in self.tables.schema.names])
        image = self.fetched(row, unit)
        return image if isinstance(image, bytes) and image else None


@functools.lru_cache(maxsize=1)
def row_group(source: str, group: int, columns: tuple[str, ...] | None) -> pa.Table:
    """A decoded row group; kept, because the next unit is often the next slice of the same one."""
    return next(tables.iter_row_groups(source, [group], columns))


def row_at(unit: Unit, position: int, columns: list[str]) -> dict[str, Any]:
    """Some columns of one row of a unit's row group, which is never in memory as a whole; {} past its end."""
    filesystem, path = places.arrow_filesystem(unit.source)
    with (
        places.said_clearly(unit.source),
        pq.ParquetFile(path, filesystem=filesystem, buffer_size=BUFFER_BYTES) as reader,
    ):
        for batch in reader.iter_batches(BATCH_ROWS, row_groups=[unit.group], columns=columns, use_threads=False):
            if position < len(batch):
                row: dict[str, Any] = batch.slice(position, 1).to_pylist()[0]
                return row
            position -= len(batch)
    return {}
