"""What a node holds: codes of both modalities, those of the next generation, the process, what filters keep.

Ids and metadata stay on disk; the system keeps of them in memory what is left.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from xhash_ray.sizing.machine import Machine

USED = 0.75  # of a node's memory: the rest is the system's, Ray's, and pages of files
MODALITIES = 2
OFFSET_BYTES = 4  # where each id begins
FILTER_BYTES = 1  # a row of a filter that is kept


class Held(NamedTuple):
    """Bytes of memory on one node.

    Attributes:
        process: Of the process without codes.
        codes: Of both modalities.
        swap: Segments of the next generation, beside those of this one.
        filters: Rows that pass, of the filters that are kept.
    """

    process: float
    codes: float
    swap: float
    filters: float

    @property
    def total(self) -> float:
        """Of all."""
        return sum(self)


def held(machine: Machine, bits: int, pairs: float, changed: float = 0.0, filters: int = 0) -> Held:
    """What a node with so many pairs holds.

    Args:
        machine: Measured.
        bits: Of a code.
        pairs: On the node.
        changed: Share of the pairs whose segments the next generation replaces.
        filters: Different ones that are kept.
    """
    codes = pairs * code_bytes(bits) * machine.resident_per_code_byte
    return Held(machine.process_bytes, codes, codes * changed, pairs * FILTER_BYTES * filters)


def code_bytes(bits: int, modalities: int = MODALITIES) -> int:
    """Bytes of a pair's codes."""
    return modalities * bits // 8


def usable(memory_bytes: float) -> float:
    """Bytes of a node that may be planned with."""
    return memory_bytes * USED


def nodes_that_hold(total_bytes: float, memory_bytes: float, each_bytes: float = 0.0) -> int:
    """Nodes that hold so many bytes between them, and some more each; 0 where a node has no room for those."""
    room = usable(memory_bytes) - each_bytes
    return max(1, math.ceil(total_bytes / room)) if room > 0 else 0


def stored_bytes(bits: int, pairs: int, id_bytes: float, metadata_bytes: float) -> float:
    """Bytes of an index on object storage."""
    return pairs * (code_bytes(bits) + OFFSET_BYTES + id_bytes + metadata_bytes)
