"""Latency and highest rate of an endpoint: a queue in which those who wait are served together.

    caller -> gateway -> (encoder) -> all groups of one replica scan -> merged, answered

Each gateway runs one scan at a time, which at most SHARED queries share; who arrives meanwhile is in the next. So with
arrivals at a rate r, a scan of b queries that takes C(b) finds r C(b) waiting when it ends, and b settles where these
are equal. A query waits for what is left of the scan under way, evenly between 0 and C, then for its own: half of the
queries are answered within 1.5 C at most, nearly all within 2 C, whatever the load, until b reaches SHARED. C(b) is
the scan and the assembling of b answers, during which the next scan does not begin. All other work of requests happens
on the nodes that scan, and slows the scans by the share of the cores that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from xhash_ray.sizing.machine import Machine
from xhash_ray.sizing.scans import scan_s

SHARED = 32  # queries in a scan at most, as serving/router.py has it
HIT_BYTES = 40  # of a hit between a group's process and the gateway
STEPS = 50  # of a bisection


class Demand(NamedTuple):
    """What is asked.

    Attributes:
        pairs: In the index.
        bits: Of a code.
        qps: Single queries a second.
        content: What queries are: "text", "image" or "code".
    """

    pairs: int
    bits: int
    qps: float
    content: str


class Layout(NamedTuple):
    """What answers. One group: every gateway holds all pairs itself, and no hop is needed.

    Attributes:
        groups: That the shards are dealt among, each on a node of its own.
        replicas: Of each.
        gateways: Processes.
        encoders: Processes.
    """

    groups: int
    replicas: int
    gateways: int
    encoders: int

    @property
    def nodes(self) -> int:
        """Machines."""
        return self.groups * self.replicas

    @property
    def hops(self) -> int:
        """Processes that a gateway asks for one scan, other than itself."""
        return self.groups if self.groups > 1 else 0


class Costs(NamedTuple):
    """Of one request, beside its scan.

    Attributes:
        alone_s: Latency where nobody else asks.
        gateway_cpu_s: In the gateway's process, which uses one core.
        encoder_cpu_s: In the encoder's, which uses all.
        cpu_s: On all nodes, beside scans and the answers after them.
    """

    alone_s: float
    gateway_cpu_s: float
    encoder_cpu_s: float
    cpu_s: float


class Expected(NamedTuple):
    """At a rate.

    Attributes:
        batch: Queries that share a scan, in the mean.
        busy: Share of the time in which a scan is under way.
        scan_s: Of a scan, on nodes that do nothing else.
        cycle_s: From one scan's start to the next one's.
        p50_s: Within which half of the queries are answered.
        p99_s: Within which 99 of 100 are; arrivals that come in bursts take longer.
    """

    batch: float
    busy: float
    scan_s: float
    cycle_s: float
    p50_s: float
    p99_s: float


def costs(machine: Machine, content: str, layout: Layout, caller_cpu_s: float = 0.0) -> Costs:
    """What a request costs.

    Args:
        machine: Measured.
        content: "text", "image" or "code"; codes need no encoder.
        layout: Of the endpoint.
        caller_cpu_s: CPU seconds of the caller, where callers share the nodes' cores.
    """
    times = {"text": (machine.text_s, machine.text_cpu_s), "image": (machine.image_s, machine.image_cpu_s)}
    encode_s, encode_cpu_s = times.get(content, (0.0, 0.0))
    hop = content in times
    answering = 0.0 if layout.hops else machine.answer_s
    requests = machine.request_cpu_s + layout.hops * machine.group_cpu_s + hop * machine.encoder_gateway_cpu_s
    encoder = encode_cpu_s + hop * machine.encoder_own_cpu_s
    alone_s = machine.request_s + encode_s + hop * machine.encoder_s
    groups = layout.hops * machine.group_own_cpu_s
    return Costs(alone_s, requests + answering, encoder, requests + encoder + groups + caller_cpu_s)


def cycle_s(machine: Machine, demand: Demand, layout: Layout, cost: Costs, batch: float) -> float:
    """Seconds from one scan's start to the next one's in the same gateway; infinite where requests take all cores."""
    taken = demand.qps * cost.cpu_s / (layout.nodes * machine.cores)
    if taken >= 1:
        return math.inf
    turns = math.ceil(layout.gateways / layout.replicas)  # gateways that share a replica take turns
    scan = scan_s(machine, demand.bits, demand.pairs / layout.groups, batch)
    return turns * (scan / (1 - taken) + batch * machine.answer_s) + (machine.group_s if layout.hops else 0.0)


def expected(machine: Machine, demand: Demand, layout: Layout, caller_cpu_s: float = 0.0) -> Expected | None:
    """What a query can expect; None where more arrive than can be answered. Arguments as of `costs`."""
    cost, rate = costs(machine, demand.content, layout, caller_cpu_s), demand.qps / layout.gateways

    def cycle(batch: float) -> float:
        return cycle_s(machine, demand, layout, cost, batch)

    working = rate * cost.gateway_cpu_s
    if working >= 1 or rate * cycle(SHARED) > SHARED:
        return None
    batch = max(1.0, highest(lambda batch: rate * cycle(batch) > batch, SHARED))
    whole_s, alone_s = cycle(batch), cost.alone_s / (1 - working)
    busy = min(1.0, rate * whole_s / batch)
    waits = [whole_s * max(0.0, 1 - (1 - share) / busy) for share in (0.5, 0.99)]
    scan = scan_s(machine, demand.bits, demand.pairs / layout.groups, batch)
    return Expected(batch, busy, scan, whole_s, *(alone_s + wait + whole_s for wait in waits))


def limits(machine: Machine, demand: Demand, layout: Layout, caller_cpu_s: float = 0.0) -> dict[str, float]:
    """Queries a second at which each part is full, by its name; the demand's own rate does not count."""
    cost = costs(machine, demand.content, layout, caller_cpu_s)

    def keeps_up(qps: float) -> bool:
        return qps / layout.gateways * cycle_s(machine, demand._replace(qps=qps), layout, cost, SHARED) <= SHARED

    found = {
        "scans": highest(keeps_up, layout.nodes * machine.cores / cost.cpu_s),
        "gateways": layout.gateways / cost.gateway_cpu_s,
    }
    if demand.content != "code":
        found["encoders"] = layout.encoders * machine.cores / cost.encoder_cpu_s
    if machine.network_bytes_per_s:
        sent = machine.answer_bytes + layout.hops * machine.k * HIT_BYTES
        found["network"] = min(layout.gateways, layout.nodes) * machine.network_bytes_per_s / sent
    return found


def highest(keeps_up: Callable[[float], bool], above: float) -> float:
    """The highest rate at which something keeps up, by bisection between 0 and a rate at which it does not."""
    low, high = 0.0, above
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps_up(middle) else (low, middle)
    return low


def closed_loop(
    machine: Machine, demand: Demand, layout: Layout, callers: int, caller_cpu_s: float
) -> tuple[float, float]:
    """Queries a second and the median seconds of callers who each ask again when they have their answer.

    As many are under way as there are callers: the rate is where rate times latency equals that, or the highest.
    """

    def under_way(qps: float) -> float:
        found = expected(machine, demand._replace(qps=qps), layout, caller_cpu_s)
        return found.p50_s * qps if found else math.inf

    most = min(limits(machine, demand, layout, caller_cpu_s).values())
    qps = highest(lambda rate: under_way(rate) <= callers, most)
    return qps, callers / qps
