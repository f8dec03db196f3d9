"""`xhash bench extract`: ours and a bare loop, in turns, over the same corpus in one run."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from xhash_ray.benchmarks import extraction as bench
from xhash_ray.options import Extract
from xhash_ray.options.bench import BenchExtract
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.extraction import extract
from xhash_ray.storage import uri as places


def bench_extract(options: BenchExtract) -> dict[str, Any]:
    """Times both; both without their start, which is told apart.

    Returns:
        `pairs`, `model`, `batch_size`, `rows`: loop, pairs/s (median round), ratio to the bare loop's; `first_unit_s`:
        from the plan to the first committed unit; `whole_pairs_per_s`: ours with its start; `bottleneck`; `busy` by
        stage.
    """
    progress = Progress("bench extract")
    folder = places.normalise(options.out)
    corpus = bench.jpeg_corpus(options, folder)
    model, weights = bench.random_weights(options, folder)
    with cluster.connected():
        bare = bench.Bare(options, corpus, model, weights)
        theirs, ours = [], []
        for _ in range(options.rounds):
            theirs.append(bare.run())
            progress.say(f"bare loop: {theirs[-1]:,.0f} pairs/s")
            ours.append(one_run(options, corpus, model, weights))
    base = float(np.median(theirs))
    middle = sorted(ours, key=lambda each: each["pairs_per_s"])[len(ours) // 2]
    speeds = [("bare loop, DataLoader", base), ("xhash extract", middle["pairs_per_s"])]
    return {
        "pairs": options.pairs,
        "model": options.model,
        "batch_size": options.batch_size,
        "rows": [
            {"loop": name, "pairs_per_s": round(speed, 1), "of_bare": round(speed / base, 3)} for name, speed in speeds
        ],
        **{name: value for name, value in middle.items() if name != "pairs_per_s"},
    }


def one_run(options: BenchExtract, corpus: str, model: str, weights: str) -> dict[str, Any]:
    """Ours, once: what its own events tell."""
    out = tempfile.mkdtemp()
    try:
        result = extract(
            Extract(
                corpus=corpus,
                out=f"{out}/features",
                model=model,
                pretrained=weights,
                batch_size=options.batch_size,
                actors=options.actors,
                precision=options.precision,
                events=f"{out}/events.jsonl",
            )
        )
        events = [json.loads(line) for line in Path(out, "events.jsonl").read_text().splitlines()]
    finally:
        shutil.rmtree(out)
    units = [event for event in events if event["event"] == "unit"]
    first_s, last_s = units[0]["time_unix_s"], units[-1]["time_unix_s"]
    steady = sum(unit["pairs"] for unit in units[1:]) / max(last_s - first_s, 1e-9)
    started_s = next(event["time_unix_s"] for event in events if event["event"] == "started")
    return {
        "pairs_per_s": round(steady, 1),
        "whole_pairs_per_s": result["pairs_per_s"],
        "first_unit_s": round(first_s - started_s, 1),
        "busy": {name: round(share, 2) for name, share in events[-1]["utilisation_overall"].items()},
        "bottleneck": result["bottleneck"],
    }
