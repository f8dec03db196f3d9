"""Hits of several arrays merged by (distance, name), where names lie in Arrow buffers: compiled, without Python's lock.

Within an array names ascend with its rows, so each array's hits are a sorted list already, and the answer is the merge
of sorted lists: k times the least of their heads. Names are compared byte by byte where they lie, and only those of
the k winners become Python strings. `Naming.together` of index/naming.py is the plain version.
"""

import functools
from collections.abc import Callable
from typing import Any, no_type_check

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xhash_ray.core.compiling import compiled_for
from xhash_ray.core.scanning import ABSENT

NOBODY = np.int64(ABSENT)
LINE, TABLE, CUBE = types.int64[::1], types.int64[:, ::1], types.int64[:, :, ::1]
MERGE = types.void(TABLE, CUBE, CUBE, TABLE, TABLE, TABLE, LINE)


def load(dtype: Any, bits: int) -> Any:
    """Reads one number of a type at an address and an offset counted in such numbers."""

    @intrinsic
    @no_type_check
    def read(typing_context: Any, address: Any, place: Any) -> Any:
        """The number there."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.IntType(bits)
            base = builder.inttoptr(arguments[0], kind.as_pointer())
            return builder.load(cgutils.gep_inbounds(builder, base, arguments[1]), align=1)

        return dtype(types.int64, types.int64), generate

    return read


start_at, byte_at = load(types.int32, 32), load(types.uint8, 8)


@numba.njit
@no_type_check
def is_before(addresses: Any, part: Any, row: Any, other: Any, other_row: Any) -> Any:
    """Whether one name comes before another, by their bytes."""
    first, second = addresses[part, 1], addresses[other, 1]
    i, stop = np.int64(start_at(addresses[part, 0], row)), np.int64(start_at(addresses[part, 0], row + 1))
    j, end = np.int64(start_at(addresses[other, 0], other_row)), np.int64(start_at(addresses[other, 0], other_row + 1))
    while i < stop and j < end:
        a, b = byte_at(first, i), byte_at(second, j)
        if a != b:
            return a < b
        i, j = i + 1, j + 1
    return i == stop and j < end


@no_type_check
def merge_by_name(
    addresses: Any, distances: Any, rows: Any, best_distances: Any, best_parts: Any, best_rows: Any, counts: Any
) -> None:
    """The first k hits of each query over all parts, by (distance, name).

    Args:
        addresses: int64 [parts, 2], of each part's int32 name starts and of its name bytes (Arrow's string layout).
        distances: int64 [parts, q, w], ascending, ABSENT at the end.
        rows: int64 [parts, q, w], ascending where distances tie.
        best_distances: int64 [q, k], filled from the left.
        best_parts: int64 [q, k].
        best_rows: int64 [q, k].
        counts: int64 [q], how far.
    """
    parts, queries, width = distances.shape
    heads = np.zeros(parts, np.int64)
    for q in range(queries):
        heads[:] = 0
        for place in range(best_distances.shape[1]):
            best, least = -1, NOBODY
            for part in range(parts):
                if heads[part] == width:
                    continue
                d = distances[part, q, heads[part]]
                if d < least or (
                    d == least
                    and best >= 0
                    and is_before(addresses, part, rows[part, q, heads[part]], best, rows[best, q, heads[best]])
                ):
                    best, least = part, d
            if best < 0:
                break
            best_distances[q, place], best_parts[q, place] = least, best
            best_rows[q, place] = rows[best, q, heads[best]]
            heads[best] += 1
            counts[q] = place + 1


@functools.cache
def merging() -> Callable[..., None]:
    """`merge_by_name` as machine code."""
    return compiled_for(MERGE, merge_by_name)
