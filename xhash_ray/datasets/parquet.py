"""Our own features in Parquet: query/train/database.parquet, train/test.parquet, or any feature file or folder.

A file's name (or a `split` column with those words) says the part of its rows. Where train.parquet and
test.parquet are all there is, the test rows are the queries. Ids, labels and metadata travel along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped, UInt8

from xhash_ray.datasets.pairs import MAX_CLASSES, Block
from xhash_ray.datasets.splits import PARTS
from xhash_ray.errors import BadInput
from xhash_ray.storage import features, tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.features import FeatureSet

PART_OF_FILE = {"query": "query", "test": "query", "train": "train", "database": "database"}
FORMAT_COLUMNS = ("id", "image", "text", "labels", "split")


@dataclass(frozen=True)
class ParquetPairs:
    """Feature files; see `Pairs`."""

    found: FeatureSet
    given: Shaped[np.ndarray, " n"] | None
    classes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """n."""
        return self.found.tables.total_rows

    @property
    def lengths(self) -> tuple[int, int]:
        """Numbers per image and per text."""
        return self.found.image_length, self.found.text_length

    @property
    def facts(self) -> Mapping[str, object]:
        """The encoder, where it is known."""
        return {"encoder": self.found.encoder} if self.found.encoder else {}

    def label_matrix(self) -> UInt8[np.ndarray, "n classes"]:
        """Zeros and ones."""
        if not self.found.has_labels:
            raise BadInput(f"labels of {self.found.tables.uri}", "no column 'labels'", "Choose a split without labels")
        lists = features.label_lists(tables.read_table(self.found.tables, ["labels"])["labels"])
        numbers = [number for row in lists for number in row]
        if numbers and not 0 <= min(numbers) <= max(numbers) < MAX_CLASSES:
            found = f"label numbers {min(numbers)} to {max(numbers)}"
            raise BadInput(f"labels of {self.found.tables.uri}", found, f"Number them from 0, below {MAX_CLASSES:,}")
        matrix = np.zeros((len(lists), max(numbers, default=0) + 1), dtype=np.uint8)
        for row, own in enumerate(lists):
            matrix[row, own] = 1
        return matrix

    def blocks(self, rows_per_block: int) -> Iterator[Block]:
        """All pairs in the order of files; ids must differ."""
        seen: set[str] = set()
        for file, group, _ in tables.row_groups(self.found.tables):
            for whole in tables.iter_row_groups(file, [group]):
                for start in range(0, whole.num_rows, rows_per_block):
                    block = to_block(whole.slice(start, rows_per_block))
                    refuse_repeated(block.ids, seen, self.found.tables.uri)
                    yield block


def open_parquet(source: str) -> ParquetPairs:
    """Opens features that are in Parquet already.

    Raises:
        BadInput: when they are not in our format.
    """
    place = places.normalise(source)
    found = in_parts(features.open_features(place))
    given = parts_of_files(found) or parts_of_column(found)
    return ParquetPairs(found, None if given is None else np.concatenate(given), found.classes or class_names(place))


def in_parts(found: FeatureSet) -> FeatureSet:
    """The same files, ordered query, train, database where their names say so."""
    parts = [part_of(file) for file in found.tables.files]
    if not all(parts):
        return found
    order = sorted(range(len(parts)), key=lambda number: PARTS.index(str(parts[number])))
    files = tuple(found.tables.files[number] for number in order)
    rows = tuple(found.tables.rows[number] for number in order)
    return replace(found, tables=replace(found.tables, files=files, rows=rows))


def part_of(file: str) -> str | None:
    """The part that a file's name tells, None for other names."""
    return PART_OF_FILE.get(places.name_of(file).rsplit(".", 1)[0])


def parts_of_files(found: FeatureSet) -> list[np.ndarray] | None:
    """The part of every row from the names of the files; None unless all names tell one, and more than one."""
    parts = [part_of(file) for file in found.tables.files]
    if not all(parts) or len(set(parts)) < 2:
        return None
    return [np.full(rows, part, dtype="<U8") for rows, part in zip(found.tables.rows, parts, strict=True)]


def parts_of_column(found: FeatureSet) -> list[np.ndarray] | None:
    """The part of every row from the column `split`; None without one, or with other words in it."""
    if "split" not in found.tables.schema.names:
        return None
    words = tables.read_table(found.tables, ["split"])["split"].to_pylist()
    if not set(words) <= set(PART_OF_FILE):
        return None
    return [np.array([PART_OF_FILE[word] for word in words], dtype="<U8")]


def to_block(table: pa.Table) -> Block:
    """Rows of the format as arrays."""
    image, text = (features.to_matrix(table[name]) for name in features.MODALITIES)
    labels = features.label_lists(table["labels"]) if "labels" in table.column_names else None
    metadata = {name: table[name] for name in table.column_names if name not in FORMAT_COLUMNS}
    return Block(table["id"].to_pylist(), image, text, labels, metadata)


def refuse_repeated(ids: list[str], seen: set[str], uri: str) -> None:
    """Raises BadInput for an id that another row has."""
    for name in ids:
        if name in seen:
            raise BadInput(f"features at {uri}", f"id '{name}' occurs twice", "Give every pair its own id")
        seen.add(name)


def class_names(place: str) -> tuple[str, ...]:
    """The lines of classes.txt beside the files, where there is one."""
    name = places.join(place, "classes.txt")
    if place.endswith((".parquet", ".pq")) or not places.exists(name):
        return ()
    return tuple(places.read_bytes(name).decode().splitlines())
