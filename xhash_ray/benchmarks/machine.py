"""`xhash bench machine`, the parts that need no cluster: memory, scans, encoders, loading, and what the machine is."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xhash_ray import __version__
from xhash_ray.benchmarks.processes import resident_bytes
from xhash_ray.core.parts import search_each
from xhash_ray.index.build import SEGMENT_ROWS
from xhash_ray.index.generations import Generation
from xhash_ray.index.shard import Shard, load_shards
from xhash_ray.options.bench import BenchEncode, BenchExtract, BenchMachine, BenchTraining
from xhash_ray.serving.answers import Kind, Query
from xhash_ray.serving.groups import Group
from xhash_ray.sizing.machine import Scan

SHARED_BY = (1, 8, 32)
TEXTS, IMAGES, IMAGE_SIDE = 32, 8, 256
LOADS = 4  # one is too small to tell from what else moves in memory
LIBRARIES = ("ray", "torch", "numpy", "numba", "pyarrow")


def scans_of(bits: int, options: BenchMachine) -> list[Scan]:
    """Codes compared a second, by queries that share the scan, in segments as an index has them.

    Random codes: learned ones are scanned about as fast (`xhash bench hamming` compares them).
    """
    generator = np.random.default_rng(options.seed)
    total = options.scan_bytes * 8 // bits
    sizes = [min(SEGMENT_ROWS, total - start) for start in range(0, total, SEGMENT_ROWS)]
    codes = [generator.integers(0, 256, (size, bits // 8), dtype=np.uint8) for size in sizes]
    queries = generator.integers(0, 256, (max(SHARED_BY), bits // 8), dtype=np.uint8)
    search_each(codes, queries[:1], options.k)  # the first starts the compiler
    seconds: dict[int, list[float]] = {count: [] for count in SHARED_BY}
    for _ in range(2 * options.rounds):  # in turns, so that a machine that is disturbed is so for all
        for count, mine in seconds.items():
            started_s = time.perf_counter()
            search_each(codes, queries[:count], options.k)
            mine.append(time.perf_counter() - started_s)
    return [Scan(bits, count, total / statistics.median(mine)) for count, mine in seconds.items()]


def search_seconds(group: Group, queries: np.ndarray, options: BenchMachine) -> float:
    """Median seconds of one search as a group of shards does it: a scan, then answers."""
    kind, asked = kind_of(options), [Query(query.tobytes()) for query in queries]
    return median_s(lambda: group.search(kind, asked), 1 + 2 * options.rounds)


def search_cpu(group: Group, queries: np.ndarray, options: BenchMachine) -> float:
    """CPU seconds of the same, per query."""
    kind, asked = kind_of(options), [Query(query.tobytes()) for query in queries]
    used = [cpu_of(lambda: group.search(kind, asked)) for _ in range(1 + options.rounds)]
    return statistics.median(used) / len(queries)


def answer_seconds(group: Group, queries: np.ndarray, options: BenchMachine) -> float:
    """Seconds per query that a search takes after its scan: in turns with bare scans, their difference."""
    codes = [segment.codes["image"] for segment in group.shard.segments]
    kind, asked = kind_of(options), [Query(query.tobytes()) for query in queries]
    extra = []
    for _ in range(1 + 2 * options.rounds):
        started_s = time.perf_counter()
        search_each(codes, queries, options.k)
        middle_s = time.perf_counter()
        group.search(kind, asked)
        extra.append(time.perf_counter() - middle_s - (middle_s - started_s))
    return max(0.0, statistics.median(extra) / len(queries))


def kind_of(options: BenchMachine) -> Kind:
    """What requests of the load generator ask for."""
    return Kind("image", options.k, metadata=False)


def median_s(do: Callable[[], Any], rounds: int) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - started_s)
    return statistics.median(seconds)


def cpu_of(do: Callable[[], Any]) -> float:
    """CPU seconds of this process, all threads, while it does something."""
    started_s = time.process_time()
    do()
    return time.process_time() - started_s


def loaded(made: Generation) -> dict[str, float]:
    """What loading codes costs: bytes of memory per byte of them, and their bytes a second."""
    before, shards = resident_bytes(), list[Shard]()
    started_s = time.perf_counter()
    for _ in range(LOADS):
        shards.append(load_shards(made, range(made.shards)))
    seconds = time.perf_counter() - started_s
    total = sum(codes.nbytes for shard in shards for each in shard.segments for codes in each.codes.values())
    return {
        "resident_per_code_byte": max(1.0, round((resident_bytes() - before) / total, 4)),
        "load_bytes_per_s": round(total / seconds),
    }


def encoding(options: BenchMachine, folder: str) -> dict[str, Any]:
    """A text and an image through CLIP with random weights, and features to codes; torch's import is not in it."""
    from xhash_ray.benchmarks.extraction import jpeg, random_weights
    from xhash_ray.corpus.scenes import scene_pair
    from xhash_ray.features.clip import ClipEncoder, Preprocessor

    model, weights = random_weights(BenchExtract(model=options.model), folder)
    clip = ClipEncoder(model, weights)
    prepare = Preprocessor(clip.facts)
    texts = [f"{scene_pair(options.seed, number).text} {number}" for number in range(TEXTS)]
    images = [jpeg(scene_pair(options.seed, number).image, IMAGE_SIDE) for number in range(IMAGES)]

    def text(count: int) -> Any:
        return clip.text_features(prepare.tokens(texts[:count]))

    def image(count: int) -> Any:
        return clip.image_features(np.stack([prepare.image(content) for content in images[:count]]))

    text(1), image(1)  # the first of each is slow
    return {
        "model": options.model,
        "text_s": median_s(lambda: text(1), options.rounds),
        "text_cpu_s": cpu_of(lambda: text(TEXTS)) / TEXTS,
        "image_s": median_s(lambda: image(1), options.rounds),
        "image_cpu_s": cpu_of(lambda: image(IMAGES)) / IMAGES,
        "encode_pairs_per_s": round(encode_rate(options, folder)),
    }


def encode_rate(options: BenchMachine, folder: str) -> float:
    """Pairs a second of features to codes: Parquet, float16 to float32, product, packing."""
    from xhash_ray.benchmarks.encoding import bare_loop, untrained
    from xhash_ray.benchmarks.training import synthetic_features
    from xhash_ray.storage import tables

    features = synthetic_features(BenchTraining(pairs=options.encoded, out=f"{folder}/features"))
    method = untrained(BenchEncode(), f"{folder}/model")
    files = tables.open_tables(features, "features").files
    return options.encoded / min(bare_loop(files, method)["all"] for _ in range(2))


def host_facts() -> dict[str, Any]:
    """What the machine is, and what it ran."""
    return {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": processor(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": round(os.getloadavg()[0], 2),
        "xhash_ray": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def processor() -> str:
    """Its name, as the system has it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def memory_bytes() -> int:
    """Of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
