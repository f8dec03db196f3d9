"""Orders are judged as their definitions say, and every order that applies is there."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.test_methods import write
from xhash_ray import reports
from xhash_ray.benchmarks.rescoring import bench_rescoring, measures
from xhash_ray.options.bench import BenchRescoring


def test_measures_of_hand_made_hits():
    hit = np.array([[True, False, True, False], [False, False, False, False]])
    assert measures(hit) == {"precision_at_10": 0.25, "map": round((1 + 2 / 3) / 2 / 2, 4)}


def test_every_order_that_applies_is_judged_in_both_directions(tmp_path):
    write(tmp_path / "query.parquet", range(20))
    write(tmp_path / "train.parquet", range(100, 164))
    options = BenchRescoring(
        features=str(tmp_path), bits=16, candidates=10, settings={"epochs": 2, "batch_size": 16, "hidden": 16}
    )
    result = bench_rescoring(options)
    orders = ["distances", "outputs", "outputs, weighted", "float16 features"]
    assert [row["order"] for row in result["rows"]] == 2 * orders
    assert {row["direction"] for row in result["rows"]} == {"image_to_text", "text_to_image"}
    for row in result["rows"]:
        assert 0 <= row["map"] <= 1
        assert row["ms_per_query"] > 0
    by_features = [row["precision_at_10"] for row in result["rows"] if row["order"] == "float16 features"]
    assert min(by_features) > 1 / 3, "features of one class lie together"
    assert "float16 features" in reports.render("bench rescoring", result)
