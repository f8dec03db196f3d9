"""Network namespaces for a local cluster: every node an address of its own on a bridge, to be slowed down and cut off.

    root namespace:  bridge PREFIX (10.231.N.254) ── PREFIX-h0 ┐   veth pair
    node namespace:                  eth0 (10.231.N.1), lo     ┘

Linux and root only. Everything that is made carries the prefix, so what a crash left behind is found and removed.
"""

from __future__ import annotations

import math
import os
import random
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from xhash_ray.errors import BadInput, XhashError

SUBNET = "10.231"
BRIDGE_HOST = 254
INSIDE = "eth0"
BURST = "64kb"  # one segment as TCP hands it to the wire
ASKED = "local cluster with network namespaces"


@dataclass(frozen=True)
class Network:
    """Names and addresses of a bridge and the namespaces on it.

    Attributes:
        prefix: Of every name; also the bridge's.
        third: Third number of all addresses.
        names: Nodes, in the order of their addresses.
    """

    prefix: str
    third: int
    names: Sequence[str]

    @property
    def gateway(self) -> str:
        """The bridge's own address: where servers of the root namespace must listen for nodes to reach them."""
        return f"{SUBNET}.{self.third}.{BRIDGE_HOST}"

    def address(self, name: str) -> str:
        """A node's address."""
        return f"{SUBNET}.{self.third}.{self.names.index(name) + 1}"

    def namespace(self, name: str) -> str:
        """A node's namespace."""
        return f"{self.prefix}-{name}"

    def outside(self, name: str) -> str:
        """The end of a node's wire that is plugged into the bridge; links have at most 15 characters."""
        return f"{self.prefix}-h{self.names.index(name)}"

    def detour(self, name: str) -> str:
        """The link on the bridge's side of the gap that a slow wire fills."""
        return f"{self.prefix}-x{self.names.index(name)}"

    def plugged(self, name: str) -> str:
        """Its other end, on the bridge."""
        return f"{self.prefix}-w{self.names.index(name)}"

    def inside(self, name: str, words: Sequence[str]) -> list[str]:
        """A command, as it runs in a node's namespace."""
        return ["ip", "netns", "exec", self.namespace(name), *words]


def check_possible() -> None:
    """Raises BadInput where namespaces cannot be had: not root, no `ip` or `tc`, a kernel without them."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise BadInput(ASKED, "this is not root", "Run as root, or leave the namespaces away")
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            raise BadInput(ASKED, f"no program `{program}`", "Install iproute2")
    probe = f"xrp{os.getpid()}"
    try:
        run("ip", "netns", "add", probe)
    except XhashError as error:
        raise BadInput(ASKED, error.found, "Run where namespaces are allowed, or leave them away") from None
    run("ip", "netns", "del", probe)


def run(*words: str) -> str:
    """Output of a command of iproute2.

    Raises:
        XhashError: with its first line of complaint.
    """
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise XhashError(" ".join(words), said[0], "See what the kernel and this user may do")
    return done.stdout


def plan_network(token: str, names: Sequence[str]) -> Network:
    """Names, and a subnet that no link of this machine is in."""
    taken = {int(third) for third in re.findall(rf"{re.escape(SUBNET)}\.(\d+)\.", run("ip", "-4", "-o", "address"))}
    free = [third for third in range(256) if third not in taken]
    return Network(f"xr{token[:6]}", random.SystemRandom().choice(free), list(names))


def create(network: Network) -> None:
    """Makes the bridge, and a namespace with a wire to it for every node; removes all of it again when one fails."""
    try:
        run("ip", "link", "add", network.prefix, "type", "bridge")
        run("ip", "address", "add", f"{network.gateway}/24", "dev", network.prefix)
        run("ip", "link", "set", network.prefix, "up")
        for name in network.names:
            add_node(network, name)
    except XhashError:
        remove(network.prefix)
        raise


def add_node(network: Network, name: str) -> None:
    """A namespace, its loopback and its wire to the bridge."""
    namespace, outside = network.namespace(name), network.outside(name)
    run("ip", "netns", "add", namespace)
    run("ip", "link", "add", outside, "type", "veth", "peer", "name", INSIDE, "netns", namespace)
    run("ip", "link", "set", outside, "master", network.prefix, "up")
    run("ip", "-n", namespace, "link", "set", "lo", "up")
    run("ip", "-n", namespace, "address", "add", f"{network.address(name)}/24", "dev", INSIDE)
    run("ip", "-n", namespace, "link", "set", INSIDE, "up")
    run("ip", "-n", namespace, "route", "add", "default", "via", network.gateway)


def leftovers(prefix: str) -> tuple[list[str], list[str]]:
    """Namespaces and links whose names begin with a prefix."""
    namespaces = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.startswith(prefix)]
    links = re.findall(r"^\d+: ([^:@]+)", run("ip", "-o", "link"), re.MULTILINE)
    return namespaces, [link for link in links if link.startswith(prefix)]


def remove(prefix: str) -> None:
    """Removes namespaces, wires and the bridge; what is not there is not missed."""
    namespaces, links = leftovers(prefix)
    for namespace in namespaces:
        run("ip", "netns", "del", namespace)
    for link in links:
        subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)  # a wire goes with its other end


def cut(network: Network, name: str) -> None:
    """Unplugs a node from the bridge: what it sends is lost without a word, as in a partition."""
    run("ip", "link", "set", network.outside(name), "nomaster")
    subprocess.run(["ip", "link", "set", network.plugged(name), "nomaster"], capture_output=True, check=False)


def mend(network: Network, name: str) -> None:
    """Plugs a node in again, and lets it send as fast as it can."""
    for where in ends(network, name):  # complains where nothing was set
        subprocess.run(["tc", *qdisc("del", where)], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", network.detour(name)], capture_output=True, check=False)
    run("ip", "link", "set", network.outside(name), "master", network.prefix, "arp", "on")


def delay(network: Network, name: str, ms: float, loss_percent: float) -> bool:
    """Delays and loses packets at both ends of a node's wire; False where the kernel has no netem."""
    words = ("delay", f"{ms:g}ms", "loss", f"{loss_percent:g}%")
    if not has_discipline("netem", *words):
        return False
    for where in ends(network, name):
        run("tc", *qdisc("replace", where), "netem", *words)
    return True


