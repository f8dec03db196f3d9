"""`xhash bench machine` and `xhash bench plan`, scaled down: they run, write and compare. How well is not tested."""

from __future__ import annotations

import json

import pytest

from xhash_ray.errors import BadInput
from xhash_ray.options import Plan
from xhash_ray.options.bench import BenchMachine, BenchPlan
from xhash_ray.reports import render
from xhash_ray.runtime.machine_benchmark import bench_machine
from xhash_ray.runtime.plan_benchmark import bench_plan
from xhash_ray.sizing.machine import read_machine
from xhash_ray.sizing.plan import plan


@pytest.mark.slow
def test_a_machine_is_measured_and_a_plan_compared_with_it(own_serve, tmp_path):
    out = str(tmp_path / "machine.json")
    tiny = {"requests": 8, "rounds": 1, "scan_bytes": 2**16, "encoded": 256}
    written = bench_machine(BenchMachine(out=out, pairs=2000, bits=("64", "128"), **tiny))
    machine = read_machine(out)
    assert {(scan.bits, scan.queries) for scan in machine.scans} == {(b, q) for b in (64, 128) for q in (1, 8, 32)}
    assert machine.process_bytes > 10**7
    assert min(machine.request_s, machine.text_s, machine.image_s, machine.caller_cpu_s) > 0
    assert "queries that share a scan" in render("bench machine", written)
    assert plan(Plan(pairs=10**6, qps=1.0, machine=out))["nodes"] >= 2

    asked = BenchPlan(pairs=3000, callers=("1", "3"), requests=12, machine=out, out=str(tmp_path / "index"))
    found = bench_plan(asked)
    json.dumps(found)
    names = [row["what"] for row in found["rows"]]
    assert names[:4] == ["memory gb", "scan ms", "one caller p50 ms", "highest per s"]
    assert names[4:] == ["3 callers per s", "3 callers p50 ms"]
    for row in found["rows"]:
        assert row["ratio"] == pytest.approx(row["predicted"] / row["measured"])
        assert row["within"] == (0.75 <= row["ratio"] <= 1.25)
    assert "within 25%" in render("bench plan", found)


def test_nothing_to_measure_is_refused(tmp_path):
    with pytest.raises(BadInput, match="less than one"):
        bench_machine(BenchMachine(out=str(tmp_path / "m.json"), requests=0))
    with pytest.raises(BadInput, match="less than one"):
        bench_plan(BenchPlan(callers=("0",), out=str(tmp_path)))
    with pytest.raises(BadInput, match="63 bits"):
        bench_machine(BenchMachine(out=str(tmp_path / "m.json"), bits=("63",)))
    assert not list(tmp_path.iterdir())
