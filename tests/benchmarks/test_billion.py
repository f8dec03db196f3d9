"""`xhash bench billion`, scaled down: the index is one, and its answers are right."""

import pytest

from xhash_ray.benchmarks import billion
from xhash_ray.benchmarks.billion import bench_billion
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.index.shard import Shard
from xhash_ray.index.verify import verify
from xhash_ray.options import IndexVerify
from xhash_ray.options.bench import BenchBillion
from xhash_ray.reports import render


@pytest.fixture
def asked(tmp_path, monkeypatch) -> BenchBillion:
    """Twenty thousand codes in segments of a few thousand rows."""
    monkeypatch.setattr(billion, "SEGMENT_ROWS", 7_000)
    return BenchBillion(codes=20_000, out=str(tmp_path / "index"), k=20, batch=5, rounds=3, checked=3)


def test_it_writes_an_index_and_measures_it(asked):
    result = bench_billion(asked)
    assert result["segments"] == 3
    assert result["checked"] == 3
    assert result["write_s"] > 0
    assert verify(IndexVerify(index=asked.out))["rows"] == 20_000
    assert 0 < result["single_ms"] <= result["single_p90_ms"]
    assert result["resident_gb"] <= result["peak_gb"]
    assert "machines for 100 ms" in render("bench billion", result)
    again = bench_billion(asked)
    assert again["write_s"] is None, "an index that is there is used again"


def test_an_index_of_other_codes_is_not_taken_for_it(asked, tmp_path):
    bench_billion(asked)
    with pytest.raises(BadInput, match="an index of 20,000 codes of 64 bits"):
        bench_billion(BenchBillion(codes=30_000, out=asked.out))


def test_a_wrong_answer_is_found(asked, monkeypatch):
    search = Shard.search
    monkeypatch.setattr(Shard, "search", lambda *given: [hits[1:] for hits in search(*given)])
    with pytest.raises(XhashError, match="an answer is not the plain scan's"):
        bench_billion(asked)


def test_no_codes_are_refused(tmp_path):
    with pytest.raises(BadInput, match="less than one"):
        bench_billion(BenchBillion(codes=0, out=str(tmp_path)))
