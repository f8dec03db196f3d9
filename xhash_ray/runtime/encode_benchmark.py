"""`xhash bench encode`: ours and a bare loop, in turns, over the same files in one run."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from xhash_ray.benchmarks import encoding as bench
from xhash_ray.benchmarks.memory import fall_of_memory
from xhash_ray.benchmarks.training import synthetic_features
from xhash_ray.options import Encode
from xhash_ray.options.bench import BenchEncode, BenchTraining
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.encoding import encode
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places


def bench_encode(options: BenchEncode) -> dict[str, Any]:
    """Times both.

    Returns:
        `pairs`, `bits`, `method`, `threads`, `feature_gb`, `rows`: loop, seconds, pairs/s (median round), ratio to the
        bare loop; `bare_parts`: share of the bare loop's time by part; `bottleneck` of ours, `peak_mb` of the machine.
    """
    progress = Progress("bench encode")
    shape = replace(
        BenchTraining(out=options.out),
        pairs=options.pairs,
        image_length=options.image_length,
        text_length=options.text_length,
    )
    features = synthetic_features(shape)
    found = tables.open_tables(features, "features")
    folder = tempfile.mkdtemp()
    try:
        method = bench.untrained(options, places.join(folder, "model"))
        torch.set_num_threads(options.threads)
        with cluster.connected(), fall_of_memory() as fall:
            bench.bare_loop(found.files[:2], method)  # warms up
            bare, ours = [], []
            for number in range(options.rounds):
                bare.append(bench.bare_loop(found.files, method))
                progress.say(f"bare loop: {options.pairs / bare[-1]['all']:,.0f} pairs/s")
                out = places.join(folder, f"codes-{number}")
                ours.append(encode(Encode(features=features, model=places.join(folder, "model"), out=out)))
        return told(options, found, bare, ours, fall.most_mb)
    finally:
        shutil.rmtree(folder)


def told(
    options: BenchEncode,
    found: tables.TableSet,
    bare: list[dict[str, float]],
    ours: list[dict[str, Any]],
    peak_mb: float,
) -> dict[str, Any]:
    """The figures."""
    base = float(np.median([options.pairs / each["all"] for each in bare]))
    speeds = [("bare PyTorch loop", base), ("xhash encode", float(np.median([each["pairs_per_s"] for each in ours])))]
    parts = bare[int(np.argsort([each["all"] for each in bare])[len(bare) // 2])]
    return {
        "pairs": options.pairs,
        "bits": options.bits,
        "method": options.method,
        "threads": options.threads,
        "feature_gb": round(sum(entry["size_bytes"] for entry in found.facts["files"]) / 1e9, 2),
        "rows": [
            {"loop": name, "pairs_per_s": round(speed, 1), "of_bare": round(speed / base, 3)} for name, speed in speeds
        ],
        "bare_parts": {name: round(value / parts["all"], 3) for name, value in parts.items() if name != "all"},
        "bottleneck": ours[-1]["bottleneck"],
        "peak_mb": round(peak_mb),
    }
