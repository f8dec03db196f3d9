"""How long a scan takes: measured for some numbers of queries, interpolated between them.

Seconds per code of a scan that q queries share. One query is bound by memory, many by arithmetic, so the line bends:

    seconds                                . 32
    per code              .  .  .  '  8
             1  '  '
             queries
"""

from __future__ import annotations

import numpy as np

from xhash_ray.sizing.machine import Machine, Scan

WORD_BITS = 64  # the kernel compares words: shorter codes are filled up


def words(bits: int) -> int:
    """64-bit words of a code."""
    return -(-bits // WORD_BITS)


def measured_for(machine: Machine, bits: int) -> tuple[Scan, ...]:
    """The scans of the measured length that is nearest to one, by words."""
    best = min(machine.scans, key=lambda scan: (abs(words(scan.bits) - words(bits)), abs(scan.bits - bits))).bits
    return tuple(scan for scan in machine.scans if scan.bits == best)


def scan_s(machine: Machine, bits: int, pairs: float, queries: float) -> float:
    """Seconds of a scan of one modality's codes.

    Args:
        machine: Measured.
        bits: Of a code; of a length that was not measured it takes as much longer as it has more words.
        pairs: Codes.
        queries: That share it; beyond those measured each costs what the last ones did.
    """
    known = measured_for(machine, bits)
    counts, seconds = [scan.queries for scan in known], [1 / scan.codes_per_s for scan in known]
    per_code = float(np.interp(queries, counts, seconds)) * max(1.0, queries / counts[-1])
    return pairs * per_code * words(bits) / words(known[0].bits)


def of_bandwidth(machine: Machine, bits: int, pairs: float, queries: float) -> float:
    """Share of the memory's bandwidth that a scan uses."""
    return pairs * bits / 8 / scan_s(machine, bits, pairs, queries) / machine.read_bytes_per_s
