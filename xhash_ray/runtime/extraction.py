"""Extraction on Ray Data: units are read, decoded and tokenised by tasks, embedded by actors that hold the model,
and written by tasks, one part file per unit. The driver sees counts only.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from xhash_ray.corpus.pairs import Pair, Reject
from xhash_ray.corpus.sources import Source, open_corpus
from xhash_ray.corpus.units import Unit
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.features.batches import embed, prepare
from xhash_ray.features.clip import ClipEncoder, EncoderFacts, Preprocessor
from xhash_ray.options import Extract
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.corpus import CorpusFacts, survey
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.features import from_matrix

MAX_CPU_ACTORS = 4


def extract(options: Extract) -> dict[str, Any]:
    """Turns a corpus into features.

    Returns:
        `pairs`, `rejected`, `out`, `files`, `size_bytes`, `seconds`, `pairs_per_s`, `encoder`.

    Raises:
        BadInput: for a corpus, model or option that cannot be used; before anything is computed.
        XhashError: when more than `max_rejects` of the pairs are unusable.
    """
    claimed = writing.claim(options.out, "features", options.overwrite)
    source = open_corpus(places.normalise(options.corpus), options.columns)
    units = source.plan(options.rows_per_unit)
    encoder = ClipEncoder(options.model, options.pretrained).facts
    with cluster.connected():
        facts = survey(source, units)
        progress = Progress("extract", facts.pairs)
        progress.say(f"{facts.pairs:,} pairs in {len(units)} units, {encoder.model} {encoder.weights_sha256[:12]}")
        writing.begin(claimed)
        written = list(watched(pipeline(source, units, encoder, facts, claimed, options), progress))
    return finish(claimed, written, facts, encoder, options, progress)


def pipeline(
    source: Source,
    units: list[Unit],
    encoder: EncoderFacts,
    facts: CorpusFacts,
    claimed: writing.Claim,
    options: Extract,
) -> Dataset:
    """The stages as a lazy Ray Dataset whose rows describe written files."""
    actors = min(options.actors or default_actors(), len(units))
    on_gpu = cluster.gpus() > 0
    dataset = ray.data.from_items([asdict(unit) for unit in units], override_num_blocks=len(units))
    dataset = dataset.map_batches(
        functools.partial(prepare_unit, source=source, encoder=encoder, facts=facts, options=options, claimed=claimed),
        batch_size=1,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=min(len(units), cluster.cores())),
    )
    dataset = dataset.map_batches(
        Embedder,
        fn_constructor_args=(encoder, options, on_gpu, cluster.threads_for(actors)),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=actors),
        num_cpus=1,
        num_gpus=1 if on_gpu else None,
    )
    return dataset.map_batches(
        functools.partial(write_part, claimed=claimed),
        batch_size=None,
        batch_format="pyarrow",
        compute=TaskPoolStrategy(size=1),
    )


def default_actors() -> int:
    """One actor per GPU; without GPUs one per core, up to four."""
    return cluster.gpus() or min(MAX_CPU_ACTORS, cluster.physical_cores())


@functools.lru_cache(maxsize=2)
def preprocessor_for(facts_json: str) -> Preprocessor:
    """A process' preprocessor: its tokenizer takes a while to build, tasks are many."""
    return Preprocessor(EncoderFacts(**json.loads(facts_json)))


def prepare_unit(
    batch: pa.Table, source: Source, encoder: EncoderFacts, facts: CorpusFacts, options: Extract, claimed: writing.Claim
) -> pa.Table:
    """Reads one unit and makes its pairs ready for the model; unusable rows go to the unit's reject file."""
    unit = Unit(**batch.to_pylist()[0])
    rows = list(source.read(unit))
    pairs = [row for row in rows if isinstance(row, Pair)]
    rejects = [row for row in rows if isinstance(row, Reject)]
    texts = [pair.texts[:1] if options.captions == "first" else pair.texts for pair in pairs]
    ready = prepare([pair.image for pair in pairs], texts, preprocessor_for(json.dumps(encoder.as_json())))
    rejects += [Reject(pairs[i].id, unit.source, why) for i, why in sorted(ready.errors.items())]
    if rejects:
        place = places.join(claimed.rejects, f"unit-{unit.number:06d}.parquet")
        tables.write_table(place, pa.Table.from_pylist([asdict(reject) for reject in rejects]))
    bounds = np.cumsum([0, *ready.captions])
    tokens = [ready.tokens[start:stop].tobytes() for start, stop in itertools.pairwise(bounds)]
    return pa.table(
        {
            "unit": pa.array([unit.number] * len(ready.kept), pa.int64()),
            "pixels": pa.array([image.tobytes() for image in ready.pixels], pa.large_binary()),
            "tokens": pa.array(tokens, pa.large_binary()),
            **pair_columns([pairs[i] for i in ready.kept], facts),
        }
    )


