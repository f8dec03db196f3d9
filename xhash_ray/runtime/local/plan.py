"""What a local cluster starts: ports, environment and words of each node's `ray start`. Nothing is started here."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xhash_ray.errors import BadInput
from xhash_ray.runtime.local.processes import MARK

HEAD = "head"
# Below the range that Linux takes outgoing connections from: a node that comes back finds its ports free.
PORTS = range(20_000, 32_000)
NODE_PORTS = ("node_manager", "object_manager", "agent", "agent_grpc", "runtime_env", "metrics")
HEAD_PORTS = ("gcs", "dashboard", "client", "dashboard_metrics", "autoscaler_metrics")
MOST_WORKERS, MOST_DELAY_MS = 16, 10_000
LAST_PORT = 65_535
LEAST_STORE_MB = 80  # Ray refuses less than 75
ANSWER_S = 5.0
LABEL = "xhash-node"

# A dead node is noticed after 3 s rather than 30; a stalled one, on a machine that is overloaded, has 18 s.
DETECTION = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "120",  # how long workers wait for a head that is away
}


@dataclass(frozen=True)
class Node:
    """One raylet with what belongs to it.

    Attributes:
        name: "head", "worker-1", ...; also a custom resource of the node and its label `xhash-node`.
        pid: Process that leads the node's session.
        started: When it began, in clock ticks since the machine did: with pid, an identity that is never reused.
        address: IP address; nodes without network namespaces share one.
        metrics_port: Where Prometheus finds the node's metrics.
        cpus: Logical CPUs.
        resources: Custom resources: `{name: 1}`. Pin with `resources={"worker-1": 0.001}`.
        ports: All fixed ports by name.
    """

    name: str
    address: str
    cpus: int
    ports: dict[str, int] = field(repr=False)
    pid: int = 0
    started: int = 0

    @property
    def metrics_port(self) -> int:
        return self.ports["metrics"]

    @property
    def resources(self) -> dict[str, float]:
        return {self.name: 1}

    @property
    def is_head(self) -> bool:
        return self.name == HEAD


@dataclass(frozen=True)
class Settings:
    """What all nodes share.

    Attributes:
        token: Random mark of this cluster's processes.
        temp_dir: Ray's folder of sessions, of the head; those of the workers lie in it: logs, sockets.
        auth: "token" for people, "disabled" for tests.
        object_store_mb: Shared memory per node, MiB.
        redis_url: Where the head keeps its state, "" for not in Redis.
        durable_dir: Where the head keeps its state on disk, "" for not on disk.
        environment: Further variables of every node.
    """

    token: str
    temp_dir: str
    auth: str
    object_store_mb: int
    redis_url: str = ""
    durable_dir: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def check_numbers(workers: int, cpus: int, object_store_mb: int, auth: str, ports: Sequence[int | None] = ()) -> None:
    """Raises BadInput for what cannot be meant."""
    for port in ports:
        if port is not None and not 0 < port <= LAST_PORT:
            raise BadInput(f"local cluster on port {port}", f"not from 1 to {LAST_PORT}", "Name another port")
    if not 0 <= workers <= MOST_WORKERS:
        raise BadInput(f"local cluster of {workers} workers", f"not from 0 to {MOST_WORKERS}", "Ask for 3")
    if cpus < 1:
        raise BadInput(f"local nodes of {cpus} logical CPUs", "fewer than one", "Ask for 4")
    if object_store_mb < LEAST_STORE_MB:
        raise BadInput(f"object store of {object_store_mb} MiB", f"less than {LEAST_STORE_MB}", "Ask for 150")
    if auth not in ("token", "disabled"):
        raise BadInput(f"auth {auth!r}", "Ray knows no such mode", "Use token or disabled")


def check_delay(name: str, ms: float, loss_percent: float) -> None:
    """Raises BadInput for a network that cannot be meant."""
    if not 0 <= ms <= MOST_DELAY_MS or not 0 <= loss_percent <= 100:
        found = f"{ms:g} ms, {loss_percent:g} % lost"
        raise BadInput(f"delay of local node {name}", found, f"Ask for 0 to {MOST_DELAY_MS} ms and 0 to 100 %")


def node_names(workers: int) -> list[str]:
    """The head's name and the workers'."""
    return [HEAD, *(f"worker-{number}" for number in range(1, workers + 1))]


def ray_program() -> str:
    """Ray's command, of the same Python as this.

    Raises:
        BadInput: when there is none.
    """
    path = Path(sys.executable).parent / "ray"
    if not path.exists():
        raise BadInput("local cluster", f"no program {path}", "Install ray[default] into this Python")
    return str(path)


def is_free(port: int, address: str = "127.0.0.1") -> bool:
    """Whether nobody listens on a port here; what lingers of connections that have ended does not count."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
        return True
    with socket.socket() as probe:
        probe.settimeout(ANSWER_S)
        return probe.connect_ex((address, port)) == errno.ECONNREFUSED


