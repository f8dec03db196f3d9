"""What a local cluster plans, refuses, writes down, and how it ends processes: without starting Ray."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.waiting import wait_until
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.runtime.local import cli as local_cli
from xhash_ray.runtime.local import plan as local_plan
from xhash_ray.runtime.local import processes as local_processes
from xhash_ray.runtime.local import state as local_state
from xhash_ray.runtime.local.cluster import LocalCluster
from xhash_ray.runtime.local.plan import Node, Settings
from xhash_ray.runtime.local.processes import MARK
from xhash_ray.runtime.local.state import STATE_FILE, State

TOKEN = "0123456789ab"


def settings(**changed) -> Settings:
    """What all nodes share, by default in the plainest way."""
    given = {"token": TOKEN, "temp_dir": "/tmp/xr-test", "auth": "disabled", "object_store_mb": 150}
    return Settings(**(given | changed))


def planned(workers: int = 2, **fixed: int) -> list[Node]:
    """Nodes that were never started."""
    return local_plan.plan_nodes(dict.fromkeys(local_plan.node_names(workers), "127.0.0.1"), 4, 0, fixed)


def test_every_node_has_ports_names_and_resources_of_its_own():
    nodes = planned(3)
    assert [node.name for node in nodes] == ["head", "worker-1", "worker-2", "worker-3"]
    ports = [port for node in nodes for port in node.ports.values()]
    assert len(set(ports)) == len(ports) == 4 * 6 + 5
    assert set(ports) <= set(local_plan.PORTS)
    assert [node.cpus for node in nodes] == [0, 4, 4, 4]
    assert nodes[2].resources == {"worker-2": 1}


def test_the_words_that_start_nodes():
    head, worker = planned(1)
    words = local_plan.start_words(head, head, settings())
    assert Path(words[0]).name == "ray"
    assert words[1:3] == ["start", "--block"]
    for word in ("--head", f"--port={head.ports['gcs']}", "--temp-dir=/tmp/xr-test", "--disable-usage-stats"):
        assert word in words
    words = local_plan.start_words(worker, head, settings())
    assert "--head" not in words
    for word in (
        f"--address=127.0.0.1:{head.ports['gcs']}",
        '--resources={"worker-1": 1}',
        "--labels=xhash-node=worker-1",
        "--min-worker-port=0",
        f"--metrics-export-port={worker.metrics_port}",
        "--temp-dir=/tmp/xr-test/worker-1",  # a shared one would be cleaned up under a job of another node
    ):
        assert word in words


def test_the_environment_of_nodes():
    head, worker = planned(1)
    around = {"RAY_ADDRESS": "elsewhere:1", "RAY_AUTH_MODE": "token", "PATH": "/bin", "KEPT": "yes"}
    shared = settings(redis_url="localhost:6379", environment={"MORE": "1", "RAY_health_check_period_ms": "200"})
    of_head = local_plan.start_environment(head, head, shared, around)
    of_worker = local_plan.start_environment(worker, head, shared, around)
    assert "RAY_ADDRESS" not in of_head
    assert (of_head["RAY_AUTH_MODE"], of_head["KEPT"], of_head["MORE"]) == ("disabled", "yes", "1")
    assert of_head["RAY_health_check_period_ms"] == "200"
    assert of_head["PATH"] == f"{Path(sys.executable).parent}:/bin"
    assert of_head[MARK] == f"{TOKEN}/head"
    assert of_worker[MARK] == f"{TOKEN}/worker-1"
    assert (of_head["RAY_REDIS_ADDRESS"], of_head["RAY_external_storage_namespace"]) == (
        "localhost:6379",
        f"xhash-{TOKEN}",
    )
    assert "RAY_REDIS_ADDRESS" not in of_worker


# What is refused


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"workers": -1}, "-1 workers"),
        ({"workers": 17}, "17 workers"),
        ({"cpus": 0}, "0 logical CPUs"),
        ({"object_store_mb": 10}, "10 MiB"),
        ({"auth": "password"}, "'password'"),
    ],
)
def test_numbers_that_cannot_be_meant(tmp_path, given, words):
    with pytest.raises(BadInput, match=words):
        LocalCluster.start(str(tmp_path / "c"), **given)
    assert not (tmp_path / "c").exists()


def test_a_port_that_is_taken(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"dashboard port on {port}: something listens there"):
            LocalCluster.start(str(tmp_path / "c"), dashboard_port=port)
    assert not (tmp_path / "c").exists()


def test_a_port_is_free_again_once_nobody_listens():
    """Also while the remains of a connection linger there, as they do after a cluster was stopped."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        port = door.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            door.accept()[0].close()
            assert caller.recv(1) == b""
        assert not local_plan.is_free(port)
    assert local_plan.is_free(port)


