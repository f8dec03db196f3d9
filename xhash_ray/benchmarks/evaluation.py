"""`xhash bench evaluation`: MAP@all both ways, ours beside the loop that the published code has.

The loop takes one query at a time: distances from a product of +1/-1 floats, a sort of the whole database, precision
at the hits. It is run on a sample of the queries and scaled up to all of them, which is exact enough because every
query does the same work. Ours runs on all queries, in a fresh process so that its peak memory is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from xhash_ray.core.bits import check_bits, pack, unpack
from xhash_ray.core.scanning import check_threads
from xhash_ray.evaluation.average_precision import extreme_average_precision
from xhash_ray.evaluation.counting import count_pairs
from xhash_ray.evaluation.relevance import pack_labels
from xhash_ray.evaluation.retrieval import DIRECTIONS, mean_average_precision, measure_codes
from xhash_ray.options.bench import BenchEvaluation

LABEL_SHARE, NOISE = 0.1, 3.0
ROWS_AT_ONCE = 50_000
RUN_OURS = "import json, sys; from xhash_ray.benchmarks.evaluation import ours; ours(*json.loads(sys.argv[1]))"


def bench_evaluation(options: BenchEvaluation) -> dict[str, Any]:
    """Times both on the same codes and checks that they agree.

    Returns:
        The sizes; `rows`, per engine its seconds for all queries in both directions (of the numpy loop scaled up from
        `sample` queries a direction), by the clock and of processor time, and the ratios to ours; `first_s`, ours with
        the compiler's start; `peak_mb`, the most memory our process held, its data included; `map` by direction;
        `within_ties`, whether the loop's average precision of every sampled query lies between our lowest and highest
        over tie orders.

    Raises:
        BadInput: for a code length that is no multiple of 8 up to 1,024, or threads below 1.
    """
    check_bits(options.bits)
    threads = check_threads(options.threads)
    size = [options.queries, options.database, options.bits, options.classes, options.seed]
    found = json.loads(run_alone([*size, threads, options.rounds]))
    codes, labels = scene(*size)
    sample = min(options.sample, options.queries)
    loop, within = np.zeros(2), True
    for _, source, target in DIRECTIONS:
        signs = signs_of(codes["query"][source][:sample]), signs_of(codes["database"][target])  # not timed
        taken, values = timed(partial(numpy_loop, *signs, *(each.astype(np.float32) for each in labels)))
        loop += taken * options.queries / sample
        within &= lies_within_ties(values, codes, labels, source, target)
    return {
        "queries": options.queries,
        "database": options.database,
        "bits": options.bits,
        "classes": options.classes,
        "threads": threads,
        "sample": sample,
        "rows": [
            row("xhash, MAP@all", found["map_s"], found["map_s"]),
            row("xhash, every measure", found["every_s"], found["map_s"]),
            row("numpy loop", loop, found["map_s"]),
        ],
        "first_s": found["first_s"],
        "peak_mb": found["peak_mb"],
        "map": found["map"],
        "within_ties": within,
    }


def row(engine: str, taken: Any, ours_taken: Any) -> dict[str, Any]:
    """One engine's seconds and ratio, by the clock and by processor time, which neighbours do not spoil."""
    (seconds, cpu_s), (ours_seconds, ours_cpu_s) = taken, ours_taken
    return {
        "engine": engine,
        "seconds": round(seconds, 3),
        "cpu_s": round(cpu_s, 3),
        "times_ours": round(seconds / ours_seconds, 1),
        "cpu_times_ours": round(cpu_s / ours_cpu_s, 1),
    }


