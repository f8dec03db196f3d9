"""Where pairs come from: Parquet, WebDataset tars, or a folder of images with tables beside them.

Every form answers the same questions: which parts there are (`parts`, without reading rows), which ids, labels and
metadata columns a part holds (`survey`, without reading images), its pairs (`read`), where its images lie (`located`,
without reading them) and one of those (`image`). A source can be pickled; whoever gets it, and a part, reads the same.

What is wrong with a row is a `Reject`. What is wrong with a file is a BadInput; a store that does not answer is another
XhashError, so that whoever reads can try again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from xhash_ray.corpus.pairs import MODALITIES, Pair, Reading, Reject, column_map


@dataclass(frozen=True)
class Part:
    """What is read at once: some row groups of a Parquet file, a tar, some rows of a table.

    Attributes:
        number: Position in the corpus.
        source: URI of the file.
        version: Tells one content of the file from another (`storage.versions`, or its SHA-256 where that is known).
        groups: Row groups, () for other forms.
        start: First row, counted within the file.
        rows: How many the file has there, None where only reading tells (tars). Rows that img2dataset marks as never
            downloaded count here, but are none of the corpus: `Survey.ids` says how many those are.
    """

    number: int
    source: str
    version: str
    groups: tuple[int, ...] = ()
    start: int = 0
    rows: int | None = None


@dataclass(frozen=True)
class Survey:
    """What is known of a part's rows before their images are read.

    Attributes:
        ids: As text, one per row in order; "" for rows without one.
        labels: Distinct label names.
        metadata: Columns that travel along, with their types.
    """

    ids: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    metadata: pa.Schema = field(default_factory=lambda: pa.schema([]))


class Source(Protocol):
    """One form of corpus.

    Attributes:
        uri: What was asked for.
        reading: How rows become pairs, with the columns that were found.
    """

    uri: str
    reading: Reading

    def parts(self, rows: int) -> list[Part]:
        """The parts in order, of about so many rows where the form lets one choose; from listings, footers and tables.

        Numbers are positions here, but a part may be given another one: it is read by its file and rows.
        """

    def survey(self, part: Part) -> Survey:
        """Ids, labels and metadata columns of a part, without its images where ids are given."""

    def read(self, part: Part) -> Iterator[Pair | Reject]:
        """One pair or reject for every row, in the order of `survey`."""

    def located(self, part: Part) -> Iterator[tuple[str, int]]:
        """Id of each of the part's rows that has one, and the position that `image` finds its image by."""

    def image(self, part: Part, position: int) -> bytes | None:
        """The encoded image at a position of the part; None where there is none.

        Raises:
            XhashError: when the part's file cannot be read.
        """


def open_corpus(
    uri: str,
    columns: Mapping[str, str] | None = None,
    identity: str = "given",
    needs: tuple[str, ...] = MODALITIES,
) -> Source:
    """Finds out which form a corpus has.

    Args:
        uri: A file or folder, local or remote, a pattern with braces or a list joined by :: (`corpus.patterns`), which
            need not be absolute.
        columns: Renamed columns by role, such as {"text": "caption"}.
        identity: "given" or "content", see `Reading`.
        needs: Modalities that a pair must have.

    Raises:
        BadInput: when there is nothing that looks like a corpus.
        BadOption: for an unknown role.
    """
    from xhash_ray.corpus.finding import find  # the forms are built on this file

    return find(uri, Reading(column_map(columns or {}), identity, needs))


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
