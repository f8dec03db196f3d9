"""Where pairs come from: Parquet, WebDataset tars, or a folder of images with a table beside them.

Every form answers the same questions: which units there are (`plan`, without reading rows), which ids, labels and
metadata columns a unit holds (`survey`, without reading images), its pairs (`read`), where its images lie (`located`,
without reading them) and one of those (`image`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from xhash_ray.corpus.pairs import Pair, Reject, column_map
from xhash_ray.corpus.units import Unit
from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
TAR_SUFFIXES = (".tar",)


@dataclass(frozen=True)
class Survey:
    """What is known of a unit's rows before their images are read.

    Attributes:
        ids: As text; rows without one are left out here and rejected when read.
        labels: Distinct label names.
        metadata: Columns that travel along, with their types.
    """

    ids: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    metadata: pa.Schema = field(default_factory=lambda: pa.schema([]))


class Source(Protocol):
    """One form of corpus."""

    uri: str
    columns: Mapping[str, str]

    def plan(self, rows_per_unit: int) -> list[Unit]:
        """The units, from sizes alone."""

    def survey(self, unit: Unit) -> Survey:
        """Ids, labels and metadata columns of a unit."""

    def read(self, unit: Unit) -> Iterator[Pair | Reject]:
        """The unit's rows in order."""

    def located(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """Id of each of the unit's rows that has one, and the position that `image` finds its image by."""

    def image(self, unit: Unit, position: int) -> bytes | None:
        """The encoded image at a position of the unit; None where there is none.

        Raises:
            XhashError: when the unit's file cannot be read.
        """


def open_corpus(uri: str, columns: Mapping[str, str] | None = None) -> Source:
    """Finds out which form a corpus has.

    Args:
        uri: A file or folder, local or remote.
        columns: Renamed columns by role, such as {"text": "caption"}.

    Raises:
        BadInput: when there is nothing that looks like a corpus.
        BadOption: for an unknown role.
    """
    from xhash_ray.corpus.image_folder import ImageFolder
    from xhash_ray.corpus.parquet import ParquetCorpus
    from xhash_ray.corpus.webdataset import WebDataset

    roles = column_map(columns or {})
    forms: list[tuple[tuple[str, ...], Any]] = [
        (PARQUET_SUFFIXES, ParquetCorpus),
        (TAR_SUFFIXES, WebDataset),
        (TABLE_SUFFIXES, ImageFolder),
    ]
    for suffixes, form in forms:
        files = [name for name in places.list_files(uri, suffixes) if name.lower().endswith(suffixes)]
        if files:
            source: Source = form(uri, files, roles)
            return source
    expected = "Parquet files, WebDataset .tar files, or images with one .csv or .jsonl table"
    raise BadInput(f"corpus at {uri}", "no corpus file", f"Name a file or folder with {expected}")


def metadata_schema(rows: list[dict[str, Any]]) -> pa.Schema:
    """Types of metadata columns seen in rows of loose values; a column of nothing but None is text."""
    if not rows or not any(rows):
        return pa.schema([])
    names = dict.fromkeys(name for row in rows for name in row)
    fields = []
    for name in names:
        kind = infer_type([row.get(name) for row in rows])
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def infer_type(values: list[Any]) -> pa.DataType:
    """The Arrow type of loose values; text where they do not agree."""
    try:
        kind = pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()
    return pa.string() if pa.types.is_null(kind) or pa.types.is_nested(kind) else kind


def unify(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """One schema for two units; a column whose types do not promote to a common one becomes text."""
    fields = {entry.name: entry for entry in first}
    for entry in second:
        known = fields.get(entry.name)
        if known is None or known.type == entry.type:
            fields[entry.name] = entry
        else:
            fields[entry.name] = pa.field(entry.name, common_type(known.type, entry.type))
    return pa.schema(list(fields.values()))


def common_type(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """The type both promote to, or text."""
    try:
        schemas = [pa.schema([("x", kind)]) for kind in (first, second)]
        return pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()
