"""A folder of images with one CSV, TSV or JSON Lines table that names them.

The table has `id` (or the image's path stands for it), `image_path` (or `image`, `file`, `filename`), `text`
and, optionally, `labels` (in CSV: separated by |). Paths are relative to the table.
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xhash_ray.corpus.pairs import Pair, Reject, as_labels, identity, to_pair
from xhash_ray.corpus.paths import fetch, resolve
from xhash_ray.corpus.sources import Survey, metadata_schema
from xhash_ray.corpus.units import Unit, plan_units
from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places

PATH_COLUMNS = ("image_path", "image", "file", "file_name", "filename", "path")


class ImageFolder:
    """Pairs named by one table.

    Raises:
        BadInput: when there are several tables, or the table lacks paths or texts.
    """

    def __init__(self, uri: str, files: Sequence[str], columns: Mapping[str, str]) -> None:
        if len(files) > 1:
            named = ", ".join(places.name_of(name) for name in files[:4])
            raise BadInput(f"corpus at {uri}", f"{len(files)} tables ({named})", "Name the table itself")
        self.uri, self.table = uri, files[0]
        rows = read_rows(self.table)
        self.columns = dict(columns)
        self.columns["image_path"] = self.path_column(list(rows[0]) if rows else [])

    def path_column(self, names: list[str]) -> str:
        """The column that holds image paths."""
        candidates = [self.columns["image_path"], *PATH_COLUMNS]
        found = next((name for name in candidates if name in names), None)
        if names and (found is None or self.columns["text"] not in names):
            missing = self.columns["text"] if found else self.columns["image_path"]
            line = f"column '{missing}' is missing; there are {', '.join(names)}"
            raise BadInput(f"corpus table {self.table}", line, "Rename it, or map it with --columns role=column")
        return found or self.columns["image_path"]

    def plan(self, rows_per_unit: int) -> list[Unit]:
        """Units over the table's rows."""
        return plan_units([(self.table, 0, len(read_rows(self.table)))], rows_per_unit)

    def rows(self, unit: Unit) -> list[dict[str, Any]]:
        """A unit's rows, ids filled in from paths and labels split."""
        rows = []
        for row in read_rows(unit.source)[unit.start : unit.stop]:
            filled = dict(row)
            filled.setdefault(self.columns["id"], row.get(self.columns["image_path"]))
            labels = filled.get(self.columns["labels"])
            if isinstance(labels, str):
                filled[self.columns["labels"]] = [part for part in labels.split("|") if part]
            rows.append(filled)
        return rows

    def survey(self, unit: Unit) -> Survey:
        """From the table alone."""
        rows = self.rows(unit)
        taken = set(self.columns.values())
        ids = [name for name in (identity(row, self.columns) for row in rows) if name]
        labels = {label for row in rows for label in as_labels(row.get(self.columns["labels"]))}
        extra = [{key: value for key, value in row.items() if key not in taken} for row in rows]
        return Survey(ids, labels, metadata_schema(extra))

    def read(self, unit: Unit) -> Iterator[Pair | Reject]:
        """Fetches each row's image."""
        for number, row in enumerate(self.rows(unit), unit.start):
            source = f"{unit.source} row {number}"
            image = self.fetched(row, unit)
            if isinstance(image, str):
                yield Reject(identity(row, self.columns), source, image)
            else:
                yield to_pair(row, self.columns, image, source)

    def fetched(self, row: Mapping[str, Any], unit: Unit) -> bytes | str:
        """A row's image, b"" where it names none, or the reason why it cannot be read."""
        path = row.get(self.columns["image_path"])
        return fetch(resolve(unit.source, str(path))) if path else b""

    def located(self, unit: Unit) -> Iterator[tuple[str, int]]:
        """Positions are rows of the table."""
        named = ((identity(row, self.columns), number) for number, row in enumerate(self.rows(unit), unit.start))
        return ((name, number) for name, number in named if name)

    def image(self, unit: Unit, position: int) -> bytes | None:
        """Reads the image's file alone."""
        image = self.fetched(read_rows(unit.source)[position], unit)
        return image if isinstance(image, bytes) and image else None


@functools.lru_cache(maxsize=2)
def read_rows(uri: str) -> list[dict[str, Any]]:
    """All rows of a CSV, TSV or JSON Lines table.

    Raises:
        BadInput: when the text is not what its suffix says.
    """
    try:
        text = places.read_bytes(uri).decode("utf-8-sig")
        if uri.lower().endswith((".jsonl", ".ndjson")):
            return [to_row(json.loads(line)) for line in text.splitlines() if line.strip()]
        delimiter = "\t" if uri.lower().endswith(".tsv") else ","
        rows = csv.DictReader(io.StringIO(text), delimiter=delimiter)
        return [{name: value for name, value in row.items() if name is not None} for row in rows]
    except (ValueError, csv.Error) as error:
        raise BadInput(f"corpus table {uri}", f"not readable: {error}", "Save it as UTF-8 CSV or JSON Lines") from None


def to_row(value: Any) -> dict[str, Any]:
    """A JSON line as a row, or ValueError when it is no object."""
    if not isinstance(value, dict):
        raise ValueError(f"a line holds {value!r:.40}, not an object")
    return value
