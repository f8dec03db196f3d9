"""A cluster of several raylets on one machine: killed in parts, brought back, gone without a trace."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_local_network import skip_without_namespaces
from tests.conftest import REPOSITORY
from tests.ports import free_port
from tests.runtime.conftest import end
from tests.waiting import wait_until
from xhash_ray.errors import BadInput
from xhash_ray.runtime.local import cli as local_cli
from xhash_ray.runtime.local import network as local_network
from xhash_ray.runtime.local import plan as local_plan
from xhash_ray.runtime.local import processes as local_processes
from xhash_ray.runtime.local.cluster import LocalCluster
from xhash_ray.runtime.local.state import STATE_FILE

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Where the cluster keeps its state."""
    return tmp_path_factory.mktemp("local")


def unused_memory() -> set[str]:
    """Shared memory that no process uses: somebody died and left it."""
    there = set(os.listdir("/dev/shm"))
    maps = ""
    for each in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            maps += each.read_text(errors="replace")
    return {name for name in there if f"/dev/shm/{name}" not in maps}


@pytest.fixture(scope="module")
def memory_before() -> set[str]:
    """What others left."""
    return unused_memory()


@pytest.fixture(scope="module")
def cluster(home, memory_before) -> Iterator[LocalCluster]:
    """A head that keeps its state, and two workers."""
    with LocalCluster.start(str(home), workers=2, durable=True, object_store_mb=100) as running:
        yield running


COUNTER = """
import os, sys, ray
ray.init(sys.argv[1], namespace="test", log_to_driver=False, logging_level="error")
@ray.remote(num_cpus=0, resources={"worker-2": 0.001})
class Counter:
    count = 0
    def add(self):
        self.count += 1
        return self.count, os.environ["XHASH_LOCAL_NODE"].partition("/")[2]
counter = Counter.options(name="counter", lifetime="detached", get_if_exists=True).remote()
print(*ray.get(counter.add.remote(), timeout=100))
"""