def run_alone(arguments: list[int]) -> str:
    """The last line that `ours` printed in a process of its own."""
    command = [sys.executable, "-c", RUN_OURS, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def ours(queries: int, database: int, bits: int, classes: int, seed: int, threads: int, rounds: int) -> None:
    """Prints one JSON line: seconds, peak memory in MB (10**6 bytes), MAP by direction."""
    codes, labels = scene(queries, database, bits, classes, seed)

    def both(measure: Callable[..., Any]) -> dict[str, Any]:
        return {
            name: measure(codes["query"][source], codes["database"][target], *labels, threads=threads)
            for name, source, target in DIRECTIONS
        }

    first, found = timed(lambda: both(mean_average_precision))
    line = {
        "first_s": round(first[0], 3),
        "map_s": np.median([timed(lambda: both(mean_average_precision))[0] for _ in range(rounds)], axis=0).tolist(),
        "every_s": np.median([timed(lambda: both(measure_codes))[0] for _ in range(rounds)], axis=0).tolist(),
        "map": {name: round(value, 5) for name, value in found.items()},
        "peak_mb": round(peak_bytes() / 1e6),
    }
    print(json.dumps(line), flush=True)


def peak_bytes() -> int:
    """The most memory this process has held: VmHWM, or where there is no /proc, what getrusage tells."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # absent on Windows

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def timed(work: Callable[[], Any]) -> tuple[np.ndarray, Any]:
    """Seconds a call took, by the clock and of processor time, float64 [2]; and what it returned."""
    started = np.array([time.perf_counter(), time.process_time()])
    result = work()
    return np.array([time.perf_counter(), time.process_time()]) - started, result


def scene(
    queries: int, database: int, bits: int, classes: int, seed: int
) -> tuple[dict[str, dict[str, np.ndarray]], list[np.ndarray]]:
    """Codes of both sides and modalities, drawn to fit labels, and the labels: bool [q, classes] and [n, classes]."""
    generator = np.random.default_rng(seed)
    prototypes = generator.standard_normal((classes, bits), dtype=np.float32)
    codes: dict[str, dict[str, np.ndarray]] = {}
    labels = []
    for side, rows in (("query", queries), ("database", database)):
        own = generator.random((rows, classes), dtype=np.float32) < LABEL_SHARE
        codes[side] = {name: noisy_codes(own, prototypes, generator) for name in ("image", "text")}
        labels.append(own)
    return codes, labels


def noisy_codes(labels: np.ndarray, prototypes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Signs of the sum of the labels' prototypes and noise, packed."""
    parts = []
    for start in range(0, len(labels), ROWS_AT_ONCE):
        clean = labels[start : start + ROWS_AT_ONCE].astype(np.float32) @ prototypes
        parts.append(pack(clean + NOISE * generator.standard_normal(clean.shape, dtype=np.float32)))
    return np.concatenate(parts)


def signs_of(codes: np.ndarray) -> np.ndarray:
    """Codes as published evaluations hold them: float32 [n, bits] of +1 and -1."""
    return unpack(codes).astype(np.float32) * 2 - 1


def numpy_loop(signs: np.ndarray, items: np.ndarray, query_labels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average precision of each query, as published evaluations compute it: float64 [q]."""
    values = np.zeros(len(signs))
    for row, query in enumerate(signs):
        relevant = query_labels[row] @ labels.T > 0
        distances = 0.5 * (items.shape[1] - query @ items.T)
        places = np.flatnonzero(relevant[np.argsort(distances)]) + 1
        values[row] = (np.arange(1, len(places) + 1) / places).mean() if len(places) else 0
    return values


def lies_within_ties(values: np.ndarray, codes: Any, labels: list[np.ndarray], source: str, target: str) -> bool:
    """Whether average precisions of the first queries are between the worst and best order of ties."""
    masks = pack_labels(labels[0][: len(values)]), pack_labels(labels[1])
    counts = count_pairs(codes["query"][source][: len(values)], codes["database"][target], *masks)
    lowest, highest = extreme_average_precision(counts.sum(axis=2), counts[:, :, 1])
    return bool(((lowest - 1e-9 <= values) & (values <= highest + 1e-9)).all())