def insert_detour(network: Network, name: str) -> tuple[str, str]:
    """Leads a node's wire to the bridge through a gap of two links, which somebody must carry frames across.

    Returns:
        The links on both sides of the gap. This machine itself answers nothing on them.
    """
    near, far, plugged = network.outside(name), network.detour(name), network.plugged(name)
    run("ip", "link", "add", far, "type", "veth", "peer", "name", plugged)
    run("ip", "link", "set", near, "nomaster", "arp", "off")
    run("ip", "link", "set", far, "arp", "off", "up")
    run("ip", "link", "set", plugged, "master", network.prefix, "up")
    return near, far


def throttle(network: Network, name: str, kbit_per_s: float) -> None:
    """Limits what both ends of a node's wire send; what waits for more than two seconds is lost.

    Raises:
        BadInput: for a rate that is none; where the kernel has no token bucket filter.
    """
    if not 0 < kbit_per_s < math.inf:
        raise BadInput(f"narrow network of node {name}", f"{kbit_per_s:g} kbit/s", "Give a number above 0")
    words = ("rate", f"{kbit_per_s:g}kbit", "burst", BURST, "latency", "2s")
    if not has_discipline("tbf", *words):
        do = "Load the module sch_tbf, or use a machine that has it"
        raise BadInput(f"narrow network of node {name}", "this kernel has no token bucket filter", do)
    for where in ends(network, name):
        run("tc", *qdisc("replace", where), "tbf", *words)


def ends(network: Network, name: str) -> list[tuple[list[str], str]]:
    """Both ends of a node's wire: where `tc` finds it, and its name there."""
    return [([], network.outside(name)), (["-n", network.namespace(name)], INSIDE)]


def qdisc(verb: str, where: tuple[list[str], str]) -> list[str]:
    """`tc`'s words for what an end sends."""
    options, device = where
    return [*options, "qdisc", verb, "dev", device, "root"]


def has_discipline(kind: str, *words: str) -> bool:
    """Whether the kernel knows a queueing discipline with some settings: tried on a link that leads nowhere."""
    probe = f"xrn{os.getpid()}"
    run("ip", "link", "add", probe, "type", "veth", "peer", "name", f"{probe}p")
    try:
        run("tc", "qdisc", "add", "dev", probe, "root", kind, *words)
    except XhashError:
        return False
    finally:
        run("ip", "link", "del", probe)
    return True
