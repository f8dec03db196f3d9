"""A Ray cluster of several raylets on one machine, each of which can be killed and brought back on its own.

Every node is a `ray start --block` in a session of its own with fixed ports. Without network namespaces all nodes
share 127.0.0.1. Serve's proxies of all nodes then share port 8000 as well (SO_REUSEPORT), a request lands on any of
them, and one that dies takes its share along: deploy with `proxy_location: HeadOnly`. With namespaces (root) every
node has an address of its own, and can be slowed down and cut off; drivers then run inside one (`inside`), and servers
that they need listen on `gateway`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from xhash_ray.errors import BadInput, XhashError
from xhash_ray.runtime.local import network as local_network
from xhash_ray.runtime.local import plan as local_plan
from xhash_ray.runtime.local import processes as local_processes
from xhash_ray.runtime.local import state as local_state
from xhash_ray.runtime.local import wire as local_wire
from xhash_ray.runtime.local.network import Network
from xhash_ray.runtime.local.nodes import START_S, Nodes, last_line, wait_for
from xhash_ray.runtime.local.plan import HEAD, Settings
from xhash_ray.runtime.local.processes import MARK
from xhash_ray.runtime.local.state import STATE_FILE, State

LOOPBACK = "127.0.0.1"
GATEWAY = "{gateway}"  # in redis_url and in values of the environment: this machine's address as nodes see it


class LocalCluster(Nodes):
    """A running cluster; ends with its `with` block, or with `stop`. Attributes as of `Nodes`."""

    def __init__(self, folder: Path, state: State) -> None:
        super().__init__(folder, state)
        self.wires: dict[str, subprocess.Popen[bytes]] = {}

    @classmethod
    def start(
        cls,
        folder: str,
        workers: int = 3,
        cpus: int = 4,
        namespaces: bool = False,
        redis_url: str | None = None,
        environment: Mapping[str, str] | None = None,
        object_store_mb: int = 150,
        *,
        head_cpus: int | None = None,
        durable: bool = False,
        auth: str = "disabled",
        port: int | None = None,
        dashboard_port: int | None = None,
    ) -> LocalCluster:
        """Starts head and workers, and returns when all of them are alive.

        Args:
            folder: For the state file and the nodes' logs; made when absent. One cluster per folder.
            workers: Nodes beside the head, 0 or more.
            cpus: Logical CPUs of each worker; more than the machine has is fine.
            namespaces: Whether every node gets a network namespace (root and iproute2).
            redis_url: HOST:PORT of a Redis that keeps the head's state; `restart("head")` needs it, or `durable`.
            environment: Further variables of every node; they stand in the state file, which only its owner reads.
                `{gateway}` in them and in redis_url becomes this machine's address as nodes see it.
            object_store_mb: Shared memory per node, MiB.
            head_cpus: Logical CPUs of the head; those of a worker when left out.
            durable: Whether the head keeps its state on disk (in RocksDB, which Ray calls experimental).
            auth: RAY_AUTH_MODE: "disabled", or "token" for clusters that people use.
            port: The cluster's port (GCS); a free one when left out.
            dashboard_port: Likewise the dashboard's.

        Raises:
            BadInput: for numbers out of range, a cluster that runs in this folder, a port that is taken, no `ray`, or
                namespaces where they cannot be had.
            XhashError: when a node does not start; everything that did is ended again.
        """
        local_plan.check_numbers(workers, cpus, object_store_mb, auth, [port, dashboard_port])
        home = Path(folder).absolute()
        fixed = {name: number for name, number in (("gcs", port), ("dashboard", dashboard_port)) if number is not None}
        check_machine(home, namespaces, auth, fixed)
        token, names = secrets.token_hex(6), local_plan.node_names(workers)
        network = local_network.plan_network(token, names) if namespaces else None
        addresses = {name: network.address(name) if network else LOOPBACK for name in names}
        nodes = local_plan.plan_nodes(addresses, cpus, cpus if head_cpus is None else head_cpus, fixed)
        gateway = network.gateway if network else LOOPBACK
        told = {name: value.replace(GATEWAY, gateway) for name, value in (environment or {}).items()}
        make_folder(home)
        settings = Settings(
            token=token,
            temp_dir=tempfile.mkdtemp(prefix="xr-", dir="/tmp"),  # short: the paths of Ray's sockets end at 107 bytes
            auth=auth,
            object_store_mb=object_store_mb,
            redis_url=(redis_url or "").replace(GATEWAY, gateway),
            durable_dir=str(home / "gcs") if durable and not redis_url else "",
            environment=local_plan.network_environment(namespaces) | told,
        )
        made = cls(home, State(settings, {node.name: node for node in nodes}, network))
        made.bring_up()
        return made

    @classmethod
    def attach(cls, folder: str) -> LocalCluster:
        """The cluster that another process started in a folder.

        Raises:
            BadInput: when there is none.
        """
        home = Path(folder).absolute()
        state = local_state.read(home)
        if state is None:
            raise BadInput(f"local cluster in {home}", "none was started there", "Start it, or name its folder")
        return cls(home, state)

    @property
    def temp_dir(self) -> str:
        """Ray's folder of sessions: logs, and the file by which Prometheus finds nodes."""
        return self.settings.temp_dir

    @property
    def gateway(self) -> str:
        """This machine's address as nodes see it: where servers that they need must listen."""
        return self.network.gateway if self.network else LOOPBACK

    def bring_up(self) -> None:
        """Starts everything; ends it again when a part fails."""
        try:
            self.write_state()  # before anything exists: what a crash leaves behind is found by it
            if self.network:
                local_network.create(self.network)
            self.come_up([HEAD])
            self.come_up([name for name in self.nodes if name != HEAD])
        except BaseException:
            self.stop()
            raise

    def delay(self, name: str, ms: float, loss_percent: float = 0.0) -> None:
        """Delays every packet to and from a node by so many milliseconds each way, and loses some of them.

        By the kernel (netem), or, where it cannot, by a process that packets are led through.

        Raises:
            BadInput: without namespaces, or for numbers that cannot be meant.
        """
        network = self.networked()
        local_plan.check_delay(self.node(name).name, ms, loss_percent)
        self.heal(name)
        if not local_network.delay(network, name, ms, loss_percent):
            self.lead_through_process(network, name, ms, loss_percent)

    def lead_through_process(self, network: Network, name: str, ms: float, loss_percent: float) -> None:
        """Starts a slow wire, and returns when it carries."""
        links = local_network.insert_detour(network, name)
        words = [sys.executable, "-m", local_wire.__name__, *links, f"{ms:g}", f"{loss_percent:g}"]
        mark = {**os.environ, MARK: f"{self.settings.token}/wire-{name}"}
        self.wires[name] = local_processes.spawn(words, self.log("wire"), mark)
        wire = self.wires[name]
        ended_or_carries = wait_for(lambda: wire.poll() is not None or local_wire.is_carried(*links), START_S)
        if not ended_or_carries or wire.poll() is not None:
            raise XhashError(f"delay of local node {name}", last_line(self.log("wire")), f"See {self.folder}")

    def throttle(self, name: str, kbit_per_s: float) -> None:
        """Makes a node's network narrow in both directions; queues grow, and with them delays up to two seconds.

        Raises:
            BadInput: without namespaces, or where the kernel has no token bucket filter.
        """
        local_network.throttle(self.networked(), self.node(name).name, kbit_per_s)

    def partition(self, name: str) -> None:
        """Cuts a node off: its processes live, nothing reaches it or comes from it."""
        local_network.cut(self.networked(), self.node(name).name)

    def heal(self, name: str) -> None:
        """Ends what was done to a node's network. One that was believed dead meanwhile ends itself: restart it."""
        local_network.mend(self.networked(), self.node(name).name)
        local_processes.kill(self.settings.token, f"wire-{name}")
        if name in self.wires:
            self.wires.pop(name).wait()

    def networked(self) -> Network:
        """The network; BadInput without namespaces."""
        if self.network is None:
            raise BadInput("a local node with a bad network", "all nodes share one address", "Start with namespaces")
        return self.network

    def stop(self) -> None:
        """Ends every process of the cluster and removes what it made: namespaces, Ray's folder, the state file."""
        for name in self.nodes if self.network else ():
            local_processes.kill(self.settings.token, f"wire-{name}")
        local_processes.end(self.settings.token, self.leaders())
        for process in (*self.processes.values(), *self.wires.values()):
            process.wait()
        self.processes.clear()
        self.wires.clear()
        if self.network:
            local_network.remove(self.network.prefix)
        for made in filter(None, (self.settings.temp_dir, self.settings.durable_dir)):
            shutil.rmtree(made, ignore_errors=True)
        (self.folder / STATE_FILE).unlink(missing_ok=True)

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def check_machine(home: Path, namespaces: bool, auth: str, fixed: Mapping[str, int]) -> None:
    """Refuses what this machine cannot do, and makes what is missing for what it can."""
    ray = local_plan.ray_program()
    if namespaces:
        local_network.check_possible()
    make_way(home)
    if not namespaces:
        local_plan.check_free(fixed)
    if auth == "token":
        make_token(ray)


def make_folder(folder: Path) -> None:
    """Makes the folder of state and logs; BadInput where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        do = "Name a folder of yours with --folder"
        raise BadInput(f"local cluster in {folder}", f"it cannot be made ({error.strerror})", do) from None


def make_way(folder: Path) -> None:
    """Refuses a folder whose cluster runs (BadInput); removes what one left behind that has died."""
    state = local_state.read(folder)
    if state is None:
        return
    if running := local_state.living(state):
        raise BadInput(f"local cluster in {folder}", f"already running, processes {running}", "Stop it first")
    LocalCluster(folder, state).stop()


def make_token(ray: str) -> None:
    """Makes the token of the person who runs this, unless there is one.

    Raises:
        XhashError: when Ray cannot write it.
    """
    done = subprocess.run([ray, "get-auth-token", "--generate"], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise XhashError("Ray's token", said[:200], "See that ~/.ray can be written, or set RAY_AUTH_TOKEN")
