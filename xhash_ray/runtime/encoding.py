"""Encoding on Ray Data: row groups of feature files become part files of codes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.data import TaskPoolStrategy

from xhash_ray.corpus.units import Unit, plan_units
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.methods.artefacts import to_method
from xhash_ray.methods.base import Method
from xhash_ray.options import Encode
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import read_artefact, require_lengths
from xhash_ray.storage.codes import from_array
from xhash_ray.storage.features import open_features, to_features


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
        dataset = ray.data.from_items([asdict(unit) for unit in units], override_num_blocks=len(units))
        dataset = dataset.map_batches(
            functools.partial(encode_unit, model_uri=model_uri, fingerprint=facts["fingerprint"], claimed=claimed),
            batch_size=1,
            batch_format="pyarrow",
            compute=TaskPoolStrategy(size=min(len(units), cluster.physical_cores())),
        )
        written = []
        for row in dataset.iter_rows():
            written.append(tables.FileFacts(**row))
            progress.add(written[-1].rows)
    return finish(claimed.uri, written, facts, features.classes, features.tables.total_rows, progress)


@functools.lru_cache(maxsize=1)
def method_of(model_uri: str, fingerprint: str) -> Method:
    """A process' copy of the model, checked to be the one the driver saw."""
    torch.set_num_threads(1)  # as many tasks as cores run beside each other
    artefact = read_artefact(model_uri)
    if artefact.fingerprint != fingerprint:
        raise XhashError(f"model {fingerprint[:12]}", f"{model_uri} holds another one now", "Encode again")
    return to_method(artefact)


def encode_unit(batch: pa.Table, model_uri: str, fingerprint: str, claimed: writing.Claim) -> pa.Table:
    """Encodes one unit into one part file; the row that comes back describes it."""
    unit = Unit(**batch.to_pylist()[0])
    table = next(tables.iter_row_groups(unit.source, [unit.group])).slice(unit.start, (unit.stop or 0) - unit.start)
    coded = encode_table(table, method_of(model_uri, fingerprint), unit.source)
    return pa.Table.from_pylist([vars(tables.write_table(claimed.part(unit.number), coded))])


def encode_table(table: pa.Table, method: Method, source: str) -> pa.Table:
    """A feature table as a code table: labels and metadata travel along."""
    features = to_features(table, source)
    columns: dict[str, Any] = {"id": table["id"]}
    for name in ("image", "text"):
        columns[f"{name}_code"] = from_array(method.encode(name, torch.from_numpy(getattr(features, name))))
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
