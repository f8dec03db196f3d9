"""The figures of a plan in words: each with its unit, and with what it was computed from."""

from __future__ import annotations

import math
from typing import NamedTuple

from xhash_ray.options import Plan
from xhash_ray.sizing import memory
from xhash_ray.sizing.choosing import MEMORY_BOUND, PLANNED, Choice
from xhash_ray.sizing.machine import Machine
from xhash_ray.sizing.scans import measured_for, of_bandwidth, scan_s, words
from xhash_ray.sizing.serving import SHARED, Demand, costs

GB = 1e9
HOURS_PER_MONTH = 730
SEGMENT_ROWS, CUT_ROWS = 4_000_000, 2_000_000  # of a file that index/build.py writes


class Line(NamedTuple):
    """A result.

    Attributes:
        what: It is.
        value: With its unit.
        how: It was computed, with the inputs.
    """

    what: str
    value: str
    how: str


def bound(machine: Machine, demand: Demand, choice: Choice) -> str:
    """What is full first when the load grows, in words."""
    words_of = {"gateways": "CPU of the gateways", "encoders": "CPU of the encoders", "network": "network"}
    if choice.full_first != "scans":
        return words_of[choice.full_first]
    cost, most = costs(machine, demand.content, choice.layout), choice.limits["scans"]
    if most * cost.cpu_s / (choice.layout.nodes * machine.cores) > 0.5:
        return "CPU of the requests, on the nodes that scan"
    by_memory = of_bandwidth(machine, demand.bits, demand.pairs, SHARED) >= MEMORY_BOUND
    return "memory bandwidth of the scans" if by_memory else "CPU of the scans"


def serving_lines(machine: Machine, demand: Demand, choice: Choice) -> list[Line]:
    """How many machines, and why."""
    layout = choice.layout
    asked = ", ".join(f"{name} {count:,}" for name, count in choice.groups_by.items())
    full = ", ".join(f"{name} {value:,.0f}" for name, value in choice.limits.items())
    holders = "each holds all pairs itself" if layout.groups == 1 else f"{layout.gateways} gateways ask all groups"
    cost = costs(machine, demand.content, layout)
    request = f"{cost.gateway_cpu_s * 1e3:.2f} ms of CPU a request"
    encoded = f"{cost.encoder_cpu_s * 1e3:.2f} ms of CPU a {demand.content}"
    return [
        Line("nodes", f"{layout.nodes:,}", f"{layout.groups:,} groups of shards x {layout.replicas} replicas"),
        Line("groups", f"{layout.groups:,}", f"the most of: {asked}; {machine.cores} cores a node"),
        Line("gateways", f"{layout.gateways:,}", f"{holders}; {request}, {PLANNED:.0%} of a core planned"),
        Line("encoders", f"{layout.encoders:,}", encoded),
        Line("highest rate", f"{min(choice.limits.values()):,.0f} queries/s", f"{full}; {PLANNED:.0%} of it planned"),
        Line("full first", bound(machine, demand, choice), "when the load grows"),
    ]


def memory_lines(machine: Machine, options: Plan, choice: Choice, held: memory.Held) -> list[Line]:
    """What a node holds, and how long it loads."""
    pairs, each = options.pairs / choice.layout.groups, memory.code_bytes(options.bits)
    usable, factor = memory.usable(machine.memory_bytes), machine.resident_per_code_byte
    used = f"of {usable / GB:.1f} GB = {memory.USED:.0%} of {machine.memory_bytes / GB:.1f} GB"
    return [
        Line("memory a node", f"{held.total / GB:.2f} GB", used),
        Line("  codes", f"{held.codes / GB:.2f} GB", f"{pairs:,.0f} pairs x {each} bytes, both ways, x {factor:.3f}"),
        Line("  swap", f"{held.swap / GB:.2f} GB", f"{options.changed:.0%} of the segments twice (--changed)"),
        Line("  filters", f"{held.filters / GB:.2f} GB", f"{options.filters} kept, a byte a pair each (--filters)"),
        Line("  process", f"{held.process / GB:.2f} GB", "measured, without codes"),
        Line(
            "loading a node",
            f"{pairs * each / machine.load_bytes_per_s:,.1f} s",
            f"codes / {machine.load_bytes_per_s / GB:.2f} GB/s, checked; a slower disk or network takes longer",
        ),
    ]


