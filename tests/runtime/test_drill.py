"""The whole drill on a cluster of its own: nothing wrong, everything recovers. It takes a quarter of an hour.

What it judges by is tested in tests/drilling, without a cluster.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from xhash_ray.drilling.scenarios import BY_NAME, SCENARIOS
from xhash_ray.errors import BadInput
from xhash_ray.options import Drill
from xhash_ray.runtime.drill.index import flipped
from xhash_ray.runtime.drill.run import check
from xhash_ray.runtime.drill.store import LOOPBACK, Gate, free_port
from xhash_ray.runtime.local.cluster import LocalCluster

GROUPS = (
    ("replica-killed", "shard-gone", "encoder-gone", "corrupt-file"),
    ("node-killed", "head-restarted", "store-gone-in-swap"),
    ("swaps", "slow-network", "node-cut-off", "clock-skew"),
)


def drilled(folder: Path, *words: str) -> dict:
    """What `xhash drill` wrote, whether it failed or not; at most ten minutes."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "xhash_ray.cli", "drill", "--out", str(folder / "drill.md"), *words]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert (folder / "drill.json").exists(), ended.stderr[-3000:]
    return json.loads((folder / "drill.json").read_text()) | {"exit_code": ended.returncode}


@pytest.mark.faults
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_no_answer_is_ever_wrong_and_every_scenario_recovers(tmp_path, names):
    result = drilled(tmp_path, "--scenario", ",".join(names))
    assert [row["scenario"] for row in result["rows"]] == [each.name for each in SCENARIOS if each.name in names]
    run = [row for row in result["rows"] if not row["available"]]
    assert run, result["rows"]
    for row in run:
        assert row["wrong"] == 0, row
        assert row["recovered_s"] is not None, row
        assert row["requests"] > 20, row
    assert (result["failures"], result["exit_code"]) == ([], 0)


@pytest.mark.faults
def test_faults_are_felt(tmp_path):
    """A drill that breaks nothing would find nothing: without a group of shards answers lack it, and say which."""
    result = drilled(tmp_path, "--scenario", "shard-gone", "--network", "loopback")
    (row,) = result["rows"]
    assert row["incomplete"] > 0
    assert row["missing"] == [4, 5, 6, 7]


@pytest.mark.faults
def test_on_a_cluster_that_was_joined_only_its_own_is_touched(tmp_path):
    url = f"http://{LOOPBACK}:{free_port()}"
    with LocalCluster.start(str(tmp_path / "cluster"), workers=1, cpus=8) as cluster:
        names = ["replica-killed", "shard-gone", "node-killed", "swaps"]
        place = ["--address", cluster.address, "--store", str(tmp_path), "--url", url]
        result = drilled(tmp_path, "--scenario", ",".join(names), *place)
        rows = {row["scenario"]: row for row in result["rows"]}
        assert "--destructive" in rows["shard-gone"]["available"]
        assert "not the drill's to break" in rows["node-killed"]["available"]
        assert all(rows[name]["available"] == "" and rows[name]["wrong"] == 0 for name in ("replica-killed", "swaps"))
        assert (result["failures"], result["exit_code"]) == ([], 0)
        assert set(cluster.alive()) == {"head", "worker-1"}
    assert not list(tmp_path.glob("drill-*")), "its index is gone"


def test_all_scenarios_are_in_a_group():
    assert sorted(name for names in GROUPS for name in names) == sorted(BY_NAME)


@pytest.mark.parametrize("wrong", [{"workers": 2}, {"pairs": 100}, {"callers": 0}, {"shards": 0}])
def test_numbers_that_make_no_drill_are_refused(wrong):
    with pytest.raises(BadInput, match="Ask for"):
        check(Drill(**wrong))


def test_a_joined_cluster_needs_a_place_that_its_nodes_reach(tmp_path):
    from xhash_ray.runtime.drill.joined import joined_site

    with pytest.raises(BadInput, match="--store"), joined_site(Drill(), "nowhere:1", tmp_path, None):
        pass


@pytest.mark.parametrize("column", ["id", "code"])
def test_one_bit_of_one_column_is_flipped(column):
    rows = pa.table({"id": ["pair-1", "pair-2"], "code": pa.array([b"abcdefgh", b"ijklmnop"], pa.binary(8))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    content = sink.getvalue().to_pybytes()
    changed = flipped(content, column)
    assert sum((one ^ other).bit_count() for one, other in zip(content, changed, strict=True)) == 1
    read = pa.ipc.open_file(changed).read_all()
    assert [name for name in rows.column_names if read[name] != rows[name]] == [column]


def test_a_shut_gate_accepts_and_never_answers():
    with socket.create_server((LOOPBACK, 0)) as upstream, Gate(LOOPBACK, *upstream.getsockname()) as gate:
        caller = socket.create_connection((LOOPBACK, int(gate.url.rpartition(":")[2])))
        behind = upstream.accept()[0]
        caller.sendall(b"one")
        assert behind.recv(10) == b"one"
        gate.shut()
        behind.sendall(b"two")
        caller.settimeout(0.3)
        with pytest.raises(TimeoutError):
            caller.recv(10)
        gate.open()
        caller.settimeout(30)
        assert caller.recv(10) == b"two"
        caller.close()
        assert behind.recv(10) == b"", "ends are passed on too"
        behind.close()
