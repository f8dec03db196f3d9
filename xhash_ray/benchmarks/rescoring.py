"""`xhash bench rescoring`: what a finer order of the top candidates gains, and what it costs.

A method is trained on a feature set; its queries are searched among the published database's codes. The candidates are
left in the order of distances, or ordered by the query's outputs, plain and weighted, or by stored float16 features
where images and texts share a space. Judged by labels: precision and mean average precision within the candidates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from xhash_ray.benchmarks.feature_sets import Protocol, open_feature_sets
from xhash_ray.benchmarks.methods import Task, trained
from xhash_ray.core.hamming import search
from xhash_ray.core.rescoring import asymmetric_scores, bit_weights, cosine_scores, reorder
from xhash_ray.core.topk import Hits
from xhash_ray.evaluation.relevance import shares_a_label
from xhash_ray.evaluation.retrieval import DIRECTIONS
from xhash_ray.methods.base import Method
from xhash_ray.options.bench import BenchRescoring
from xhash_ray.progress import Progress

PRECISION_AT = 10


def bench_rescoring(options: BenchRescoring) -> dict[str, Any]:
    """Trains, searches, reorders, judges.

    Returns:
        `features`, `method`, `bits`, `candidates`, `rows`: per direction and order `precision_at_10`, `map` (within the
        candidates), and `ms_per_query` of search and reordering.

    Raises:
        BadInput: for features that cannot be a benchmark.
    """
    progress = Progress("bench rescoring")
    protocol = open_feature_sets(options.features).protocol("published")
    method, _, _ = trained(Task(options.method, options.bits, options.seed, (), options.settings, ""), protocol.train)
    progress.say(f"{options.method} trained on {len(protocol.train):,} pairs")
    rows = []
    for name, source, target in DIRECTIONS:
        if source != target:
            rows += one_direction(name, source, target, method, protocol, options.candidates)
    known = {"features": options.features, "method": options.method, "bits": options.bits}
    return {**known, "candidates": options.candidates, "rows": rows}


def one_direction(
    name: str, source: str, target: str, method: Method, protocol: Protocol, candidates: int
) -> list[dict[str, Any]]:
    """One row per order."""
    asked, stored = getattr(protocol.queries, source), getattr(protocol.database, target)
    with torch.inference_mode():
        outputs = method.outputs(source, torch.from_numpy(asked)).float().numpy()
        training = method.outputs(source, torch.from_numpy(getattr(protocol.train, source))).float().numpy()
    queries, codes = method.encode(source, torch.from_numpy(asked)), method.encode(target, torch.from_numpy(stored))
    weights = bit_weights(training)
    started_s = time.perf_counter()
    hits = search(codes, queries, candidates)
    searched_s = time.perf_counter() - started_s
    orders: dict[str, Callable[[], np.ndarray]] = {
        "distances": lambda: -hits.distances.astype(np.float32),
        "outputs": lambda: asymmetric_scores(codes, hits.rows, outputs),
        "outputs, weighted": lambda: asymmetric_scores(codes, hits.rows, outputs, weights),
    }
    if asked.shape[1] == stored.shape[1]:
        half = stored.astype(np.float16)
        orders["float16 features"] = lambda: cosine_scores(half, hits.rows, asked)
    relevant = shares_a_label(protocol.queries.labels, protocol.database.labels)
    return [{"direction": name, **judged(hits, how, order, relevant, searched_s)} for how, order in orders.items()]


def judged(
    hits: Hits, how: str, order: Callable[[], np.ndarray], relevant: np.ndarray, searched_s: float
) -> dict[str, Any]:
    """An order's quality and time."""
    started_s = time.perf_counter()
    ordered = reorder(hits, order())
    seconds = searched_s + time.perf_counter() - started_s
    found = measures(np.take_along_axis(relevant, ordered.rows, axis=1))
    return {"order": how, **found, "ms_per_query": round(seconds * 1000 / len(ordered.rows), 4)}


def measures(hit: np.ndarray) -> Mapping[str, float]:
    """Precision of the first 10, and mean average precision over the hits among the candidates (0 without any).

    Args:
        hit: bool [q, c], whether the candidate at each place is relevant.
    """
    places = np.arange(1, hit.shape[1] + 1)
    precision = np.cumsum(hit, axis=1) / places
    average = (precision * hit).sum(axis=1) / np.maximum(hit.sum(axis=1), 1)
    first = hit[:, :PRECISION_AT]
    return {"precision_at_10": round(float(first.mean()), 4), "map": round(float(average.mean()), 4)}
