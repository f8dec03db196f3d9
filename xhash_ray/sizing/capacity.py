"""What larger collections need, computed from one run of `xhash bench billion`: memory and one query's scan alone."""

from __future__ import annotations

import math
from typing import NamedTuple

from xhash_ray.sizing.memory import nodes_that_hold

SIZES = (10**9, 10**10, 10**11)
FAST_S = 0.1


class Measured(NamedTuple):
    """A machine.

    Attributes:
        code_bytes: Of one code.
        codes_per_s: Scanned by one query on all cores.
        memory_bytes: Of the machine.
    """

    code_bytes: float
    codes_per_s: float
    memory_bytes: float


class Row(NamedTuple):
    """What one collection needs.

    Attributes:
        pairs: Of it.
        directions: 1: text finds images, or the other way round; 2: both.
        nodes: Machines like the measured one that hold it.
        code_gb: Bytes of codes over all nodes, in 10^9.
        scan_ms: One query's scan, all nodes at once; what network and merging add is not in it.
        nodes_for_100_ms: Machines so that the scan takes 100 ms at most.
    """

    pairs: int
    directions: int
    nodes: int
    code_gb: float
    scan_ms: float
    nodes_for_100_ms: int


def capacity(machine: Measured, sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """A row per size and number of directions."""
    rows = []
    for pairs in sizes:
        for directions in (1, 2):
            total = pairs * directions * machine.code_bytes
            nodes = nodes_that_hold(total, machine.memory_bytes)
            scan_s = pairs / nodes / machine.codes_per_s
            fast = max(nodes, math.ceil(pairs / machine.codes_per_s / FAST_S))
            rows.append(Row(pairs, directions, nodes, round(total / 1e9, 1), round(scan_s * 1e3, 1), fast))
    return rows
