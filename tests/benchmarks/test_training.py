"""The training benchmark times what it says: one method, the same pairs, three loops without Ray."""

from __future__ import annotations

from xhash_ray.benchmarks import training as bench
from xhash_ray.learning.data import open_training_data
from xhash_ray.learning.streaming import Streamed
from xhash_ray.methods.base import World
from xhash_ray.options.bench import BenchTraining


def test_synthetic_features_are_written_once_and_read_by_every_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "ROWS_PER_FILE", 100)
    options = BenchTraining(
        pairs=250, image_length=6, text_length=5, bits=8, batch_size=32, epochs=2, out=str(tmp_path)
    )
    folder = bench.synthetic_features(options)
    parts = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet"))
    assert len(parts) == 3
    assert bench.synthetic_features(options) == folder
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")) == parts
    data = open_training_data(folder, None, None)
    pairs = data.resident()
    assert (data.pairs, len(pairs)) == (250, 250)
    streamed = Streamed(data.plan(options.batch_size, 1, [1]), World())
    for speeds in (bench.bare_loop(options, pairs), bench.in_memory(options, pairs), bench.our_loop(options, streamed)):
        assert len(speeds) == 2
        assert min(speeds) > 0


def test_a_row_is_the_median_epoch_after_the_first_and_its_ratio():
    assert bench.row("x", [1.0, 30.0, 10.0, 20.0], 40.0) == {
        "loop": "x", "pairs_per_s": 20.0, "of_bare": 0.5, "epochs": 3,
    }  # fmt: skip
    assert bench.row("x", [8.0], 4.0)["of_bare"] == 2.0