def count(cluster: LocalCluster) -> list[str]:
    """Asks an actor that is pinned to worker-2 and outlives its driver."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    words = cluster.inside("head", [sys.executable, "-c", COUNTER, cluster.address])
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def test_all_nodes_are_alive_and_work_goes_where_it_is_pinned(cluster):
    assert set(cluster.alive()) == {"head", "worker-1", "worker-2"}
    assert count(cluster) == ["1", "worker-2"]
    for node in cluster.nodes.values():
        url = f"http://{node.address}:{node.metrics_port}/metrics"
        wait_until(lambda url=url: answers(url))


def answers(url: str) -> bool:
    """Whether there is something behind a URL."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_another_process_finds_it_and_a_second_start_is_refused(cluster, home, capsys):
    assert LocalCluster.attach(str(home)).address == cluster.address
    with pytest.raises(BadInput, match="already running"):
        LocalCluster.start(str(home))
    assert local_cli.main(["status", "--folder", str(home)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["head", "worker-1", "worker-2"]
    assert all(line.endswith("alive") for line in lines)


def test_a_worker_dies_and_comes_back_on_its_ports(cluster, home):
    before = cluster.alive()["worker-1"]
    cluster.kill("worker-1")
    assert not cluster.is_running("worker-1")
    assert local_processes.marked(cluster.settings.token, "worker-1") == []
    cluster.wait_dead("worker-1")
    ports = cluster.nodes["worker-1"].ports
    LocalCluster.attach(str(home)).restart("worker-1")
    cluster.nodes = LocalCluster.attach(str(home)).nodes
    assert cluster.nodes["worker-1"].ports == ports
    assert cluster.alive()["worker-1"] != before


def test_the_head_comes_back_with_its_state(cluster):
    """The detached actor counts on: neither it nor its worker noticed."""
    address, worker = cluster.address, cluster.alive()["worker-2"]
    counted = int(count(cluster)[0])
    cluster.kill("head")
    assert cluster.alive() == {}
    cluster.restart("head")
    cluster.wait_alive(list(cluster.nodes))
    assert (cluster.address, cluster.alive()["worker-2"]) == (address, worker)
    assert count(cluster) == [str(counted + 1), "worker-2"]


def test_nothing_is_left_behind(cluster, home, memory_before):
    token = cluster.settings.token
    ports = {f"{node.name}: {what}": port for node in cluster.nodes.values() for what, port in node.ports.items()}
    LocalCluster.attach(str(home)).stop()
    assert local_processes.marked(token) == []
    assert not Path(cluster.temp_dir).exists()
    assert not (home / STATE_FILE).exists()
    assert unused_memory() - memory_before == set()
    assert {what: port for what, port in ports.items() if not local_plan.is_free(port)} == {}


# Minutes


@pytest.fixture
def redis(program) -> Iterator[int]:
    """A Redis that every address of this machine reaches; its port."""
    port = free_port()
    words = [program("redis-server"), "--port", str(port), "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)
    yield port
    end(process)


def test_nodes_with_addresses_of_their_own_are_cut_off_and_the_head_keeps_its_state_in_redis(
    tmp_path, redis, network_of_ones_own
):
    skip_without_namespaces()
    url = f"{{gateway}}:{redis}"
    with LocalCluster.start(str(tmp_path), workers=2, namespaces=True, redis_url=url) as cluster:
        assert len({node.address for node in cluster.nodes.values()}) == 3
        assert count(cluster) == ["1", "worker-2"]
        cluster.partition("worker-1")
        cluster.wait_dead("worker-1")
        assert cluster.is_running("worker-1")
        cluster.heal("worker-1")
        cluster.kill("worker-1")
        cluster.restart("worker-1")
        cluster.kill("head")
        cluster.restart("head")
        cluster.wait_alive(list(cluster.nodes))
        assert count(cluster) == ["2", "worker-2"]
        prefix = cluster.network.prefix
    assert local_network.leftovers(prefix) == ([], [])


def test_the_script_of_the_documents(tmp_path):
    """start, status, a job, stop; what it prints is what a shell can take over."""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}  # the token is made at home
    ports = ["--port", str(free_port()), "--dashboard-port", str(free_port())]

    def script(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "cluster/local.sh", *words]
        given = {"cwd": REPOSITORY, "env": environment, "capture_output": True, "text": True}
        return subprocess.run(command, timeout=500, check=False, **given)

    try:
        started = script("start", "--workers", "1", "--cpus", "2", *ports)
        assert started.returncode == 0, started.stderr
        exported = dict(word.split("=", 1) for word in started.stdout.split()[1:])
        assert exported["RAY_AUTH_MODE"] == "token"
        again = script("start", "--workers", "1")
        assert (again.returncode, again.stdout) == (2, "")
        assert "already running" in again.stderr
        assert script("status").returncode == 0
        words = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--", "echo", "it", "runs"]
        job = subprocess.run(words, env={**environment, **exported}, capture_output=True, text=True, timeout=200)
        assert job.returncode == 0, job.stderr
        assert "it runs" in job.stdout
        for token in ("b" * 64, ""):  # another one, and none
            told = {**environment, **exported, "HOME": str(tmp_path / "elsewhere"), "RAY_AUTH_TOKEN": token}
            told = {name: value for name, value in told.items() if value}
            words = [sys.executable, "-m", "xhash_ray.cli", "corpus", "demo", "--out", str(tmp_path / "out")]
            done = subprocess.run(words, env=told, capture_output=True, text=True, timeout=200, check=False)
            (line,) = done.stderr.splitlines()
            assert (done.returncode, line.startswith("xhash: Ray cluster")) == (1, True)
            assert "the token" in line
            assert not (tmp_path / "out").exists()
        refused = urllib.request.Request(f"{exported['RAY_API_SERVER_ADDRESS']}/api/jobs/")
        with pytest.raises(urllib.error.HTTPError, match=r"40[13]"):
            urllib.request.urlopen(refused, timeout=20)
        assert script("kill", "worker-1").returncode == 0
        assert script("status").returncode == 1
        assert script("restart", "worker-1").returncode == 0
        assert script("status").returncode == 0
    finally:
        stopped = script("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert script("stop").returncode == 2
