"""Functions as machine code that runs without Python's lock, kept beside their file where that can be written."""

import contextlib
from collections.abc import Callable
from typing import Any

import numba


def compiled_for(signature: Any, function: Callable[..., None]) -> Callable[..., None]:
    """A function compiled for one signature.

    Args:
        signature: Of numba's types.
        function: That numba can compile; it writes into arrays it is given.
    """
    with contextlib.suppress(Exception):  # a cache that cannot be written, or read, must not stop anybody
        kept: Callable[..., None] = numba.njit(signature, nogil=True, cache=True)(function)
        return kept
    made: Callable[..., None] = numba.njit(signature, nogil=True)(function)
    return made