def pair_columns(pairs: list[Pair], facts: CorpusFacts) -> dict[str, pa.Array]:
    """What travels along with the features: id, labels as numbers, the first caption, metadata."""
    columns = {"id": pa.array([pair.id for pair in pairs], pa.string())}
    if facts.classes:
        number = {name: i for i, name in enumerate(facts.classes)}
        labels = [[number[name] for name in pair.labels] for pair in pairs]
        columns["labels"] = pa.array(labels, pa.list_(pa.int32()))
    columns["caption"] = pa.array([pair.texts[0] for pair in pairs], pa.string())
    for entry in facts.metadata:
        if entry.name not in {"id", "image", "text", "labels", "caption", "unit", "pixels", "tokens"}:
            columns[entry.name] = metadata_column([pair.metadata.get(entry.name) for pair in pairs], entry.type)
    return columns


def metadata_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Loose values as a column of the type that the survey found; where that is text, whatever they are as text."""
    if pa.types.is_string(kind):
        return pa.array([None if value is None else str(value) for value in values], kind)
    return pa.array(values, kind)


class Embedder:
    """The actor that holds the model."""

    def __init__(self, facts: EncoderFacts, options: Extract, on_gpu: bool, threads: int) -> None:
        torch.set_num_threads(threads)
        device = "cuda" if on_gpu else "cpu"
        stored = facts.as_json()
        self.encoder = ClipEncoder(facts.model, facts.pretrained, device, options.precision, stored)
        self.shape, self.options = facts.image_shape, options

    def __call__(self, table: pa.Table) -> pa.Table:
        """Replaces pixels and tokens by features."""
        kept = table.drop_columns(["pixels", "tokens"])
        if table.num_rows == 0:
            return kept
        pixels = np.frombuffer(b"".join(table["pixels"].to_pylist()), np.uint8).reshape(-1, *self.shape)
        captions = [np.frombuffer(each, np.int32) for each in table["tokens"].to_pylist()]
        context = self.encoder.context_length
        tokens = np.concatenate(captions).reshape(-1, context)
        counts = [len(each) // context for each in captions]
        image, text = embed(pixels.copy(), tokens, counts, self.encoder, self.options.batch_size)
        dtype = np.dtype(self.options.dtype)
        kept = kept.append_column("image", from_matrix(image.astype(dtype)))
        return kept.append_column("text", from_matrix(text.astype(dtype)))


def write_part(table: pa.Table, claimed: writing.Claim) -> pa.Table:
    """Writes a block of features; its rows name the unit they came from."""
    if table.num_rows == 0:
        return pa.Table.from_pylist([])
    unit = table["unit"][0].as_py()
    names = ["id", "image", "text"]
    names += [name for name in table.column_names if name not in {*names, "unit"}]
    first = hashlib.sha256(table["id"][0].as_py().encode()).hexdigest()[:8]  # a unit may arrive in several blocks
    facts = tables.write_table(claimed.part(unit, f"-{first}"), table.select(names))
    return pa.Table.from_pylist([vars(facts)])


def watched(dataset: Dataset, progress: Progress) -> Iterator[tables.FileFacts]:
    """Runs a pipeline and yields its written files as they are finished."""
    for row in dataset.iter_rows():
        entry = tables.FileFacts(**row)
        progress.add(entry.rows)
        yield entry


def collect_rejects(folder: str) -> list[dict[str, Any]]:
    """All rejects of a run, from the files its units left."""
    if not places.exists(folder):
        return []
    filesystem, path = places.arrow_filesystem(folder)
    return pq.read_table(path, filesystem=filesystem).to_pylist()


def finish(
    claimed: writing.Claim,
    written: list[tables.FileFacts],
    facts: CorpusFacts,
    encoder: EncoderFacts,
    options: Extract,
    progress: Progress,
) -> dict[str, Any]:
    """Checks that every pair is accounted for, commits, and sums up."""
    rejects = collect_rejects(claimed.rejects)
    pairs = sum(entry.rows for entry in written)
    if pairs == 0 or len(rejects) > options.max_rejects * (pairs + len(rejects)):
        first = f"{rejects[0]['source']}, id '{rejects[0]['id']}': {rejects[0]['reason']}" if rejects else "no rows"
        found = f"{len(rejects):,} of {pairs + len(rejects):,} pairs are unusable; the first: {first}"
        raise BadInput(
            f"extracting {options.corpus}",
            found,
            f"See {claimed.rejects}; raise --max-rejects",
        )
    if pairs + len(rejects) < facts.pairs:
        found = f"{pairs:,} written, {len(rejects):,} rejected"
        raise XhashError(f"extracting {facts.pairs:,} pairs", found, "Run again; if it repeats, report it")
    files = sorted(written, key=lambda entry: entry.name)
    writing.commit(
        claimed.uri,
        files,
        {
            "kind": "features",
            "encoder": encoder.as_json(),
            "classes": facts.classes,
            "rejected": len(rejects),
        },
    )
    progress.finish(pairs, claimed.uri)
    return {
        "out": claimed.uri,
        "pairs": pairs,
        "rejected": len(rejects),
        "files": len(files),
        "size_bytes": sum(entry.size_bytes for entry in files),
        "seconds": round(progress.seconds, 2),
        "pairs_per_s": round(pairs / progress.seconds, 1),
        "encoder": {"model": encoder.model, "weights_sha256": encoder.weights_sha256},
    }
