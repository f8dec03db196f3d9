"""A folder of images with tables that name them: CSV, TSV or JSON Lines, each also packed (.gz .zst .bz2 .xz).

A table has `id` (or the image's path stands for it), `image_path` (or `image`, `file_name`, `filename`, `file`,
`path`), `text` (or `caption`) and, optionally, `labels` (in CSV: separated by |). Paths are relative to the table.
Hugging Face's image folders with `metadata.csv` or `metadata.jsonl` are such. Several tables have the same columns;
where they lie in different folders, a path that stands for an id begins with its table's. A part is as new as its
table: images that change under the same name are not noticed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xhash_ray.corpus.pairing import Numbered, Row, pairs_of, survey_of_pairs, survey_of_rows
from xhash_ray.corpus.pairs import Pair, Reading, Reject, identity
from xhash_ray.corpus.paths import fetch, resolve
from xhash_ray.corpus.roles import resolved
from xhash_ray.corpus.sources import Part, Survey
from xhash_ray.corpus.text_tables import TextTable
from xhash_ray.errors import BadInput
from xhash_ray.storage.versions import versions_of


class ImageFolder:
    """Pairs named by tables of text.

    Args:
        uri: What was asked for.
        files: The tables and the suffix that says how each is read.
        reading: How rows become pairs.

    Raises:
        BadInput: when tables have different columns, or lack paths or texts.
    """

    def __init__(self, uri: str, files: Mapping[str, str], reading: Reading) -> None:
        self.uri = uri
        self.tables = {name: TextTable(name, suffix) for name, suffix in files.items()}
        filled = [table for table in self.tables.values() if table.names]
        self.reading = resolved(reading, filled[0].names if filled else [], is_of_paths=True)
        for table in filled:
            self.check_columns(filled[0], table)
        self.root = common_folder([folder_of(name) for name in self.tables])

    def check_columns(self, first: TextTable, table: TextTable) -> None:
        """Raises BadInput unless a table has what a pair needs, and the columns of the first."""
        names, columns, needs = table.names, self.reading.columns, self.reading.needs
        wanted = [columns["image_path"]] if "image" in needs else []
        wanted += [columns["text"]] if "text" in needs else []
        if self.reading.identity == "given" and columns["image_path"] not in names:
            wanted.append(columns["id"])
        for name in wanted:
            if name not in names:
                line = f"column '{name}' is missing; there are {', '.join(names)}"
                raise BadInput(f"corpus table {table.uri}", line, "Rename it, or map it with --columns role=column")
        if table.delimiter is not None and set(names) != set(first.names):
            found = f"{first.uri} has {', '.join(first.names)}; {table.uri} has {', '.join(names)}"
            raise BadInput(f"corpus at {self.uri}", f"tables of different columns: {found}", "Name one of them")

    def parts(self, rows: int) -> list[Part]:
        """Slices of the tables' rows; each table is gone through once."""
        rows, versions = max(1, rows), versions_of(list(self.tables))
        cut = [
            (name, start, min(rows, count - start))
            for name, table in self.tables.items()
            for count in [table.count(versions[name])]
            for start in range(0, count, rows)
        ]
        return [
            Part(number, name, versions[name], (), start, length) for number, (name, start, length) in enumerate(cut)
        ]

    def rows(self, part: Part) -> Iterator[Numbered]:
        """A part's rows with their numbers in the table, ids filled in from paths and labels split."""
        stop = part.start + (part.rows or 0)
        for number, row in self.tables[part.source].rows(part.start, stop, part.version):
            yield number, self.filled(row, part.source)

    def filled(self, row: dict[str, Any], source: str) -> dict[str, Any]:
        """A row with an id and labels."""
        columns = self.reading.columns
        if columns["id"] not in row:
            row[columns["id"]] = self.path_as_id(row.get(columns["image_path"]), source)
        labels = row.get(columns["labels"])
        if isinstance(labels, str):
            row[columns["labels"]] = [label for label in labels.split("|") if label]
        return row

    def path_as_id(self, path: Any, source: str) -> Any:
        """A path that is the same for no two tables of the corpus."""
        folder = folder_of(source)[len(self.root) :].strip("/")
        is_relative = isinstance(path, str) and path and "://" not in path and not path.startswith("/")
        return f"{folder}/{path}" if folder and is_relative else path

    def survey(self, part: Part) -> Survey:
        """From the table alone, unless ids are made of the content."""
        if self.reading.identity == "content":
            return survey_of_pairs(self.read(part))
        return survey_of_rows((row for _, row in self.rows(part)), self.reading)

    def read(self, part: Part) -> Iterator[Pair | Reject]:
        """Fetches each row's image."""
        return pairs_of(self.rows(part), lambda row: self.image_of(row, part.source), self.reading, part.source)

    def image_of(self, row: Row, source: str) -> bytes | str | None:
        """A row's image, None where it names none, or the reason why it cannot be read."""
        path = row.get(self.reading.columns["image_path"])
        return fetch(resolve(source, str(path))) if path else None

    def located(self, part: Part) -> Iterator[tuple[str, int]]:
        """Positions are rows of the table."""
        if self.reading.identity == "content":
            return ((pair.id, pair.row) for pair in self.read(part) if isinstance(pair, Pair))
        named = ((identity(row, self.reading.columns), number) for number, row in self.rows(part))
        return ((name, number) for name, number in named if name)

    def image(self, part: Part, position: int) -> bytes | None:
        """Reads the image's file alone."""
        found = self.tables[part.source].rows(position, position + 1, part.version)
        image = next((self.image_of(row, part.source) for _, row in found), None)
        return image if isinstance(image, bytes) and image else None


def folder_of(uri: str) -> str:
    """Where a table lies."""
    return uri.partition("::")[0].rpartition("/")[0]


def common_folder(folders: Sequence[str]) -> str:
    """The innermost folder that several lie in."""
    levels = zip(*(folder.split("/") for folder in folders), strict=False)
    return "/".join(level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
