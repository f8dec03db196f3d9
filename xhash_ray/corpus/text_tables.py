"""CSV, TSV and JSON Lines: a table's columns, and its rows as dictionaries, a few at a time."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from xhash_ray.corpus.records import Records, find_records, head_of
from xhash_ray.errors import BadInput

# Fields of separated values are cut at one of these; None for JSON Lines, whose lines are objects.
DELIMITERS: dict[str, str | None] = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".ndjson": None}


class TextTable:
    """One table.

    Attributes:
        uri: Where it is.
        names: Its columns; of JSON Lines those of the first line. Empty for an empty table.

    Raises:
        BadInput: when it cannot be read.
    """

    def __init__(self, uri: str, suffix: str) -> None:
        self.uri, self.delimiter = uri, DELIMITERS[suffix]
        self.records: Records | None = None
        with readable(uri):
            self.names = self.names_in(head_of(uri, self.delimiter))

    def names_in(self, head: str) -> list[str]:
        """The columns by the table's beginning."""
        if self.delimiter is None:
            first = next((line for line in head.split("\n") if line.strip()), None)
            return [] if first is None else list(to_row(first))
        return next((row for row in csv.reader(io.StringIO(head), delimiter=self.delimiter) if row), [])

    def found(self, version: str) -> Records:
        """Where the records lie: the table is gone through once for each version of its content."""
        if self.records is None or self.records.version != version:
            self.records = find_records(self.uri, version, self.delimiter)
        return self.records

    @property
    def heads(self) -> int:
        """Records before the first row."""
        return 0 if self.delimiter is None else 1

    def count(self, version: str) -> int:
        """Rows of the table."""
        return max(0, self.found(version).count - self.heads)

    def rows(self, start: int, stop: int, version: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows start .. stop - 1 with their numbers.

        Raises:
            BadInput: when some cannot be read, or the table has changed meanwhile.
        """
        wanted = range(start + self.heads, stop + self.heads)
        for first, last, content in self.found(version).blocks(wanted.start, wanted.stop):
            with readable(self.uri):
                rows = self.parsed(content.decode("utf-8"))
            if len(rows) != last - first:
                found = f"{len(rows)} records where there were {last - first}"
                raise BadInput(f"corpus table {self.uri}", found, "It was changed meanwhile: begin anew")
            for number, row in enumerate(rows, first):
                if number in wanted:
                    yield number - self.heads, row

    def parsed(self, text: str) -> list[dict[str, Any]]:
        """Whole records as rows: cells beyond the head are left out, those that are missing are None."""
        if self.delimiter is None:
            return [to_row(line) for line in text.split("\n") if line.strip(" \t\r")]
        cells = csv.reader(io.StringIO(text), delimiter=self.delimiter)
        return [to_cells(self.names, row) for row in cells if row]


def to_cells(names: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    """A row of separated values."""
    return dict(zip(names, [*cells, *[None] * (len(names) - len(cells))], strict=False))


def to_row(line: str) -> dict[str, Any]:
    """A JSON line as a row, or ValueError when it is no object."""
    value = from_json(line)
    if not isinstance(value, dict):
        raise ValueError(f"a line holds {value!r:.40}, not an object")
    return value


def from_json(text: str) -> Any:
    """A JSON value; halves of UTF-16 pairs, which JSON can hold and text cannot, become question marks."""
    value = json.loads(text)
    if "\\ud" in text.lower():
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


@contextlib.contextmanager
def readable(uri: str) -> Iterator[None]:
    """Turns text that is not what its suffix says into a BadInput that names the table."""
    try:
        yield
    except (ValueError, csv.Error) as error:
        remedy = "Save it as UTF-8 CSV, TSV or JSON Lines"
        raise BadInput(f"corpus table {uri}", f"not readable: {error}", remedy) from None
