"""What a plan says of one machine with everything on it, and how far a measured run is from that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xhash_ray.sizing.machine import Machine
from xhash_ray.sizing.memory import held
from xhash_ray.sizing.scans import scan_s
from xhash_ray.sizing.serving import Demand, Layout, closed_loop, costs, limits

WITHIN = 0.25
ALONE = Layout(1, 1, 1, 1)


class Row(NamedTuple):
    """A prediction and what came of it.

    Attributes:
        what: Was looked at.
        predicted: By the plan.
        measured: Here.
        ratio: Predicted over measured.
        within: Whether they differ by at most a quarter of what was measured.
    """

    what: str
    predicted: float
    measured: float
    ratio: float
    within: bool


def predictions(machine: Machine, pairs: int, bits: int, callers: Sequence[int]) -> dict[str, float]:
    """What is expected of an endpoint whose gateway holds all pairs, callers on the same machine, queries by code.

    Returns:
        `memory_gb`, `scan_ms`, `one_caller_p50_ms`, `highest_per_s`, and for every level of several callers
        `N_callers_per_s` and `N_callers_p50_ms`.
    """
    demand = Demand(pairs, bits, 0.0, "code")
    scan = scan_s(machine, bits, pairs, 1) + machine.answer_s
    found = {
        "memory_gb": held(machine, bits, pairs).total / 1e9,
        "scan_ms": scan * 1e3,
        "one_caller_p50_ms": (costs(machine, "code", ALONE).alone_s + scan) * 1e3,
        "highest_per_s": min(limits(machine, demand, ALONE, machine.caller_cpu_s).values()),
    }
    for count in callers:
        if count > 1:
            qps, p50_s = closed_loop(machine, demand, ALONE, count, machine.caller_cpu_s)
            name = level_name(count)
            found |= {f"{name}_per_s": qps, f"{name}_p50_ms": p50_s * 1e3}
    return found


def level_name(count: int) -> str:
    """How predictions call a level of callers."""
    return f"{count}_callers" if count > 1 else "one_caller"


def scan_speed(now: Machine, then: Machine, bits: int) -> float:
    """How fast a query alone is scanned for, in units of what it was; lengths need not be the same ones."""
    return round(scan_s(then, bits, 1.0, 1) / scan_s(now, bits, 1.0, 1), 3)


def compared(predicted: Mapping[str, float], measured: Mapping[str, float]) -> list[Row]:
    """A row for everything that was measured, in the order of the predictions."""
    rows = []
    for name, value in predicted.items():
        if name in measured:
            ratio = value / measured[name]
            rows.append(Row(name.replace("_", " "), value, measured[name], ratio, abs(ratio - 1) <= WITHIN))
    return rows
