"""The benchmark of evaluation runs small, agrees with itself, and is told."""

from __future__ import annotations

import numpy as np
import pytest

from xhash_ray import reports
from xhash_ray.benchmarks.evaluation import bench_evaluation, lies_within_ties, numpy_loop, scene, signs_of
from xhash_ray.evaluation.average_precision import average_precision_reference
from xhash_ray.options.bench import BenchEvaluation


def test_it_compares_times_memory_and_values():
    result = bench_evaluation(BenchEvaluation(queries=6, database=500, bits=16, classes=5, sample=4, rounds=1))
    assert [row["engine"] for row in result["rows"]] == ["xhash, MAP@all", "xhash, every measure", "numpy loop"]
    assert result["rows"][0]["times_ours"] == 1
    assert result["rows"][0]["cpu_times_ours"] == 1
    assert all(row["seconds"] >= 0 and row["cpu_s"] >= 0 for row in result["rows"])
    assert 20 < result["peak_mb"] < 2000
    assert result["within_ties"]
    assert all(0 < value < 1 for value in result["map"].values())
    told = reports.render("bench evaluation", result)
    assert "scaled up from 4 queries" in told
    assert "6 queries against 500 codes of 16 bits" in told


def loop_on(codes: dict, labels: list[np.ndarray]) -> np.ndarray:
    """The numpy loop from images to texts."""
    return numpy_loop(
        signs_of(codes["query"]["image"]), signs_of(codes["database"]["text"]), *(1.0 * x for x in labels)
    )


def test_the_loop_is_average_precision_where_nothing_is_tied():
    codes = {"query": {"image": np.array([[0]], np.uint8)}, "database": {"text": np.array([[7], [0], [3]], np.uint8)}}
    labels = [np.array([[True]]), np.array([[True], [False], [True]])]
    by_hand = average_precision_reference(np.array([-3.0, 0, -2]), labels[1][:, 0])
    assert loop_on(codes, labels).tolist() == [pytest.approx(by_hand)]
    assert by_hand == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_value_no_order_of_ties_gives_is_noticed():
    codes, labels = scene(3, 200, 16, 4, 1)
    values = loop_on(codes, labels)
    assert lies_within_ties(values, codes, labels, "image", "text")
    assert not lies_within_ties(values + 0.5, codes, labels, "image", "text")
