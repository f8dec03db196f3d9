"""`xhash plan`: what an endpoint for so many pairs needs, each figure with what it was computed from."""

from __future__ import annotations

import math
from typing import Any

from xhash_ray.core.bits import check_bits
from xhash_ray.errors import BadInput
from xhash_ray.options import Plan
from xhash_ray.sizing import memory
from xhash_ray.sizing.choosing import Needs, choose
from xhash_ray.sizing.lines import bound, latency_lines, memory_lines, price_per_month, serving_lines, storage_lines
from xhash_ray.sizing.machine import read_machine
from xhash_ray.sizing.scans import scan_s
from xhash_ray.sizing.serving import Demand

GB = 1e9
MOST_FILTERS = 8  # serving/groups.py keeps so many


def plan(options: Plan) -> dict[str, Any]:
    """Computes a plan.

    Returns:
        `nodes`, `groups`, `replicas`, `gateways`, `encoders`; `memory_gb_per_node`; `scan_ms`, `p50_ms`, `p99_ms` at
        the demanded rate, `highest_qps`; `decided_by` (what asks for most nodes) and `full_first` (what limits the
        rate); `stored_gb`; `price_per_month`, None without prices; `lines`: all of it and more, each with its formula.

    Raises:
        BadInput: for a demand that nobody has, a machine file that is none, or a demand that no number of machines
            meets.
    """
    check(options)
    machine = read_machine(options.machine)
    demand = Demand(options.pairs, options.bits, options.qps, options.content)
    latency_s = None if options.latency_ms is None else options.latency_ms / 1e3
    choice = choose(machine, demand, Needs(options.replicas, latency_s, options.changed, options.filters))
    layout, pairs = choice.layout, options.pairs / choice.layout.groups
    held = memory.held(machine, options.bits, pairs, options.changed, options.filters)
    stored = memory.stored_bytes(options.bits, options.pairs, options.id_bytes, options.metadata_bytes)
    price = price_per_month(machine, layout.nodes, stored)
    sections = (serving_lines(machine, demand, choice), memory_lines(machine, options, choice, held))
    later = (latency_lines(machine, demand, choice), storage_lines(machine, options, choice, stored, price))
    return {
        "nodes": layout.nodes,
        **layout._asdict(),
        "memory_gb_per_node": round(held.total / GB, 3),
        "scan_ms": round(scan_s(machine, options.bits, pairs, 1) * 1e3, 3),
        "p50_ms": round(choice.expected.p50_s * 1e3, 3),
        "p99_ms": round(choice.expected.p99_s * 1e3, 3),
        "highest_qps": round(min(choice.limits.values()), 1),
        "decided_by": choice.decided_by,
        "full_first": bound(machine, demand, choice),
        "stored_gb": round(stored / GB, 3),
        "price_per_month": None if price is None else round(price, 2),
        "lines": [line._asdict() for section in (*sections, *later) for line in section],
    }


def check(options: Plan) -> None:
    """Raises BadInput for a demand that nobody has."""
    check_bits(options.bits)
    least = {"pairs": 1, "replicas": 1, "filters": 0, "id_bytes": 0.0, "metadata_bytes": 0.0, "changed": 0.0}
    for name, value in least.items():
        given = getattr(options, name)
        if not value <= given < math.inf:
            raise BadInput(f"--{name.replace('_', '-')}", f"{given:g}", f"Give at least {value:g}")
    for name in ("qps", "latency_ms"):
        given = getattr(options, name)
        if given is not None and not 0 < given < math.inf:
            raise BadInput(f"--{name.replace('_', '-')}", f"{given:g}", "Give more than 0")
    for name, most in (("changed", 1.0), ("filters", MOST_FILTERS)):
        if getattr(options, name) > most:
            raise BadInput(f"--{name}", f"{getattr(options, name):g}", f"Give at most {most:g}")
