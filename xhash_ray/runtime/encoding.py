"""Encoding on Ray Data: row groups of feature files become part files of codes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import torch

from xhash_ray.corpus.units import Unit, plan_units
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.methods.artefacts import to_method
from xhash_ray.methods.base import Method
from xhash_ray.options import Encode
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.units import each_unit
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import read_artefact, require_lengths
from xhash_ray.storage.codes import from_array
from xhash_ray.storage.features import from_matrix, open_features, to_features, to_half


def encode(options: Encode) -> dict[str, Any]:
    """Turns features into codes.

    Returns:
        `pairs`, `bits`, `out`, `files`, `size_bytes`, `seconds`, `pairs_per_s`, `model_fingerprint`.

    Raises:
        Mismatch: when the features are not of the lengths the model was trained on.
        BadInput: for features or a model that cannot be read.
    """
    claimed = writing.claim(options.out, "codes", options.overwrite)
    features = open_features(places.normalise(options.features))
    model_uri = places.normalise(options.model)
    facts = read_artefact(model_uri).facts
    require_lengths(facts, features.image_length, features.text_length, options.features)
    units = plan_units(tables.row_groups(features.tables), options.rows_per_unit)
    if not units:
        raise BadInput(f"features at {options.features}", "no rows", "Name features that hold pairs")
    progress = Progress("encode", features.tables.total_rows)
    with cluster.connected():
        writing.begin(claimed)
        task = functools.partial(
            encode_unit,
            model_uri=model_uri,
            fingerprint=facts["fingerprint"],
            claimed=claimed,
            keep_features=options.keep_features,
        )
        written = []
        for file in each_unit(units, task):
            written.append(file)
            progress.add(file.rows)
    return finish(claimed.uri, written, facts, features.classes, features.tables.total_rows, progress)


@functools.lru_cache(maxsize=1)
def method_of(model_uri: str, fingerprint: str) -> Method:
    """A process' copy of the model, checked to be the one the driver saw."""
    torch.set_num_threads(1)  # as many tasks as cores run beside each other
    artefact = read_artefact(model_uri)
    if artefact.fingerprint != fingerprint:
        raise XhashError(f"model {fingerprint[:12]}", f"{model_uri} holds another one now", "Encode again")
    return to_method(artefact)


def encode_unit(
    unit: Unit, model_uri: str, fingerprint: str, claimed: writing.Claim, keep_features: bool
) -> tables.FileFacts:
    """Encodes one unit into one part file."""
    table = next(tables.iter_row_groups(unit.source, [unit.group])).slice(unit.start, (unit.stop or 0) - unit.start)
    coded = encode_table(table, method_of(model_uri, fingerprint), unit.source, keep_features)
    return tables.write_table(claimed.part(unit.number), coded)


def encode_table(table: pa.Table, method: Method, source: str, keep_features: bool = False) -> pa.Table:
    """A feature table as a code table: labels and metadata travel along, features as float16 where asked for."""
    features = to_features(table, source)
    columns: dict[str, Any] = {"id": table["id"]}
    for name in ("image", "text"):
        columns[f"{name}_code"] = from_array(method.encode(name, torch.from_numpy(getattr(features, name))))
        if keep_features:
            columns[f"{name}_feature"] = from_matrix(to_half(getattr(features, name), source))
    kept = [name for name in table.column_names if name not in {"id", "image", "text"}]
    return pa.table({**columns, **{name: table[name] for name in kept}})


def finish(
    out: str,
    written: list[tables.FileFacts],
    facts: Mapping[str, Any],
    classes: tuple[str, ...],
    expected: int,
    progress: Progress,
) -> dict[str, Any]:
    """Checks that no pair is missing, commits, and sums up."""
    pairs = sum(entry.rows for entry in written)
    if pairs != expected:
        raise XhashError(
            f"encoding {expected:,} pairs", f"{pairs:,} were written", "Run again; if it repeats, report it"
        )
    files = sorted(written, key=lambda entry: entry.name)
    kept = {"bits": facts["bits"], "method": facts["method"], "model_fingerprint": facts["fingerprint"]}
    writing.commit(out, files, {"kind": "codes", **kept, "bit_order": "little", "classes": classes})
    progress.finish(pairs, out)
    return {
        "out": out,
        "pairs": pairs,
        "files": len(files),
        "size_bytes": sum(entry.size_bytes for entry in files),
        "seconds": round(progress.seconds, 2),
        "pairs_per_s": round(pairs / progress.seconds, 1),
        **kept,
    }
