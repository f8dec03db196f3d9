"""The nodes of a local cluster: started, watched, killed and brought back one by one."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xhash_ray.errors import BadInput, XhashError
from xhash_ray.runtime.local import plan as local_plan
from xhash_ray.runtime.local import processes as local_processes
from xhash_ray.runtime.local import state as local_state
from xhash_ray.runtime.local.plan import HEAD, Node
from xhash_ray.runtime.local.state import State

START_S = 300.0  # 20 s where nothing else runs
ATTEMPTS, TOO_SLOW = 3, "timed out during startup"
CURRENT = "ray_current_cluster"  # Ray's note of its head; of one that was killed it says that it still runs


class Nodes:
    """Nodes that live and die each on its own.

    Attributes:
        folder: Holds the state file and each node's log.
        settings: What all nodes share.
        nodes: By name: "head", "worker-1", ...
        network: The namespaces' addresses, None without them.
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder, self.settings, self.network = folder, state.settings, state.network
        self.nodes: dict[str, Node] = dict(state.nodes)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def head(self) -> Node:
        """The node that others join."""
        return self.nodes[HEAD]

    @property
    def address(self) -> str:
        """HOST:PORT for RAY_ADDRESS."""
        return f"{self.head.address}:{self.head.ports['gcs']}"

    @property
    def dashboard(self) -> str:
        """URL for `ray job submit`, `serve deploy` and Prometheus' service discovery."""
        return f"http://{self.head.address}:{self.head.ports['dashboard']}"

    def come_up(self, names: Sequence[str]) -> None:
        """Starts nodes side by side and waits until the head believes all of them alive.

        Ray gives a raylet 30 s to start, which is little where a machine is busy: what that ended is started again.
        """
        for name in names:
            self.launch(name)
        for left in reversed(range(ATTEMPTS)):
            try:
                return self.wait_alive(names)
            except XhashError:
                slow = [name for name in names if not self.is_running(name) and TOO_SLOW in last_line(self.log(name))]
                if not slow or not left:
                    raise
                for name in slow:
                    self.kill(name)
                    self.launch(name)

    def launch(self, name: str) -> None:
        """Starts a node's process and writes down which it is."""
        node, settings = self.nodes[name], self.settings
        if node.is_head:
            (Path(settings.temp_dir) / CURRENT).unlink(missing_ok=True)
            if settings.durable_dir:
                Path(settings.durable_dir).mkdir(exist_ok=True)
        words = self.inside(name, local_plan.start_words(node, self.head, settings))
        environment = local_plan.start_environment(node, self.head, settings, os.environ)
        process = local_processes.spawn(words, self.log(name), environment)
        self.processes[name] = process
        self.nodes[name] = replace(node, pid=process.pid, started=local_processes.started_at(process.pid) or 0)
        self.write_state()

    def write_state(self) -> None:
        """Writes down what is known."""
        local_state.write(self.folder, State(self.settings, self.nodes, self.network))

    def log(self, name: str) -> Path:
        """The file with what a node's `ray start` said."""
        return self.folder / f"{name}.log"

    def inside(self, name: str, words: Sequence[str]) -> list[str]:
        """A command as it runs on a node's network; the same command without namespaces."""
        return self.network.inside(name, words) if self.network else list(words)

    def node(self, name: str) -> Node:
        """A node by name; BadInput for an unknown one."""
        if name not in self.nodes:
            raise BadInput(f"local node {name!r}", "there is none of that name", f"Known: {', '.join(self.nodes)}")
        return self.nodes[name]

    def is_running(self, name: str) -> bool:
        """Whether the process that leads a node lives."""
        node = self.node(name)
        return node.pid != 0 and local_processes.started_at(node.pid) == node.started

    def leaders(self, *names: str) -> dict[int, int]:
        """Processes that lead some nodes' sessions, of all nodes without names: number, when it began."""
        chosen = [self.nodes[name] for name in names or self.nodes]
        return {node.pid: node.started for node in chosen if node.pid}

    def alive(self) -> dict[str, str]:
        """Ray's identity of every node that the head believes alive, by name; empty when the head is silent."""
        return local_state.nodes_alive(self.dashboard, self.settings.auth)

    def get(self, path: str) -> Any:
        """JSON from the dashboard, with the token where the cluster asks for one.

        Raises:
            OSError: when it does not answer (URLError, or HTTPError for a refusal).
            ValueError: when the answer is not JSON.
        """
        return local_state.ask(self.dashboard + path, self.settings.auth)

    def wait_alive(self, names: Sequence[str], timeout_s: float = START_S) -> None:
        """Waits until the head believes some nodes alive.

        Raises:
            XhashError: when a node's process ends, or the time does.
        """

        def have_come() -> bool:
            for name in names:
                if not self.is_running(name):
                    raise XhashError(f"local node {name}", f"ended: {last_line(self.log(name))}", f"See {self.folder}")
            return set(names) <= set(self.alive())

        if not wait_for(have_come, timeout_s):
            missing = ", ".join(sorted(set(names) - set(self.alive())))
            raise XhashError(f"local nodes {missing}", f"not alive after {timeout_s:g} s", f"See {self.folder}")

    def wait_dead(self, name: str, timeout_s: float = START_S) -> None:
        """Waits until the head has noticed that a node is gone; XhashError when it does not in time."""

        def is_gone() -> bool:
            alive = self.alive()  # empty when the head is silent, which tells nothing
            return HEAD in alive and name not in alive

        if not wait_for(is_gone, timeout_s):
            raise XhashError(f"local node {name}", f"still believed alive after {timeout_s:g} s", f"See {self.folder}")

    def kill(self, name: str) -> None:
        """Takes a node's power away: SIGKILL to all of its processes. The head notices some 3 s later."""
        self.node(name)
        local_processes.kill(self.settings.token, name, self.leaders(name))
        if name in self.processes:
            self.processes.pop(name).wait()

    def restart(self, name: str, wait: bool = True) -> None:
        """Brings a dead node back, with the same name, address and ports.

        The head comes back with the cluster's state where that was kept outside of it (`redis_url`, `durable`).

        Args:
            name: The node.
            wait: Whether to return only when the head believes it alive.

        Raises:
            BadInput: for a node that runs, or a head whose state died with it.
        """
        if self.is_running(name):
            raise BadInput(f"restart of local node {name}", "it is running", "Kill it first")
        if name == HEAD and not (self.settings.redis_url or self.settings.durable_dir):
            do = "Start the cluster with redis_url or durable, or stop it and start anew"
            raise BadInput("restart of the head", "the cluster's state died with it", do)
        if name != HEAD and not self.is_running(HEAD):
            raise BadInput(f"restart of local node {name}", "the head is not running", "Restart the head first")
        self.kill(name)  # what is left of it
        if wait and name != HEAD:
            self.wait_dead(name)  # or the old one would be taken for the new one
        self.come_up([name]) if wait else self.launch(name)


def wait_for(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether a condition came true in time."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        if condition():
            return True
        time.sleep(0.3)
    return False


def last_line(log: Path) -> str:
    """The end of a log."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    return lines[-1][:200]
