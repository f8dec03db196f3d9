"""The loop that `xhash bench jdsh` compares with takes the paper's steps, and the table divides the right way."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from xhash_ray import methods
from xhash_ray.benchmarks import jdsh as bench
from xhash_ray.methods.base import Batch, Shape, World
from xhash_ray.options.bench import BenchJdsh
from xhash_ray.storage import tables
from xhash_ray.storage.features import from_matrix


@pytest.fixture
def features():
    generator = np.random.default_rng(1)
    return [generator.random((64, length), dtype=np.float32) for length in (9, 7)]


def test_the_public_loss_is_jdshs(features):
    image, text = (torch.from_numpy(each) for each in features)
    method = methods.create("jdsh", Shape(16, 9, 7), {"thresholds": "mirflickr", "hidden": 8})
    terms = method(Batch(image, text, None, torch.arange(64)), "all", World())
    S = bench.public_similarity(image, text)
    code_I, code_T = (torch.tanh(h) for h in (method.image_outputs(image), method.text_outputs(text)))
    assert bench.public_loss(code_I, code_T, S).item() == pytest.approx(sum(terms.values()).item(), rel=1e-5)


def test_every_loop_is_timed_and_compared_with_the_public_one(features, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "PUBLIC_HIDDEN", 8)
    monkeypatch.setattr(bench, "FAST", {**bench.FAST, "batch_size": 64})
    columns = dict(zip(("image", "text"), (from_matrix(each) for each in features), strict=True))
    path = str(tmp_path / "train.parquet")
    tables.write_table(path, pa.table({"id": pa.array([f"{n}" for n in range(64)]), **columns}))
    found = bench.bench_jdsh(BenchJdsh(features=path, bits=8, rounds=1, threads=1))
    assert (found["pairs"], found["bits"], found["threads"]) == (64, 8, 1)
    assert found["rows"][0]["loop"] == "public loop"
    assert len(found["rows"]) == 4
    assert all(row["epoch_s"] >= 0 and row["pairs_per_s"] > 0 for row in found["rows"])


def test_the_fast_setting_is_the_recipes():
    path = Path(__file__).parents[2] / "jobs" / "recipes" / "fast" / "jdsh.toml"
    assert tomllib.loads(path.read_text())["train"]["settings"] == bench.FAST


def test_a_row_is_compared_with_the_first():
    rows = bench.table({"public loop": 2.0, "ours": 0.5}, pairs=100)
    assert [(row["pairs_per_s"], row["times_public"]) for row in rows] == [(50.0, 1.0), (200.0, 4.0)]
