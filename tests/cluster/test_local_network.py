"""Network namespaces of a local cluster: made, cut, narrowed, and found again after a crash. Root only."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.cluster.test_local_parts import planned, settings
from tests.conftest import MISSING_PROGRAM
from xhash_ray.errors import BadInput
from xhash_ray.runtime.local import network as local_network
from xhash_ray.runtime.local import state as local_state
from xhash_ray.runtime.local.cluster import LocalCluster
from xhash_ray.runtime.local.processes import kill, marked
from xhash_ray.runtime.local.state import State


@pytest.fixture
def network(network_of_ones_own: None) -> Iterator[local_network.Network]:
    """Two namespaces on a bridge."""
    skip_without_namespaces()
    made = local_network.plan_network(os.urandom(4).hex(), ["head", "worker-1"])
    local_network.create(made)
    yield made
    local_network.remove(made.prefix)


def skip_without_namespaces() -> None:
    """Skips where they cannot be had, saying why."""
    if shutil.which("ip") is None:
        pytest.skip(f"{MISSING_PROGRAM}ip")
    try:
        local_network.check_possible()
    except BadInput as error:
        pytest.skip(f"no network namespaces: {error.found}")


CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], 9), timeout=float(sys.argv[2]))
except ConnectionRefusedError:
    print("reached")
except OSError:
    print("lost")
"""


def reach(network: local_network.Network, name: str, other: str, patience_s: float = 60) -> str:
    """Whether a node's packets come to another and back; what is lost costs all of the patience."""
    words = network.inside(name, [sys.executable, "-c", CONNECT, network.address(other), str(patience_s)])
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout.strip()


def test_nodes_reach_each_other_until_one_is_cut_off(network):
    assert reach(network, "head", "worker-1") == "reached"
    local_network.cut(network, "worker-1")
    assert reach(network, "head", "worker-1", patience_s=3) == "lost"
    local_network.mend(network, "worker-1")
    assert reach(network, "head", "worker-1") == "reached"


def disciplines(network: local_network.Network, name: str) -> str:
    """What shapes both ends of a node's wire."""
    return "".join(
        local_network.run("tc", *options, "qdisc", "show", "dev", device)
        for options, device in local_network.ends(network, name)
    )


def test_a_wire_becomes_narrow_in_both_directions(network):
    try:
        local_network.throttle(network, "worker-1", 200)
    except BadInput as error:
        pytest.skip(f"{error.asked}: {error.found}")
    assert disciplines(network, "worker-1").count("tbf") == 2
    assert "tbf" not in disciplines(network, "head")
    local_network.mend(network, "worker-1")
    assert "tbf" not in disciplines(network, "worker-1")


@pytest.fixture
def cluster(tmp_path, network) -> Iterator[LocalCluster]:
    """A cluster of which only the network exists."""
    token = os.urandom(6).hex()
    yield LocalCluster(tmp_path, State(settings(token=token), {node.name: node for node in planned(1)}, network))
    kill(token)


def test_packets_are_delayed_each_way_until_the_wire_heals(cluster, network):
    cluster.delay("worker-1", 200)
    began_s = time.monotonic()
    assert reach(network, "head", "worker-1") == "reached"
    assert time.monotonic() - began_s >= 0.4
    cluster.partition("worker-1")
    assert reach(network, "head", "worker-1", patience_s=3) == "lost"
    cluster.heal("worker-1")
    assert reach(network, "head", "worker-1") == "reached"
    assert "netem" not in disciplines(network, "worker-1")
    assert marked(cluster.settings.token) == []


def test_packets_are_lost(cluster, network):
    cluster.delay("worker-1", 1, loss_percent=100)
    assert reach(network, "head", "worker-1", patience_s=3) == "lost"
    cluster.delay("worker-1", 1, loss_percent=10)  # a new delay takes the place of the old one
    assert "reached" in {reach(network, "head", "worker-1") for _ in range(3)}
    cluster.heal("worker-1")


SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 9000), timeout=60) as line:
    line.sendall(bytes(range(256)) * 2**14)
    line.shutdown(socket.SHUT_WR)
    print(line.recv(64).decode())
"""
RECEIVE = """
import hashlib, socket
with socket.create_server(("", 9000)) as door:
    print("open", flush=True)
    line, _ = door.accept()
    found = hashlib.sha256()
    while part := line.recv(2**20):
        found.update(part)
    line.sendall(found.hexdigest().encode())
    line.close()
"""


def test_a_slow_wire_changes_nothing_of_what_it_carries(cluster, network):
    """Four megabytes, in segments as large as the kernel likes them."""
    cluster.delay("worker-1", 5)
    words = network.inside("worker-1", [sys.executable, "-c", RECEIVE])
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout.readline() == "open\n"
            words = network.inside("head", [sys.executable, "-c", SEND, network.address("worker-1")])
            sent = subprocess.run(words, capture_output=True, text=True, timeout=100, check=True)
        finally:
            receiver.kill()
    assert sent.stdout.strip() == hashlib.sha256(bytes(range(256)) * 2**14).hexdigest()
    cluster.heal("worker-1")


@pytest.mark.parametrize(("ms", "loss_percent"), [(-1, 0), (1e9, 0), (1, 101), (1, -5)])
def test_a_delay_that_cannot_be_meant(cluster, ms, loss_percent):
    with pytest.raises(BadInput, match="Ask for 0 to"):
        cluster.delay("worker-1", ms, loss_percent)


def test_what_a_crash_left_is_found_and_removed(tmp_path, network):
    head = planned(0)[0]
    local_state.write(tmp_path, State(settings(temp_dir=str(tmp_path / "ray")), {"head": head}, network))
    assert all(local_network.leftovers(network.prefix))
    LocalCluster.attach(str(tmp_path)).stop()
    assert local_network.leftovers(network.prefix) == ([], [])
