"""`xhash bench training`: our loop beside a bare PyTorch loop with the same model and batches.

The bare loop is what one writes without thinking of more: tensors in memory, one permutation per epoch, forward,
backward, step. Ours is timed from memory, and from Parquet files that it streams.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from xhash_ray.errors import BadInput
from xhash_ray.learning.data import Pairs, resident_source
from xhash_ray.learning.loop import Loop, schedule
from xhash_ray.learning.sources import Source
from xhash_ray.methods import create
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World
from xhash_ray.options.bench import BenchTraining
from xhash_ray.storage import tables, writing
from xhash_ray.storage import uri as places
from xhash_ray.storage.features import from_matrix

ROWS_PER_FILE = 16_384
DRAWN_FILES = 32  # so many differ; after half a million rows features repeat, under other ids
SEED = 1
SHARED = 32  # numbers that an image and its text have in common


def synthetic_features(options: BenchTraining) -> str:
    """Writes normal features whose pairs share a part, unless they are there already.

    Returns:
        The folder: float16 Parquet, the form in which `xhash extract` writes features.
    """
    name = f"{options.pairs}-{options.image_length}-{options.text_length}"
    out = places.join(places.normalise(options.out), name)
    if tables.read_manifest(out) is not None:
        return out
    claimed = writing.claim(out, "synthetic features", overwrite=True)
    writing.begin(claimed)
    generator = np.random.default_rng(SEED)
    maps = [generator.standard_normal((SHARED, d)) for d in (options.image_length, options.text_length)]
    files, drawn = [], list[pa.Table]()
    for number, start in enumerate(range(0, options.pairs, ROWS_PER_FILE)):
        rows = min(ROWS_PER_FILE, options.pairs - start)
        if number < DRAWN_FILES:
            drawn.append(synthetic_part(generator, maps, rows))
        ids = pa.array([f"{row:09d}" for row in range(start, start + rows)])
        table = drawn[number % DRAWN_FILES].slice(0, rows).add_column(0, "id", ids)
        files.append(tables.write_table(claimed.part(number), table))
    writing.commit(out, files, {"kind": "features"})
    return out


def synthetic_part(generator: np.random.Generator, maps: list[np.ndarray], rows: int) -> pa.Table:
    """Some rows, without ids."""
    shared = generator.standard_normal((rows, SHARED), dtype=np.float32)
    image, text = (
        shared @ each.astype(np.float32) + generator.standard_normal((rows, each.shape[1]), dtype=np.float32)
        for each in maps
    )
    columns = {"image": from_matrix(image.astype(np.float16)), "text": from_matrix(text.astype(np.float16))}
    return pa.table(columns)


def fresh_method(options: BenchTraining) -> Method:
    """The method of the benchmark with its first weights."""
    torch.manual_seed(SEED)
    shape = Shape(options.bits, options.image_length, options.text_length)
    return create(options.method, shape, {"epochs": options.epochs, "batch_size": options.batch_size})


def bare_loop(options: BenchTraining, pairs: Pairs) -> list[float]:
    """Pairs/s of every epoch of a loop without anything around it."""
    method = fresh_method(options)
    method.prepare(TrainingPairs(pairs.image, pairs.text, None, len(pairs)), SEED)
    if method.gradient_free:
        raise BadInput("bench training", f"{options.method} takes no gradient steps", "Name another method")
    optimizers = {phase: method.optimizer_of(phase) for phase in schedule(method)[0].phases}
    speeds = []
    for epoch in range(options.epochs):
        method.start_epoch(epoch)
        order = torch.randperm(len(pairs))
        started_s = time.perf_counter()
        steps = len(pairs) // options.batch_size
        for step in range(steps):
            rows = order[step * options.batch_size : (step + 1) * options.batch_size]
            batch = Batch(pairs.image[rows], pairs.text[rows], None, rows)
            for phase, optimizer in optimizers.items():
                optimizer.zero_grad()
                torch.stack(list(method(batch, phase, World()).values())).sum().backward()
                optimizer.step()
        speeds.append(steps * options.batch_size / (time.perf_counter() - started_s))
    return speeds


def our_loop(options: BenchTraining, source: Source) -> list[float]:
    """Pairs/s of every epoch of ours."""
    speeds: list[float] = []
    Loop(fresh_method(options), source, World(), SEED, lambda _, report: speeds.append(report["pairs_per_s"])).run()
    return speeds


def in_memory(options: BenchTraining, pairs: Pairs) -> list[float]:
    """Ours from memory."""
    return our_loop(options, resident_source(pairs, options.batch_size, SEED, World()))


def row(name: str, speeds: list[float], bare: float) -> dict[str, Any]:
    """One line of the table; the first of several epochs is a warm-up."""
    timed = speeds[1:] or speeds
    median = float(np.median(timed))
    return {"loop": name, "pairs_per_s": round(median, 1), "of_bare": round(median / bare, 3), "epochs": len(timed)}
