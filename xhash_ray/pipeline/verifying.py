"""Nothing lost, nothing twice: files as they were written, and a join of ids between an input and what was made of it.

Rows of the input are pairs that were written or rejects that were put aside; every pair stands in the result once, and
the result holds nothing else. Ids are compared by 128 bits of their hash (`identities`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xhash_ray.errors import BadInput
from xhash_ray.pipeline import identities
from xhash_ray.pipeline.caption_policy import pair_id
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.retrying import patiently


@dataclass(frozen=True)
class Asked:
    """A file to look at.

    Attributes:
        uri: The file.
        rows: It was written with, None where nobody wrote that down.
        sha256: Likewise; None also where bytes are not to be compared.
        by_caption: Whether ids are those of captions, ID#0, ID#1, ...
    """

    uri: str
    rows: int | None
    sha256: str | None
    by_caption: bool = False


@dataclass(frozen=True)
class Seen:
    """What a file holds.

    Attributes:
        uri: The file.
        rows: Digests of its rows' ids, uint64 [rows, 2].
        pairs: Digests of its pairs' ids: the same, but one for all captions of a pair.
        problem: What is wrong with the file, None where nothing is.
    """

    uri: str
    rows: np.ndarray
    pairs: np.ndarray
    problem: str | None = None


@dataclass(frozen=True)
class Ids:
    """All ids of one stage's result, or of its input.

    Attributes:
        name: For people: "corpus", "features", "rejects", "codes".
        uris: Files in order.
        digests: One array per file, uint64 [n, 2].
    """

    name: str
    uris: list[str]
    digests: list[np.ndarray]

    @property
    def everything(self) -> np.ndarray:
        """Digests of all files, uint64 [n, 2]."""
        return np.concatenate([np.empty((0, identities.WIDTH), np.uint64), *self.digests])

    def where(self, position: int) -> tuple[str, int]:
        """File and row of a position in `everything`."""
        starts = np.cumsum([0, *map(len, self.digests)])
        owner = int(np.searchsorted(starts, position, side="right")) - 1
        return self.uris[owner], position - int(starts[owner])


@dataclass
class Findings:
    """Sentences about what is wrong, and how many ids were compared."""

    problems: list[str] = field(default_factory=list)
    compared: int = 0


def look(asked: Asked) -> Seen:
    """Reads a file once: its checksum, its rows, its ids."""
    try:
        content = patiently(lambda: places.read_bytes(asked.uri))
        found = pq.read_table(pa.BufferReader(content), columns=["id"])["id"].to_pylist()
    except (BadInput, pa.ArrowException, OSError) as error:  # Arrow says OSError of damaged pages
        empty = np.empty((0, identities.WIDTH), np.uint64)
        return Seen(asked.uri, empty, empty, f"{asked.uri} cannot be read: {error!s:.200}")
    names = ["" if name is None else str(name) for name in found]
    rows = identities.digests(names)
    pairs = identities.digests(list(dict.fromkeys(map(pair_id, names)))) if asked.by_caption else rows
    return Seen(asked.uri, rows, pairs, wrong_with(asked, content, len(names)))


def wrong_with(asked: Asked, content: bytes, rows: int) -> str | None:
    """What a file's bytes and rows say, against what was written down."""
    if asked.sha256 and hashlib.sha256(content).hexdigest() != asked.sha256:
        return f"{asked.uri} is not what was written: its SHA-256 is another"
    if asked.rows is not None and rows != asked.rows:
        return f"{asked.uri} has {rows:,} rows, {asked.rows:,} were written"
    return None


def files_of(found: tables.TableSet, checksums: bool, by_caption: bool) -> list[Asked]:
    """The files of a set, with what its manifest says of them."""
    known = {entry["name"]: entry for entry in found.facts.get("files", ())}
    asked = []
    for uri, rows in zip(found.files, found.rows, strict=True):
        entry = known.get(places.name_of(uri), {})
        asked.append(Asked(uri, rows, entry.get("sha256") if checksums else None, by_caption))
    return asked


def join(before: Ids, after: Ids, rejects: Ids | None, findings: Findings) -> None:
    """Adds what is wrong between an input and its result.

    Args:
        before: Ids of the input; rows without one are zeros.
        after: Ids of the result.
        rejects: Those of rows that were put aside, None where none can be.
        findings: Is added to.
    """
    inputs, outputs = before.everything, after.everything
    aside = rejects.everything if rejects else np.empty((0, identities.WIDTH), np.uint64)
    findings.compared += len(inputs)
    named = inputs[identities.is_known(inputs)]
    known = np.concatenate([outputs, aside])
    add(findings, before, identities.without(named, known), f"missing in {after.name}", identities.is_known(inputs))
    add(findings, after, identities.without(outputs, inputs), f"not in {before.name}")
    accounted = len(outputs) + len(aside)
    if accounted != len(inputs):
        told = f"{len(outputs):,} pairs in {after.name} and {len(aside):,} rejects are {accounted:,} rows"
        findings.problems.append(f"{told}, {before.name} has {len(inputs):,}")


def unique(ids: Ids, findings: Findings) -> None:
    """Adds ids that occur twice, and rows without one."""
    everything = ids.everything
    add(findings, ids, identities.repeated(everything), f"more than once in {ids.name}")
    add(findings, ids, np.flatnonzero(~identities.is_known(everything)), f"without an id in {ids.name}")


def add(findings: Findings, ids: Ids, positions: np.ndarray, how: str, among: np.ndarray | None = None) -> None:
    """Adds a sentence about some positions; those of a selection are counted within it."""
    if not len(positions):
        return
    first = int(np.flatnonzero(among)[positions[0]]) if among is not None else int(positions[0])
    uri, row = ids.where(first)
    findings.problems.append(f"{len(positions):,} ids are {how}, the first in {uri}, row {row:,}")


def gathered(name: str, seen: Sequence[Seen], by_row: bool, findings: Findings) -> Ids:
    """The ids of all files of a set; what is wrong with a file is added to the findings."""
    findings.problems += problems(seen)
    return Ids(name, [each.uri for each in seen], [each.rows if by_row else each.pairs for each in seen])


def problems(seen: Sequence[Seen]) -> Iterator[str]:
    """What is wrong with files."""
    return (each.problem for each in seen if each.problem)


def made_from(uri: str) -> dict[str, Any]:
    """What a result was made from: {"corpus": URI} or {"features": URI}; {} where it does not say."""
    return dict((tables.read_manifest(uri) or {}).get("made_from", {}))
