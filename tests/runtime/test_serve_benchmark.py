"""`xhash bench serve`, scaled down: both servers come up, answer the same, and are measured."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
from fastapi.testclient import TestClient

from xhash_ray.benchmarks.latency_plot import draw_latencies, histogram
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.options.bench import BenchServe
from xhash_ray.progress import Progress
from xhash_ray.reports import render
from xhash_ray.runtime.serve_benchmark import bench_serve, measured, plain_server, served_index
from xhash_ray.serving.answers import Kind, Query
from xhash_ray.serving.groups import Holder


def test_both_servers_find_the_same_distances(tmp_path):
    pytest.importorskip("faiss", reason="needs the bench extra")
    from xhash_ray.benchmarks.plain_server import plain_app

    codes = np.random.default_rng(1).integers(0, 256, (500, 8), dtype=np.uint8)
    served_index(tmp_path, codes, 3)
    scanned = Holder(str(tmp_path)).group(1).search(Kind("image", 20, metadata=False), [Query(codes[7].tobytes())])
    ours = scanned.answers[0]
    with TestClient(plain_app(codes, 1)) as client:
        asked = {"code": codes[7].tobytes().hex(), "k": 20}
        hits = client.post("/v1/search", json=asked).json()["hits"]
        batch = client.post("/v1/search/batch", json={"queries": [asked]}).json()["answers"]
    assert [hit["distance"] for hit in hits] == [distance for distance, _ in ours.hits]
    assert batch[0]["hits"] == hits


@pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="needs the bench extra")
def test_a_server_is_measured_in_a_process_of_its_own(tmp_path):
    """The plain one: what it takes to start Ray once more is left to the command."""
    codes = np.random.default_rng(1).integers(0, 256, (3000, 8), dtype=np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    asked = BenchServe(codes=3000, k=5, requests=10, callers=4, batch=2, batches=2, rate=50, out=str(tmp_path))
    single = json.dumps({"code": "00" * 8, "k": 5}).encode()
    batch = json.dumps({"queries": [json.loads(single)] * 2}).encode()
    found = measured("plain", plain_server(tmp_path), [single], [batch], asked, Progress("bench serve"))
    assert sum(count for _, count in histogram(found.loads["one"])) == 10
    assert draw_latencies({"plain": {"one": found.loads["one"]}}).startswith(b"\x89PNG")
    row = found.row(2)
    assert 0 < row["one_p50_ms"] <= row["one_p99_ms"]
    assert min(row["many_per_s"], row["batch_queries_per_s"], row["open_per_s"], row["ready_s"]) > 0
    assert "many per s" in render("bench serve", {"codes": 3000, "rows": [row]})


def test_a_server_that_answers_with_errors_is_said(tmp_path):
    np.save(tmp_path / "codes.npy", np.zeros((10, 8), np.uint8))
    asked = BenchServe(codes=10, requests=2, callers=1, batch=1, batches=1, out=str(tmp_path))
    bad = json.dumps({"code": "xyz", "k": 1}).encode()
    with pytest.raises(XhashError, match="requests failed"):
        measured("plain", plain_server(tmp_path), [bad], [bad], asked, Progress("bench serve"))


def test_no_requests_are_refused(tmp_path):
    with pytest.raises(BadInput, match="less than one"):
        bench_serve(BenchServe(requests=0, out=str(tmp_path)))
