"""The drilled endpoint as its operator sees it: deployed, looked at and killed, without a driver of its own.

A drill kills heads, and drivers die with them. So the local cluster is told by the dashboard's REST API, and processes
are killed by their number.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from xhash_ray.errors import XhashError
from xhash_ray.runtime.local.cluster import LocalCluster

PATH = "/api/serve/applications/"
PROCESSES, REPLICAS = 2, 2
RUNNING, HEALTHY = "RUNNING", "HEALTHY"
ENCODER, GATEWAY = "EncoderDeployment", "GatewayDeployment"


class Replica(NamedTuple):
    """A copy of a deployment: its name, the number of its process, and the node it runs on."""

    name: str
    pid: int
    node_id: str


class Deployment(Protocol):
    """What faults do to an endpoint, wherever it runs."""

    def kill(self, deployment: str, most: int) -> int:
        """SIGKILL to so many copies of a deployment at most; how many there were to kill."""

    def is_whole(self) -> bool:
        """Whether every copy of everything runs."""


def serve_config(application: str, args: Mapping[str, Any], host: str, port: int) -> dict[str, Any]:
    """What `serve deploy` is told: two groups of shards, encoder and gateway, two copies of each, never on one node."""
    names = [*(f"shards-{part}" for part in range(PROCESSES)), ENCODER, GATEWAY]
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": host, "port": port},
        "applications": [
            {
                "name": application,
                "route_prefix": "/",
                "import_path": "xhash_ray.runtime.serving:build_app",
                "args": dict(args),
                "deployments": [{"name": name, "max_replicas_per_node": 1} for name in names],
            }
        ],
    }


class LocalServe:
    """The endpoint on a local cluster.

    Args:
        cluster: It runs on.
        application: Its name.
    """

    def __init__(self, cluster: LocalCluster, application: str) -> None:
        self.cluster, self.application = cluster, application

    def deploy(self, config: Mapping[str, Any]) -> None:
        """Puts the application there; it is not up yet.

        Raises:
            XhashError: when the dashboard refuses it.
        """
        request = urllib.request.Request(
            self.cluster.dashboard + PATH,
            data=json.dumps(config).encode(),
            headers={"Content-Type": "application/json"},
            method="PUT",
        )
        try:
            urllib.request.urlopen(request, timeout=120).close()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[-500:]
            raise XhashError("deploying the endpoint", said, "See Serve's logs") from None

    def state(self) -> dict[str, Any]:
        """What Serve says of itself; empty while nobody answers."""
        try:
            told: dict[str, Any] = self.cluster.get(PATH)
        except (OSError, ValueError):
            return {}
        return told

    def deployments(self) -> dict[str, Any]:
        """Of the application, by name."""
        application = self.state().get("applications", {}).get(self.application, {})
        found: dict[str, Any] = application.get("deployments", {})
        return found

    def replicas(self, deployment: str) -> list[Replica]:
        """The copies that run."""
        listed = self.deployments().get(deployment, {}).get("replicas", [])
        return [
            Replica(each["replica_id"], each["pid"], each["node_id"])
            for each in listed
            if each["state"] == RUNNING and each.get("pid")
        ]

    def nodes_of(self, deployment: str) -> set[str]:
        """Names of the nodes that copies run on."""
        used = {replica.node_id for replica in self.replicas(deployment)}
        return {name for name, node_id in self.cluster.alive().items() if node_id in used}

    def entrances(self) -> set[str]:
        """Names of the nodes with a healthy proxy: the head, and whoever has a copy of something."""
        proxies = self.state().get("proxies", {})
        alive = self.cluster.alive().items()
        return {name for name, node_id in alive if proxies.get(node_id, {}).get("status") == HEALTHY}

    def kill(self, deployment: str, most: int = REPLICAS) -> int:
        """See `Deployment`."""
        chosen = self.replicas(deployment)[:most]
        for replica in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(replica.pid, signal.SIGKILL)
        return len(chosen)

    def is_whole(self) -> bool:
        """See `Deployment`: also all nodes, and a healthy proxy on each that has a copy of something (and the head)."""
        state = self.state()
        application = state.get("applications", {}).get(self.application, {})
        if application.get("status") != RUNNING or set(self.cluster.nodes) != set(self.cluster.alive()):
            return False
        proxies = [proxy["status"] for proxy in state.get("proxies", {}).values()]
        counts = [
            sum(replica["state"] == RUNNING for replica in each["replicas"])
            for each in application["deployments"].values()
        ]
        return set(proxies) == {HEALTHY} and all(count == REPLICAS for count in counts)

    def said(self) -> str:
        """Why it is not up, in Serve's words."""
        application = self.state().get("applications", {}).get(self.application, {})
        messages = [application.get("message", ""), *(each["message"] for each in self.deployments().values())]
        return " ".join(message for message in messages if message)[-600:] or "nothing is said"
