"""The table that img2dataset leaves beside each tar: 00000.parquet and 00000_stats.json beside 00000.tar.

The tar is the truth. The table's rows of status "success" are its samples in order, so that ids and columns can be had
without going through the tar; but tables outlive tars that are made anew, so a table is trusted only where it agrees
with the tar's two ends and the run's statistics, and is held against every sample when the tar is read.

Source: img2dataset/writer.py, whose WebDatasetSampleWriter writes a sample and its row together; downloader.py for the
columns and the statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xhash_ray.corpus.pairs import Reading, as_labels
from xhash_ray.corpus.parquet import SUCCESS
from xhash_ray.corpus.sources import Survey
from xhash_ray.corpus.tars import IMAGE_SUFFIXES, Sample, first_sample, last_key
from xhash_ray.errors import BadInput
from xhash_ray.storage import uri as places

KEY, STATUS = "key", "status"
MEMBERS = {*IMAGE_SUFFIXES, "txt", "json"}  # what its samples consist of


class Sidecar(NamedTuple):
    """A tar's table.

    Attributes:
        uri: Where it is.
        keys: Of the tar's samples, in order.
        table: Their ids and labels, where it has them.
        schema: All its columns.
    """

    uri: str
    keys: list[str]
    table: pa.Table
    schema: pa.Schema


def trusted(tar: str, uri: str, reading: Reading) -> Sidecar | None:
    """A tar's table, None where it is of another kind or does not agree with the tar.

    Args:
        tar: URI of the tar.
        uri: URI of the table.
        reading: Which columns count.
    """
    try:
        sidecar = read_sidecar(uri, reading)
    except (BadInput, pa.ArrowInvalid):  # such as that of a run that died
        return None
    if sidecar is None or not sidecar.keys or len(set(sidecar.keys)) < len(sidecar.keys):
        return None
    first = first_sample(tar)
    if first is None or first.key != sidecar.keys[0] or not set(first.members) <= MEMBERS:
        return None
    agrees = last_key(tar) == sidecar.keys[-1] and successes(uri) in {None, len(sidecar.keys)}
    return sidecar if agrees else None


def read_sidecar(uri: str, reading: Reading) -> Sidecar | None:
    """What a table says of downloaded samples; None for another kind of table."""
    filesystem, path = places.arrow_filesystem(uri)
    with places.said_clearly(uri), pq.ParquetFile(path, filesystem=filesystem) as file:
        schema = file.schema_arrow
        if not {KEY, STATUS} <= set(schema.names):
            return None
        wanted = {KEY, STATUS, reading.columns["id"], reading.columns["labels"]}
        table = file.read(columns=[name for name in schema.names if name in wanted])
    table = table.filter(pc.equal(table[STATUS], SUCCESS))
    return Sidecar(uri, [str(key) for key in table[KEY].to_pylist()], table, schema)


def successes(uri: str) -> int | None:
    """How many samples the run's statistics count, None without them."""
    stats = uri.removesuffix(".parquet") + "_stats.json"
    if not places.exists(stats):
        return None
    found = places.read_json(stats).get("successes")
    return found if isinstance(found, int) else None


def survey(sidecar: Sidecar, reading: Reading) -> Survey:
    """What a trusted table tells. Columns whose form in the tar's JSON may be of another type are text."""
    names, columns = set(sidecar.schema.names), reading.columns
    ids = sidecar.table[columns["id"] if columns["id"] in names else KEY].to_pylist()
    labels: set[str] = set()
    if columns["labels"] in names:
        labels = {label for value in sidecar.table[columns["labels"]].to_pylist() for label in as_labels(value)}
    taken = set(columns.values())
    metadata = [pa.field(entry.name, plain(entry.type)) for entry in sidecar.schema if entry.name not in taken]
    return Survey(["" if name is None else str(name) for name in ids], labels, pa.schema(metadata))


def plain(kind: pa.DataType) -> pa.DataType:
    """A type as JSON brings it: numbers and truth values as they are, everything else as text."""
    is_plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return kind if is_plain else pa.string()


def checked(found: Iterator[Sample], sidecar: Sidecar, tar: str) -> Iterator[Sample]:
    """A tar's samples, each held against its table.

    Raises:
        BadInput: at the first that differs.
    """
    count = 0
    for sample in found:
        if count == len(sidecar.keys) or sample.key != sidecar.keys[count]:
            refuse(tar, sidecar, count, f"is {sample.key}")
        count += 1
        yield sample
    if count < len(sidecar.keys):
        refuse(tar, sidecar, count, "is missing")


def refuse(tar: str, sidecar: Sidecar, number: int, here: str) -> None:
    """Raises the error about a table of another tar."""
    there = f"is {sidecar.keys[number]}" if number < len(sidecar.keys) else "is missing"
    found = f"its sample {number} {here}, in {sidecar.uri} it {there}"
    raise BadInput(f"corpus tar {tar}", found, "Take the table away, or name the tars alone: folder/{00000..00010}.tar")
