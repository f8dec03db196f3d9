"""From features to codes: units that span files, so that many small parts become few large ones."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from xhash_ray.errors import BadInput, Mismatch, XhashError
from xhash_ray.methods.artefacts import to_method
from xhash_ray.methods.base import Method
from xhash_ray.pipeline.watching import UnitDone
from xhash_ray.storage import tables
from xhash_ray.storage.artefact import read_artefact
from xhash_ray.storage.codes import from_array
from xhash_ray.storage.features import MODALITIES, check_finite, from_matrix, to_half, to_matrix
from xhash_ray.storage.retrying import patiently
from xhash_ray.storage.unit_log import UnitFacts, UnitLog

ROWS_PER_UNIT = 100_000
SLICE_ROWS = 8_192  # encoded at once: what lies between two layers stays in the cache


@dataclass(frozen=True)
class Piece:
    """Some rows of a row group."""

    source: str
    group: int
    start: int
    stop: int


@dataclass(frozen=True)
class CodeUnit:
    """Rows that are encoded, written and committed together.

    Attributes:
        number: Position among all units of the run.
        pieces: Where its rows lie, in order.
    """

    number: int
    pieces: tuple[Piece, ...]

    @property
    def pairs(self) -> int:
        """Rows of the input that it covers."""
        return sum(piece.stop - piece.start for piece in self.pieces)


@dataclass(frozen=True)
class CodePlan:
    """What an encoding run does: its settings, the version of every file it reads, its units."""

    identity: dict[str, Any]
    files: dict[str, str]
    units: tuple[CodeUnit, ...]

    @property
    def pairs(self) -> int:
        """Rows of the input."""
        return sum(unit.pairs for unit in self.units)

    def as_json(self) -> dict[str, Any]:
        """Plain values, as stored."""
        units = [[unit.number, [list(asdict(piece).values()) for piece in unit.pieces]] for unit in self.units]
        return {"identity": self.identity, "pairs": self.pairs, "files": self.files, "units": units}


def plan_from_json(value: Mapping[str, Any]) -> CodePlan:
    """A plan as it was stored."""
    units = tuple(CodeUnit(number, tuple(Piece(*piece) for piece in pieces)) for number, pieces in value["units"])
    return CodePlan(value["identity"], value["files"], units)


def joined(plans: Sequence[CodePlan]) -> CodePlan:
    """The plans of a run as one."""
    files = {name: version for plan in plans for name, version in plan.files.items()}
    return CodePlan(plans[0].identity, files, tuple(unit for plan in plans for unit in plan.units))


def plan_codes(groups: Iterable[tuple[str, int, int]], rows_per_unit: int, first: int = 0) -> list[CodeUnit]:
    """Gathers row groups, in order, into units of exactly rows_per_unit rows (the last may have fewer).

    Args:
        groups: (file, group, rows) of each.
        rows_per_unit: At least 1.
        first: Number of the first unit.
    """
    units, pieces, room = list[CodeUnit](), list[Piece](), rows_per_unit
    for source, group, rows in groups:
        start = 0
        while start < rows:
            stop = min(rows, start + room)
            pieces.append(Piece(source, group, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                units.append(CodeUnit(first + len(units), tuple(pieces)))
                pieces, room = [], rows_per_unit
    return [*units, CodeUnit(first + len(units), tuple(pieces))] if pieces else units


def compare(plan: CodePlan, now: Mapping[str, str], features: str) -> list[str]:
    """Files that a plan does not know, in their order.

    Raises:
        Mismatch: when a file that it reads has changed, or is gone.
    """
    for source, version in plan.files.items():
        if now.get(source) != version:
            state = "is gone" if source not in now else "has changed"
            remedy = "Put it back, or give --overwrite to begin anew"
            raise Mismatch(f"going on with {features}", f"{source} {state} since the run was begun", remedy)
    return [source for source in now if source not in plan.files]


@functools.lru_cache(maxsize=1)
def method_of(model_uri: str, fingerprint: str) -> Method:
    """A process' copy of the model, checked to be the one the driver saw."""
    artefact = patiently(lambda: read_artefact(model_uri))
    if artefact.fingerprint != fingerprint:
        raise XhashError(f"model {fingerprint[:12]}", f"{model_uri} holds another one now", "Encode again")
    return to_method(artefact)


def read_unit(unit: CodeUnit) -> pa.Table:
    """The rows of a unit."""
    found = []
    for piece in unit.pieces:
        group = next(tables.iter_row_groups(piece.source, [piece.group]))
        found.append(group.slice(piece.start, piece.stop - piece.start))
    return pa.concat_tables(found)


def encode_unit(unit: CodeUnit, method: Callable[[], Method], log: UnitLog, keep: bool) -> tuple[UnitFacts, UnitDone]:
    """Encodes one unit, writes and commits it.

    Args:
        unit: The unit.
        method: Gives the model.
        log: Where to.
        keep: Whether features are stored too.
    """
    began_s = time.perf_counter()
    table = patiently(lambda: read_unit(unit))
    read_s = time.perf_counter()
    coded = encode_table(table, method(), unit.pieces[0].source, keep)
    encoded_s = time.perf_counter()
    part = log.write_part(unit.number, coded)
    facts = log.commit(UnitFacts(unit.number, unit.pairs, part))
    seconds = {"read": read_s - began_s, "encode": encoded_s - read_s, "write": time.perf_counter() - encoded_s}
    written = facts.part.size_bytes if facts.part else 0
    return facts, UnitDone(unit.number, facts.rows, unit.pairs, {}, table.nbytes, written, seconds)


def encode_table(table: pa.Table, method: Method, source: str, keep_features: bool = False) -> pa.Table:
    """A feature table as a code table: labels and metadata travel along, features as float16 where asked for."""
    columns: dict[str, Any] = {"id": table["id"]}
    for name in MODALITIES:
        if name in table.column_names:
            columns[f"{name}_code"] = from_array(encode_column(table, name, method, source))
            if keep_features:
                columns[f"{name}_feature"] = halves(table[name], source)
    kept = [name for name in table.column_names if name not in {"id", *MODALITIES}]
    return pa.table({**columns, **{name: table[name] for name in kept}})


def encode_column(table: pa.Table, name: str, method: Method, source: str) -> np.ndarray:
    """Codes of one modality, uint8 [n, bits / 8], in slices that leave memory small."""
    found = []
    for start in range(0, table.num_rows, SLICE_ROWS):
        rows = table.slice(start, SLICE_ROWS)
        features = to_matrix(rows[name])
        check_finite(features, rows["id"], name, source)
        found.append(method.encode(name, torch.from_numpy(features)))
    if not found:
        raise BadInput(f"features at {source}", "no rows", "Name features that hold pairs")
    return np.concatenate(found)


def halves(column: pa.ChunkedArray, source: str) -> pa.ChunkedArray:
    """Features as float16; as they are where they are that already."""
    if pa.types.is_float16(column.type.value_type):
        return column
    return pa.chunked_array([from_matrix(to_half(to_matrix(column), source))])
