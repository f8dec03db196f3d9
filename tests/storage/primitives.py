"""Everything that storage does to a store, each with a folder of its own and the answer that is right.

A folder `f` holds `f/there` (CONTENT) and `f/table.parquet` (TABLE); what is written goes below `f/new`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xhash_ray.storage import streams, tables
from xhash_ray.storage import uri as places

CONTENT = np.random.default_rng(0).bytes(200_000)
WRITTEN = np.random.default_rng(1).bytes(150_000)
TABLE = pa.table({"x": np.arange(50_000)})
LISTED = ("table.parquet", "there")


def fill(folder: str) -> None:
    """Puts there what is read."""
    places.write_bytes(places.join(folder, "there"), CONTENT)
    tables.write_table(places.join(folder, "table.parquet"), TABLE)


def fetch(folder: str) -> bytes:
    """`streams.fetch`."""
    with tempfile.TemporaryDirectory() as here:
        streams.fetch(places.join(folder, "there"), f"{here}/copy")
        return Path(here, "copy").read_bytes()


def stream(folder: str) -> None:
    """`streams.written`, in two pieces."""
    with streams.written(places.join(folder, "new")) as file:
        file.write(WRITTEN[:100_000])
        file.write(WRITTEN[100_000:])


def listed(folder: str) -> list[str]:
    """`list_files`, names alone."""
    return [places.name_of(name) for name in places.list_files(folder, ("",))]


def there(folder: str) -> str:
    """The object that is read."""
    return places.join(folder, "there")


READS: dict[str, tuple[Callable[[str], Any], Any]] = {
    "read_bytes": (lambda folder: places.read_bytes(there(folder)), CONTENT),
    "fetch": (fetch, CONTENT),
    "read_file": (lambda folder: tables.read_file(f"{folder}/table.parquet"), TABLE),
    "list_files": (listed, list(LISTED)),
    "exists": (lambda folder: places.exists(there(folder)), True),
}
WRITES: dict[str, tuple[Callable[[str], Any], Any]] = {
    "write_bytes": (lambda folder: places.write_bytes(f"{folder}/new", WRITTEN), None),
    "create_bytes": (lambda folder: places.create_bytes(f"{folder}/new", WRITTEN, writer=folder), True),
    "streams.written": (stream, None),
}
DELETES: dict[str, tuple[Callable[[str], Any], Any]] = {
    "delete": (lambda folder: places.delete(folder, ["there", "not-there"]), None),
}
ALL = READS | WRITES | DELETES


def left(folder: str) -> dict[str, bytes]:
    """What is there in the end, by name."""
    if not places.exists(folder):
        return {}
    names = [places.name_of(name) for name in places.list_files(folder, ("",))]
    return {name: places.read_bytes(places.join(folder, name)) for name in names if name != "table.parquet"}
