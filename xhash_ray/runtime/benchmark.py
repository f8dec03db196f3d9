"""`xhash bench training`: a bare loop, ours from memory, ours streamed by a thread, ours through Ray Data."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import numpy as np
import torch

from xhash_ray.benchmarks import training as bench
from xhash_ray.learning.data import open_training_data
from xhash_ray.learning.history import CSV_NAME, parse_csv
from xhash_ray.learning.run import RUN_FOLDER
from xhash_ray.learning.streaming import Streamed
from xhash_ray.methods.base import World
from xhash_ray.options import Train
from xhash_ray.options.bench import BenchTraining
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.training import train
from xhash_ray.storage import uri as places


def bench_training(options: BenchTraining) -> dict[str, Any]:
    """Times the same training four ways, one after the other, with the same number of threads.

    Returns:
        `pairs`, `method`, `bits`, `batch_size`, `threads`, `rows`: loop, pairs/s (median epoch), its ratio to the bare
        loop's.
    """
    progress = Progress("bench training")
    folder = bench.synthetic_features(options)
    torch.set_num_threads(cluster.physical_cores())
    data = open_training_data(folder, None, None)
    progress.say(f"{data.pairs:,} pairs in {folder}")
    pairs = data.resident()
    bare = bench.bare_loop(options, pairs)
    base = float(np.median(bare[1:] or bare))
    rows = [bench.row("bare PyTorch, in memory", bare, base)]
    rows.append(bench.row("xhash, in memory", bench.in_memory(options, pairs), base))
    del pairs
    plan = data.plan(options.batch_size, bench.SEED, [1])
    rows.append(bench.row("xhash, streamed by a thread", bench.our_loop(options, Streamed(plan, World())), base))
    if options.ray:
        rows.append(bench.row("xhash, streamed by Ray Data to Ray Train", through_ray(options, folder), base))
    shape = {"pairs": options.pairs, "image_length": options.image_length, "text_length": options.text_length}
    known = {"method": options.method, "bits": options.bits, "batch_size": options.batch_size}
    return {**shape, **known, "threads": cluster.physical_cores(), "rows": rows}


def through_ray(options: BenchTraining, features: str) -> list[float]:
    """Pairs/s of every epoch of one Ray Train worker that Ray Data feeds."""
    out = tempfile.mkdtemp()
    settings = {"epochs": options.epochs, "batch_size": options.batch_size}
    try:
        train(
            Train(
                features=features,
                out=out,
                method=options.method,
                bits=options.bits,
                stream="always",
                settings=settings,
                checkpoint_s=1e9,
            )
        )
        reports = parse_csv(places.read_bytes(places.join(out, RUN_FOLDER, CSV_NAME)).decode())
    finally:
        shutil.rmtree(out)
    return [report["pairs_per_s"] for report in reports]
