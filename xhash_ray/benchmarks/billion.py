"""`xhash bench billion`: an index of very many codes on one machine, written, loaded, asked; and what more would need.

Pairs are drawn in clusters of very different sizes, as learned codes lie. One shard holds them all, of which one
modality is loaded: what a machine that answers one direction needs. Answers of some queries are compared with those of
numpy reading the files anew; the first codes of each with the definition, bit by bit.
"""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from xhash_ray import methods
from xhash_ray.benchmarks.code_sets import around, centres_of
from xhash_ray.benchmarks.hamming import GIGA
from xhash_ray.core.bandwidth import BENCHMARK_BYTES, read_bandwidth
from xhash_ray.core.bits import check_bits
from xhash_ray.core.hamming import distances_reference
from xhash_ray.core.scanning import check_threads
from xhash_ray.core.shards import even_split
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.index import generations
from xhash_ray.index.build import SEGMENT_ROWS
from xhash_ray.index.generations import MODELS, Generation
from xhash_ray.index.segments import (
    SegmentFacts,
    checked_file,
    map_file,
    map_table,
    read_codes,
    segment_name,
    write_segment,
)
from xhash_ray.index.shard import LOADING_THREADS, Shard, load_shard
from xhash_ray.methods.artefacts import facts_of, weights_of
from xhash_ray.methods.base import Shape
from xhash_ray.options.bench import BenchBillion
from xhash_ray.progress import Progress
from xhash_ray.sizing.capacity import Measured, capacity
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import write_artefact
from xhash_ray.storage.codes import from_array, to_array

ID_DIGITS = 11
TARGET = "image"
DEFINED = 1000  # codes of each checked query whose distances are counted bit by bit


def bench_billion(options: BenchBillion) -> dict[str, Any]:
    """Writes the index where it is not there yet, loads it, asks it.

    Returns:
        `codes`, `bits`, `threads`, `segments`, `index_bytes`; `write_s`, None where the index was there; `load_s`,
        `load_gb_per_s` and `disk_gb_per_s` (the same bytes read before that, without checking them);
        `resident_gb`, `peak_gb`; `single_ms`, `single_p90_ms`, `batch_queries_per_s`, `read_gb_per_s`, `of_bandwidth`;
        `checked` queries; `capacity`, a table of what larger sets need.

    Raises:
        BadInput: for less than one code, query or round, or an index of other codes in that folder.
        XhashError: when an answer is wrong.
    """
    check_bits(options.bits)
    threads = check_threads(options.threads)
    if min(options.codes, options.batch, options.rounds, options.k) < 1:
        raise BadInput("bench billion", "less than one code, query, round or hit", "Give at least one of each")
    progress = Progress("bench billion", options.codes, "codes")
    made, write_s = written(options, threads, progress)
    forget_cached(made)
    seconds_of_disk = disk_seconds(made)
    forget_cached(made)
    loading, started_s = Progress("loading", options.codes, "codes"), time.perf_counter()
    shard = load_shard(made, 0, [TARGET], progress=loading)
    load_s = time.perf_counter() - started_s
    loaded_bytes = sum(segment.codes[TARGET].nbytes for segment in shard.segments)
    loading.finish(options.codes, "memory")
    asked = times(shard, options, threads, progress)
    resident = {name: round(value / GIGA, 2) for name, value in memory().items()}
    bandwidth = read_bandwidth(threads, BENCHMARK_BYTES)
    checked = check_answers(made, shard, options, progress)
    known = Measured(loaded_bytes / options.codes, options.codes / asked["single_s"], options.memory_gb * GIGA)
    return {
        "codes": options.codes,
        "bits": options.bits,
        "k": options.k,
        "threads": threads,
        "segments": len(made.segments),
        "index_bytes": sum(facts.size_bytes for facts in made.segments),
        "write_s": write_s,
        "load_s": round(load_s, 2),
        "load_gb_per_s": round(loaded_bytes / load_s / GIGA, 2),
        "disk_gb_per_s": round(loaded_bytes / seconds_of_disk / GIGA, 2),
        **resident,
        "single_ms": round(asked["single_s"] * 1e3, 2),
        "single_p90_ms": round(asked["single_p90_s"] * 1e3, 2),
        "batch": options.batch,
        "batch_queries_per_s": round(options.batch / asked["batch_s"], 2),
        "read_gb_per_s": round(bandwidth / GIGA, 1),
        "of_bandwidth": round(loaded_bytes / asked["single_s"] / bandwidth, 3),
        "checked": checked,
        "capacity": [row._asdict() for row in capacity(known)],
    }


