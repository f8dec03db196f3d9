"""A corpus in memory, for tests that need no files."""

from collections.abc import Iterator

import pyarrow as pa

from xhash_ray.corpus.pairs import Pair, Reading, Reject, column_map
from xhash_ray.corpus.sources import Part, Survey
from xhash_ray.errors import Unreachable


class InMemory:
    """Parts of rows; `fails` says after which row of which reading the store breaks off."""

    def __init__(self, *parts: list[Pair | Reject], fails: dict[int, int] | None = None) -> None:
        self.uri, self.reading, self.rows = "memory", Reading(column_map({})), parts
        self.fails, self.readings = dict(fails or {}), 0

    def parts(self, rows: int) -> list[Part]:
        return [Part(n, f"file-{n}", f"v{n}", (0,), 0, len(each)) for n, each in enumerate(self.rows)]

    def survey(self, part: Part) -> Survey:
        rows = self.rows[part.number]
        labels = {label for row in rows if isinstance(row, Pair) for label in row.labels}
        return Survey([row.id for row in rows], labels, pa.schema([("split", pa.string())]))

    def read(self, part: Part) -> Iterator[Pair | Reject]:
        self.readings += 1
        breaks = self.fails.get(self.readings)
        for number, row in enumerate(self.rows[part.number]):
            if number == breaks:
                raise Unreachable("reading", "connection reset", "Try again")
            yield row


def pair(name: str, row: int = 0, labels: tuple[str, ...] = ()) -> Pair:
    return Pair(name, f"image {name}".encode(), (f"caption {name}",), labels, {"split": "train"}, row)


def reject(name: str, row: int = 0) -> Reject:
    return Reject(name, "file-0", row, "read", "missing text", "text is missing or empty")