def free_ports(count: int) -> list[int]:
    """That many different ports on which nobody listens."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    return found


def check_free(ports: Mapping[str, int]) -> None:
    """Raises BadInput for the first port that is taken."""
    for name, port in ports.items():
        if not is_free(port):
            asked = f"local cluster with its {name} port on {port}"
            raise BadInput(asked, "something listens there", "End it, or name another port")


def plan_nodes(addresses: Mapping[str, str], cpus: int, head_cpus: int, fixed: dict[str, int]) -> list[Node]:
    """Head and workers with all their ports.

    Args:
        addresses: IP address by node name, the head's first.
        cpus: Logical CPUs of a worker.
        head_cpus: Logical CPUs of the head.
        fixed: Ports of the head that were asked for, by name.
    """
    numbers = iter(free_ports(len(addresses) * len(NODE_PORTS) + len(HEAD_PORTS)))
    nodes = []
    for name, address in addresses.items():
        wanted = (*HEAD_PORTS, *NODE_PORTS) if name == HEAD else NODE_PORTS
        ports = {each: next(numbers) for each in wanted} | (fixed if name == HEAD else {})
        nodes.append(Node(name, address, head_cpus if name == HEAD else cpus, ports))
    return nodes


def start_words(node: Node, head: Node, settings: Settings) -> list[str]:
    """The words of `ray start` for a node."""
    ports = node.ports
    words = [
        ray_program(), "start", "--block", f"--node-ip-address={node.address}", f"--node-name={node.name}",
        f"--num-cpus={node.cpus}", "--num-gpus=0", f"--resources={json.dumps(node.resources)}",
        f"--labels={LABEL}={node.name}", f"--object-store-memory={settings.object_store_mb * 2**20}",
        f"--node-manager-port={ports['node_manager']}", f"--object-manager-port={ports['object_manager']}",
        f"--dashboard-agent-listen-port={ports['agent']}", f"--dashboard-agent-grpc-port={ports['agent_grpc']}",
        f"--runtime-env-agent-port={ports['runtime_env']}", f"--metrics-export-port={ports['metrics']}",
        "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats",
    ]  # fmt: skip
    if not node.is_head:
        # A folder of its own: in one that all share, a node with no work left removes the working directory of a job
        # that runs on another.
        own = Path(settings.temp_dir) / node.name
        return [*words, f"--address={head.address}:{head.ports['gcs']}", f"--temp-dir={own}"]
    return [
        *words, "--head", f"--port={ports['gcs']}", f"--ray-client-server-port={ports['client']}",
        "--include-dashboard=true", f"--dashboard-host={head.address}", f"--dashboard-port={ports['dashboard']}",
        f"--temp-dir={settings.temp_dir}",
    ]  # fmt: skip


def start_environment(node: Node, head: Node, settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a node: this process', without what belongs to another cluster, with ours on top."""
    kept = {name: value for name, value in inherited.items() if name not in ("RAY_ADDRESS", "RAY_REDIS_ADDRESS")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"  # jobs run `python`: this one
    fixed = {
        "PATH": path,
        "RAY_AUTH_MODE": settings.auth,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_prestart_worker_first_driver": "0",  # workers start when they are needed: two cores have no time for more
        "DASHBOARD_METRIC_PORT": str(head.ports["dashboard_metrics"]),
        "AUTOSCALER_METRIC_PORT": str(head.ports["autoscaler_metrics"]),
        MARK: f"{settings.token}/{node.name}",
    }
    return {
        **DETECTION,
        **kept,
        **(storage_environment(settings) if node.is_head else {}),
        **settings.environment,
        **fixed,
    }


def storage_environment(settings: Settings) -> dict[str, str]:
    """Where the head keeps the cluster's state, so that one that was killed comes back with it."""
    if settings.redis_url:
        return {"RAY_REDIS_ADDRESS": settings.redis_url, "RAY_external_storage_namespace": f"xhash-{settings.token}"}
    if settings.durable_dir:
        return {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": settings.durable_dir}
    return {}


def network_environment(namespaces: bool) -> dict[str, str]:
    """What libraries that look a host's name up must be told where nodes have addresses of their own."""
    return {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "eth0"} if namespaces else {}