def latency_lines(machine: Machine, demand: Demand, choice: Choice) -> list[Line]:
    """How long an answer takes at the demanded rate."""
    pairs, found = demand.pairs / choice.layout.groups, choice.expected
    one_s = scan_s(machine, demand.bits, pairs, 1)
    measured_bits = measured_for(machine, demand.bits)[0].bits
    scaled = "" if words(measured_bits) == words(demand.bits) else f", scaled from {measured_bits} bits"
    share = of_bandwidth(machine, demand.bits, pairs, 1)
    alone_s = costs(machine, demand.content, choice.layout).alone_s
    encoded = "" if demand.content == "code" else f", encoding a {demand.content} by {machine.model}"
    hop = f", {machine.group_s * 1e3:.1f} ms to the groups and back" if choice.layout.hops else ""
    return [
        Line("one query's scan", f"{one_s * 1e3:.2f} ms", f"{pairs:,.0f} codes; {share:.0%} of the bandwidth{scaled}"),
        Line(
            "shared scan",
            f"{found.cycle_s * 1e3:.2f} ms",
            f"{found.batch:.1f} queries share it at {demand.qps:g} queries/s, busy {found.busy:.0%} of the time{hop}",
        ),
        Line(
            "beside the scan",
            f"{alone_s * 1e3:.2f} ms",
            f"HTTP, gateway{encoded}",
        ),
        Line("latency, p50", f"{found.p50_s * 1e3:.1f} ms", "beside the scan + half the wait for a scan + a scan"),
        Line("latency, p99", f"{found.p99_s * 1e3:.1f} ms", "the same with the whole wait; bursts take longer"),
    ]


def storage_lines(machine: Machine, options: Plan, choice: Choice, stored: float, price: float | None) -> list[Line]:
    """What lies in object storage, what making it takes, what it costs."""
    build_s = options.pairs / (machine.build_pairs_per_s * machine.cores)
    encode_s = options.pairs / machine.encode_pairs_per_s
    segments, cuts = math.ceil(options.pairs / SEGMENT_ROWS), math.ceil(options.pairs / CUT_ROWS)
    per_pair = f"{memory.code_bytes(options.bits)} + {memory.OFFSET_BYTES} + {options.id_bytes:g}"
    puts, gets, replicas = 2 * segments + cuts, segments * choice.layout.replicas, choice.layout.replicas
    written = f"{cuts:,} cuts, {segments:,} segments and as many notes{at(puts, machine.price_per_1000_puts)}"
    read = f"{segments:,} segments x {replicas} replicas{at(gets, machine.price_per_1000_gets)}"
    built = f"on one node, {machine.build_pairs_per_s:,.0f} pairs/s a core x {machine.cores}"
    priced = f"{choice.layout.nodes:,} nodes x {machine.price_per_hour or 0:g} x {HOURS_PER_MONTH} hours, and storage"
    return [
        Line("object storage", f"{stored / GB:,.1f} GB", f"pairs x ({per_pair} + {options.metadata_bytes:g}) bytes"),
        Line("requests of a build", f"{puts:,} PUTs", written),
        Line("requests of a load", f"{gets:,} GETs", read),
        Line("encoding features", hours(encode_s), f"on one node, {machine.encode_pairs_per_s:,.0f} pairs/s"),
        Line("building the index", hours(build_s), built),
        Line("cost a month", "not known", "no price_per_hour in the machine file")
        if price is None
        else Line("cost a month", f"{price:,.2f}", priced),
    ]


def at(requests: int, price_per_1000: float | None) -> str:
    """What requests cost, in words; nothing where no price is known."""
    return "" if price_per_1000 is None else f"; {requests / 1000 * price_per_1000:,.2f} in all"


def hours(seconds: float) -> str:
    """A time in hours, short ones in seconds."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds:,.0f} s"


def price_per_month(machine: Machine, nodes: int, stored_bytes: float) -> float | None:
    """Nodes and storage; None where the file has no price of a node."""
    if machine.price_per_hour is None:
        return None
    return nodes * machine.price_per_hour * HOURS_PER_MONTH + stored_bytes / GB * (machine.price_per_gb_month or 0)
