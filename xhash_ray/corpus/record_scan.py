"""Where the records of a text table begin, compiled by numba; `records` is its front door.

A record of separated values may hold line ends between quotes. A quote opens only at the start of a field and closes
unless another follows, as Python's csv module reads them. Records without content are none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, no_type_check

from numba import types

from xhash_ray.core.compiling import compiled_for

FIELD_START, IN_FIELD, QUOTED, QUOTE_IN_QUOTED = 0, 1, 2, 3
PHASE, IS_BLANK, COUNT, START, MARKED = 0, 1, 2, 3, 4  # what the state holds
BYTES = types.Array(types.uint8, 1, "C", readonly=True)
SCAN = types.void(BYTES, types.int64, types.int64, types.int64, types.int64[::1], types.int64[::1])
NEW_LINE, RETURN, SPACE, TAB, QUOTE = 10, 13, 32, 9, 34


@no_type_check
def scan(block: Any, base: Any, delimiter: Any, stride: Any, state: Any, marks: Any) -> None:
    """Goes on through a table: counts records, and notes where every stride-th begins.

    Args:
        block: uint8 [n], the next bytes.
        base: Where they lie in the table.
        delimiter: Of fields; negative for JSON Lines, where every line is a record and spaces are no content.
        stride: Records from one mark to the next.
        state: int64 [5], carried from block to block.
        marks: int64 [at least n // stride + 1]; state[MARKED] says how many were written.
    """
    phase, blank, count, start, marked = state[PHASE], state[IS_BLANK], state[COUNT], state[START], 0
    for i in range(block.shape[0]):
        byte = block[i]
        if byte == NEW_LINE and phase != QUOTED:
            phase, blank, start = FIELD_START, 1, base + i + 1
            continue
        if blank and byte != RETURN and (delimiter >= 0 or (byte != SPACE and byte != TAB)):
            blank = 0
            if count % stride == 0:
                marks[marked] = start
                marked += 1
            count += 1
        if delimiter < 0:
            continue
        if phase == QUOTED:
            phase = QUOTE_IN_QUOTED if byte == QUOTE else QUOTED
        elif byte == delimiter:
            phase = FIELD_START
        elif byte == QUOTE and phase != IN_FIELD:  # the first of a field, or the second of two
            phase = QUOTED
        else:
            phase = IN_FIELD
    state[PHASE], state[IS_BLANK], state[COUNT], state[START], state[MARKED] = phase, blank, count, start, marked


@functools.cache
def compiled() -> Callable[..., None]:
    """`scan` as machine code."""
    return compiled_for(SCAN, scan)
