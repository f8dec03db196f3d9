"""`xhash bench hashing`: every method's functions are timed, JDSH's are what they are compared with."""

from __future__ import annotations

import pytest

from xhash_ray import methods
from xhash_ray.benchmarks import hashing
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.options.bench import BenchHashing
from xhash_ray.reports import render


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Pairs that functions are prepared on."""
    monkeypatch.setattr(hashing, "FITTED", 60)


SMALL = {"bits": 8, "image_length": 12, "text_length": 9, "pairs": 64, "batch_size": 32, "rounds": 1, "threads": 1}


def test_every_method_is_timed():
    result = hashing.bench_hashing(BenchHashing(**SMALL))
    assert {row["method"] for row in result["rows"]} == set(methods.available())
    assert all(row["us_per_pair"] > 0 for row in result["rows"])
    assert next(row["times_jdsh"] for row in result["rows"] if row["method"] == "jdsh") == 1
    assert [row["us_per_pair"] for row in result["rows"]] == sorted(row["us_per_pair"] for row in result["rows"])
    assert "times JDSH's" in render("bench hashing", result)


def test_one_method_is_still_compared_with_jdsh():
    result = hashing.bench_hashing(BenchHashing(methods=("dfrh",), **SMALL))
    assert {row["method"] for row in result["rows"]} == {"dfrh", "jdsh"}


def test_what_takes_longer_says_so():
    rows = {row["method"]: row for row in hashing.table({"jdsh": 2.0, "dfrh": 3.0, "itq": 1.0}, 1_000_000)}
    assert rows["dfrh"] == {"method": "dfrh", "us_per_pair": 3.0, "times_jdsh": 1.5}
    assert list(rows) == ["itq", "jdsh", "dfrh"]


def test_misuse_is_said():
    with pytest.raises(BadInput, match="less than one"):
        hashing.bench_hashing(BenchHashing(**{**SMALL, "pairs": 0}))
    with pytest.raises(BadOption, match="dfrh"):
        hashing.bench_hashing(BenchHashing(methods=("dfhr",), **SMALL))
