"""From a demand to the fewest machines: what memory, load and latency each ask for, and the largest of the three."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from xhash_ray.errors import BadInput
from xhash_ray.sizing import memory
from xhash_ray.sizing.machine import Machine
from xhash_ray.sizing.serving import Demand, Expected, Layout, costs, expected, limits

PLANNED = 0.7  # of what each part can do: bursts, and a node that is away, need the rest
MOST_GROUPS, MOST_REPLICAS = 4096, 64  # the latter times as many as were asked for
MEMORY_BOUND = 0.6  # of the bandwidth: a scan that uses more waits for memory rather than for the cores


class Needs(NamedTuple):
    """Beside the demand.

    Attributes:
        replicas: Of every group of shards, at least.
        latency_s: Within which 99 of 100 queries shall be answered; None: whenever.
        changed: Share of the pairs that a swap of generations holds twice.
        filters: Different ones that are kept.
    """

    replicas: int
    latency_s: float | None
    changed: float
    filters: int


class Choice(NamedTuple):
    """What is to be set up.

    Attributes:
        layout: Of the endpoint.
        groups_by: Groups of shards that memory, load and latency each ask for; those not asked about are missing.
        expected: At the demanded rate.
        limits: Queries a second at which each part is full.
    """

    layout: Layout
    groups_by: dict[str, int]
    expected: Expected
    limits: dict[str, float]

    @property
    def decided_by(self) -> str:
        """What asks for the most groups."""
        return max(self.groups_by, key=lambda name: self.groups_by[name])

    @property
    def full_first(self) -> str:
        """The part that is full first when the load grows."""
        return min(self.limits, key=lambda name: self.limits[name])


def choose(machine: Machine, demand: Demand, needs: Needs) -> Choice:
    """The fewest nodes that hold the pairs, carry the load and answer in time; of equals those that answer sooner.

    The same nodes can be many groups or many replicas. Groups make every scan shorter, but each costs gateways work;
    gateways beyond one per replica do not share scans with each other. So both are tried.

    Raises:
        BadInput: when no number of nodes does.
    """
    alone_s = costs(machine, demand.content, Layout(1, 1, 1, 1)).alone_s
    if needs.latency_s is not None and alone_s >= needs.latency_s:
        found = f"a request takes {alone_s * 1e3:.1f} ms beside its scan"
        raise BadInput(f"--latency-ms {needs.latency_s * 1e3:g}", found, "Allow more, or ask by what is encoded sooner")
    best: Choice | None = None
    refused = None
    for replicas in replicas_tried(needs.replicas):
        try:
            choice = choose_groups(machine, demand, needs._replace(replicas=replicas))
        except BadInput as error:
            refused = refused or error
            continue
        if best is None or rank(choice) < rank(best):
            best = choice
        if (replicas + 1) * choice.groups_by["memory"] > best.layout.nodes:
            break  # more replicas cannot be fewer nodes
    if best is None:
        raise refused or AssertionError("something was tried")
    return best


def replicas_tried(least: int) -> Iterator[int]:
    """Numbers of replicas, ever farther apart."""
    tried = least
    while tried <= MOST_REPLICAS * least:
        yield tried
        tried = max(tried + 1, tried * 9 // 8)


def rank(choice: Choice) -> tuple[int, float]:
    """What makes one choice better than another."""
    return choice.layout.nodes, choice.expected.p99_s


def choose_groups(machine: Machine, demand: Demand, needs: Needs) -> Choice:
    """The fewest groups with a given number of replicas. Errors as of `choose`."""
    wanted: dict[str, Callable[[Layout], bool]] = {
        "memory": lambda layout: fits_memory(machine, demand, layout, needs),
        "load": lambda layout: fits_load(machine, demand, layout),
    }
    if needs.latency_s is not None:
        wanted["latency"] = lambda layout: fits_latency(machine, demand, layout, needs)
    groups_by = {name: first(machine, demand, needs, name, fits) for name, fits in wanted.items()}
    most = max(groups_by.values())
    groups = first(machine, demand, needs, "all of it", lambda each: all(fits(each) for fits in wanted.values()), most)
    layout = layout_of(machine, demand, needs.replicas, groups)
    at_rate = expected(machine, demand, layout)
    if at_rate is None:
        raise AssertionError("a layout that carries the load answers it")
    return Choice(layout, groups_by, at_rate, limits(machine, demand, layout))


def first(
    machine: Machine, demand: Demand, needs: Needs, why: str, fits: Callable[[Layout], bool], least: int = 1
) -> int:
    """The smallest number of groups that fits: doubled until one does, then halved in between.

    Raises:
        BadInput: where none does.
    """

    def good(groups: int) -> bool:
        return fits(layout_of(machine, demand, needs.replicas, groups))

    low, high = least - 1, least
    while not good(high):
        low, high = high, 2 * high
        if high > MOST_GROUPS:
            found = f"{why} asks for more than {MOST_GROUPS:,} groups of shards of {needs.replicas} replicas"
            do = "Take more replicas, fewer bits, or stronger machines"
            raise BadInput(f"a plan for {demand.pairs:,} pairs and {demand.qps:g} queries/s", found, do)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high


def layout_of(machine: Machine, demand: Demand, replicas: int, groups: int) -> Layout:
    """Groups, and as many gateways and encoders as carry the load; every replica needs a gateway to be of use."""
    layout = Layout(groups, replicas, replicas, 1)
    cost = costs(machine, demand.content, layout)
    gateways = replicas if groups == 1 else max(replicas, math.ceil(demand.qps * cost.gateway_cpu_s / PLANNED))
    encoders = max(min(2, replicas), math.ceil(demand.qps * cost.encoder_cpu_s / machine.cores / PLANNED))
    return layout._replace(gateways=gateways, encoders=encoders)


def fits_memory(machine: Machine, demand: Demand, layout: Layout, needs: Needs) -> bool:
    """Whether a node holds its group, through a swap."""
    each = memory.held(machine, demand.bits, demand.pairs / layout.groups, needs.changed, needs.filters)
    return each.total <= memory.usable(machine.memory_bytes)


def fits_load(machine: Machine, demand: Demand, layout: Layout) -> bool:
    """Whether no part is fuller than planned."""
    return all(demand.qps <= PLANNED * most for most in limits(machine, demand, layout).values())


def fits_latency(machine: Machine, demand: Demand, layout: Layout, needs: Needs) -> bool:
    """Whether nearly all queries are answered in time."""
    found = expected(machine, demand, layout)
    return found is not None and needs.latency_s is not None and found.p99_s <= needs.latency_s