def written(options: BenchBillion, threads: int, progress: Progress) -> tuple[Generation, float | None]:
    """The index, and the seconds that writing it took; None where it was there."""
    uri = places.normalise(options.out)
    if generations.numbers(uri):
        made = generations.current(uri)
        if (made.rows, made.bits) != (options.codes, options.bits):
            found = f"an index of {made.rows:,} codes of {made.bits} bits"
            raise BadInput(f"bench billion in {options.out}", found, "Name another folder or delete it")
        progress.say(f"{made.rows:,} codes are in {uri}")
        return made, None
    started_s = time.perf_counter()
    ranges = even_split(options.codes, max(1, -(-options.codes // SEGMENT_ROWS)))
    task = functools.partial(write_range, uri=uri, options=options)
    segments = []
    with ProcessPoolExecutor(threads, mp_context=get_context("spawn")) as pool:
        for facts in pool.map(task, range(len(ranges)), ranges):
            segments.append(facts)
            progress.add(facts.rows)
    torch.manual_seed(options.seed)
    method = methods.create("jdsh", Shape(options.bits, 8, 8), {"hidden": 8})
    facts_of_model = {**facts_of("jdsh", method), "encoder": None}
    model = f"{MODELS}/untrained"
    artefact = write_artefact(places.join(uri, model), facts_of_model, weights_of(method), "")
    kept = {"bits": options.bits, "method": "jdsh", "model_fingerprint": artefact.fingerprint, "model": model}
    made = generations.commit(uri, None, "build", segments, [], options.codes, {**kept, "encoder": None, "shards": 1})
    progress.finish(options.codes, uri)
    return made, round(time.perf_counter() - started_s, 1)


def write_range(number: int, rows: tuple[int, int], uri: str, options: BenchBillion) -> SegmentFacts:
    """Draws one segment: ids are row numbers, so they ascend."""
    generator = np.random.default_rng([options.seed, number])
    centres = centres_of(options.codes, options.bits, options.seed)
    ids = (np.arange(*rows)[:, None] // 10 ** np.arange(ID_DIGITS - 1, -1, -1) % 10 + ord("0")).astype(np.uint8)
    offsets = np.arange(len(ids) + 1, dtype=np.int32) * ID_DIGITS
    columns = {"id": pa.StringArray.from_buffers(len(ids), pa.py_buffer(offsets), pa.py_buffer(ids))}
    for modality in ("image", "text"):
        columns[f"{modality}_code"] = from_array(around(generator, centres, len(ids), options.bits))
    return write_segment(uri, segment_name("b1111000", 0, 1, number), 0, 1, pa.table(columns))


def times(shard: Shard, options: BenchBillion, threads: int, progress: Progress) -> dict[str, float]:
    """Seconds of one query, ids of its answer included, and of a batch."""
    queries = asked_codes(options, max(options.rounds, options.batch))
    shard.search(queries[:1], TARGET, options.k, threads)  # the compiler is loaded, ids are touched
    single = []
    for query in queries[: options.rounds]:
        started_s = time.perf_counter()
        shard.search(query[None], TARGET, options.k, threads)
        single.append(time.perf_counter() - started_s)
    progress.say(f"one query: {statistics.median(single) * 1e3:.1f} ms")
    batch = []
    for _ in range(options.batch_rounds):
        started_s = time.perf_counter()
        shard.search(queries[: options.batch], TARGET, options.k, threads)
        batch.append(time.perf_counter() - started_s)
    progress.say(f"{options.batch} queries at once: {options.batch / statistics.median(batch):.1f} queries/s")
    return {
        "single_s": statistics.median(single),
        "single_p90_s": float(np.quantile(single, 0.9)),
        "batch_s": statistics.median(batch),
    }


def asked_codes(options: BenchBillion, count: int) -> np.ndarray:
    """Queries of the same kind as the codes, and none of them."""
    generator = np.random.default_rng([options.seed, 10**9])
    return around(generator, centres_of(options.codes, options.bits, options.seed), count, options.bits)


def check_answers(made: Generation, shard: Shard, options: BenchBillion, progress: Progress) -> int:
    """Compares some answers with what plain numpy finds in the files; returns how many.

    Raises:
        XhashError: for one that differs.
    """
    queries = asked_codes(options, options.checked)
    for query, found in zip(queries, shard.search(queries, TARGET, options.k), strict=True):
        expected: list[tuple[int, str]] = []
        for codes, ids in stored(made):
            distances = np.bitwise_count(codes ^ query).sum(axis=1, dtype=np.uint16)
            if not np.array_equal(distances[:DEFINED], distances_reference(codes[:DEFINED], query[None])[0]):
                raise XhashError("bench billion", "numpy's distances are not the definition's", "Report it")
            kth = np.partition(distances, min(options.k, len(distances)) - 1)[min(options.k, len(distances)) - 1]
            near = np.flatnonzero(distances <= kth)
            expected += [(int(distances[row]), ids[int(row)].as_py()) for row in near]
        if [(hit.distance, hit.id) for hit in found] != sorted(expected)[: options.k]:
            raise XhashError("bench billion", "an answer is not the plain scan's", "Report it")
    progress.say(f"{len(queries)} answers are those of a plain scan")
    return len(queries)


def stored(made: Generation) -> Iterator[tuple[np.ndarray, pa.ChunkedArray]]:
    """Codes and ids of every segment, as they lie on disk."""
    for facts in made.segments:
        table = map_table(checked_file(made.uri, facts, digest=False))
        yield to_array(table[f"{TARGET}_code"]), table["id"]


def forget_cached(made: Generation) -> None:
    """Asks the system to drop what it holds of the index's files in memory, where it can."""
    if not hasattr(os, "posix_fadvise") or not places.is_local(made.uri):
        return
    for facts in made.segments:
        descriptor = os.open(places.join(made.uri, facts.name), os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def disk_seconds(made: Generation) -> float:
    """Seconds to read the bytes that loading reads, in the same way, and do nothing with them."""

    def read(facts: SegmentFacts) -> None:
        path = checked_file(made.uri, facts, digest=False)
        table, _, address = map_file(path)
        read_codes(path, table[f"{TARGET}_code"], address)

    started_s = time.perf_counter()
    with ThreadPoolExecutor(LOADING_THREADS) as pool:
        list(pool.map(read, made.segments))
    return time.perf_counter() - started_s


def memory() -> dict[str, int]:
    """Bytes of this process in memory, now and at most (Linux)."""
    wanted = {"VmRSS:": "resident_gb", "VmHWM:": "peak_gb"}
    with open("/proc/self/status") as lines:
        fields = [line.split() for line in lines]
    return {wanted[each[0]]: int(each[1]) * 1024 for each in fields if each[0] in wanted}