def test_no_ray(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(BadInput, match=r"no program .*bin/ray"):
        LocalCluster.start(str(tmp_path / "c"))


def test_namespaces_without_root(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BadInput, match="this is not root"):
        LocalCluster.start(str(tmp_path / "c"), namespaces=True)


def test_namespaces_without_their_tools(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BadInput, match="no program `ip`"):
        LocalCluster.start(str(tmp_path / "c"), namespaces=True)


def test_a_bad_network_needs_namespaces(tmp_path):
    cluster = LocalCluster(tmp_path, State(settings(), {node.name: node for node in planned()}, None))
    for harm in (lambda: cluster.delay("head", 10), lambda: cluster.partition("head"), lambda: cluster.heal("head")):
        with pytest.raises(BadInput, match="Start with namespaces"):
            harm()


def test_a_node_that_is_not_there(tmp_path):
    cluster = LocalCluster(tmp_path, State(settings(), {node.name: node for node in planned(1)}, None))
    with pytest.raises(BadInput, match=r"'worker-9'.*Known: head, worker-1"):
        cluster.kill("worker-9")


def test_a_head_whose_state_died_with_it(tmp_path):
    cluster = LocalCluster(tmp_path, State(settings(), {node.name: node for node in planned(1)}, None))
    with pytest.raises(BadInput, match="state died with it"):
        cluster.restart("head")


def test_a_worker_without_a_head(tmp_path):
    cluster = LocalCluster(tmp_path, State(settings(), {node.name: node for node in planned(1)}, None))
    with pytest.raises(BadInput, match="Restart the head first"):
        cluster.restart("worker-1")


def test_a_token_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "ray"
    program.write_text("#!/bin/sh\necho 'no space' >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(XhashError, match="no space"):
        LocalCluster.start(str(tmp_path / "c"), auth="token")
    assert not (tmp_path / "c").exists()


# What is written down


def written(folder: Path, pid: int, started: int, temp_dir: str = "") -> State:
    """The state of a cluster whose head is some process."""
    head = replace(planned(0)[0], pid=pid, started=started)
    state = State(settings(token="f" * 12, temp_dir=temp_dir or str(folder / "ray")), {"head": head}, None)
    local_state.write(folder, state)
    return state


def test_the_state_is_read_as_it_was_written_and_by_nobody_else(tmp_path):
    state = written(tmp_path, 1, 2)
    assert local_state.read(tmp_path) == state
    assert (tmp_path / STATE_FILE).stat().st_mode & 0o077 == 0
    assert LocalCluster.attach(str(tmp_path)).nodes == state.nodes


def test_a_cluster_that_runs_is_not_started_again(tmp_path):
    written(tmp_path, os.getpid(), local_processes.started_at(os.getpid()))
    before = (tmp_path / STATE_FILE).read_text()
    with pytest.raises(BadInput, match=rf"already running, processes \[{os.getpid()}\]"):
        LocalCluster.start(str(tmp_path))
    assert (tmp_path / STATE_FILE).read_text() == before


def test_a_number_that_another_process_got_is_never_killed(tmp_path):
    """The state names this very process, with another beginning: stopping must not touch it."""
    (tmp_path / "ray").mkdir()
    written(tmp_path, os.getpid(), 1)
    cluster = LocalCluster.attach(str(tmp_path))
    assert not cluster.is_running("head")
    cluster.stop()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_cluster(tmp_path):
    with pytest.raises(BadInput, match="none was started there"):
        LocalCluster.attach(str(tmp_path))


@pytest.mark.parametrize("text", ["", "{}", '{"settings": {}, "nodes": {}, "network": null}', "[1]"])
def test_a_state_file_that_is_not_ours(tmp_path, text):
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(BadInput, match="Remove the file"):
        LocalCluster.attach(str(tmp_path))


# Processes


@pytest.fixture
def spawned(tmp_path) -> Iterator[Callable[[str, str], subprocess.Popen[bytes]]]:
    """Starts shells with a mark; whatever is left of them ends with the test."""

    def start(name: str, script: str) -> subprocess.Popen[bytes]:
        environment = {"PATH": os.environ["PATH"], MARK: f"{TOKEN}/{name}"}
        return local_processes.spawn(["sh", "-c", script], tmp_path / "log", environment)

    yield start
    local_processes.kill(TOKEN)


def test_a_killed_node_takes_along_what_left_its_session(spawned):
    spawned("worker-1", "setsid sleep 1000 & sleep 1000")
    other = spawned("worker-10", "exec sleep 1000")
    wait_until(lambda: len(local_processes.marked(TOKEN, "worker-1")) >= 3)
    local_processes.kill(TOKEN, "worker-1")
    assert local_processes.marked(TOKEN, "worker-1") == []
    assert local_processes.marked(TOKEN) == [other.pid]


def test_an_end_is_orderly_first(spawned, tmp_path):
    leader = spawned("head", f"trap 'echo bye > {tmp_path}/said; exit' TERM; while :; do sleep 0.1; done")
    stubborn = spawned("worker-1", "trap '' TERM; while :; do sleep 0.1; done")
    wait_until(lambda: len(local_processes.marked(TOKEN)) >= 2)
    time.sleep(0.5)  # until both shells have set their traps
    leaders = {each.pid: local_processes.started_at(each.pid) for each in (leader, stubborn)}
    local_processes.end(TOKEN, leaders, grace_s=1.0)
    assert (tmp_path / "said").read_text() == "bye\n"
    assert local_processes.marked(TOKEN) == []
    assert (leader.wait(), stubborn.wait()) != (None, None)


def test_what_lost_its_mark_is_found_by_its_session(spawned):
    """As Ray's agents lose theirs, whose titles are written over their environments."""
    titled = "exec env -i bash -c 'exec -a ray::DashboardAgent sleep 600'"
    leader = spawned("head", f"({titled}) & ({titled.replace('ray::', 'other::')}) & wait")
    began = local_processes.started_at(leader.pid)
    wait_until(lambda: len(local_processes.titled({leader.pid: began})) == 1)
    assert local_processes.titled({leader.pid: began + 1}) == [], "a number that another process has by now"
    (agent,) = local_processes.titled({leader.pid: began})
    assert agent not in local_processes.marked(TOKEN)
    leader.kill()
    leader.wait()
    assert local_processes.titled({leader.pid: began}) == [agent], "the session outlives its leader"
    local_processes.kill(TOKEN, leaders={leader.pid: began})
    assert local_processes.started_at(agent) is None
    os.killpg(leader.pid, signal.SIGKILL)  # the other


def test_the_beginning_of_a_process_is_its_own():
    assert local_processes.started_at(os.getpid()) == local_processes.started_at(os.getpid())
    ended = subprocess.Popen(["true"])
    wait_until(lambda: local_processes.started_at(ended.pid) is None)
    ended.returncode = 0  # it was asked for above


LEADER_ENDS_FIRST = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_silent_head_says_nothing_of_who_is_dead(tmp_path, monkeypatch):
    """Silent at one look, then with a dead node still in its list: that node is not gone yet."""
    cluster = LocalCluster(tmp_path, State(settings(), {node.name: node for node in planned(1)}, None))
    looks = iter([{}, {"head": "a", "worker-1": "b"}, {"head": "a"}])
    monkeypatch.setattr(LocalCluster, "alive", lambda _: next(looks))
    cluster.wait_dead("worker-1")
    assert next(looks, None) is None


def test_a_process_lives_until_its_last_thread_has_ended():
    """Its ports are taken until then, and its first thread may be the first to go."""
    with subprocess.Popen([sys.executable, "-c", LEADER_ENDS_FIRST], stdin=subprocess.PIPE) as process:
        stat = Path(f"/proc/{process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
        assert local_processes.started_at(process.pid) is not None
        process.stdin.close()
        wait_until(lambda: local_processes.started_at(process.pid) is None)
        process.returncode = 0


# The command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stop"], "none was started there"),
        (["status"], "none was started there"),
        (["kill", "worker-1"], "none was started there"),
        (["start", "--workers", "many"], "--workers"),
        (["start", "--workers", "99"], "99 workers"),
        (["start", "--port", "70000"], "port 70000"),
        (["start", "--dashboard-port", "0"], "port 0"),
        (["status", "--folder", "/etc/passwd"], "no folder that can be read"),
        (["begin"], "invalid choice"),
        ([], "VERB"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert local_cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert len(err.splitlines()) == 1
