"""Signs and packed codes.

Layout, the same in memory, in Parquet and over HTTP: bit j of a code lies in byte j // 8 at position
j % 8 from the least significant. A bit is 1 where the hash function's output is positive or zero, so that
sign(0) is one bit and not a third state. Golden example: the 16 signs

    + - - - - - - -   + + - - - - - +        pack to the bytes 0x01 0x83
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

from xhash_ray.errors import BadInput

MAX_BITS = 1024


def check_bits(bits: int) -> int:
    """Returns the code length when it is one we store.

    Raises:
        BadInput: unless it is a multiple of 8 from 8 to 1,024.
    """
    if bits % 8 or not 8 <= bits <= MAX_BITS:
        raise BadInput("code length", f"{bits} bits", f"Give a multiple of 8 from 8 to {MAX_BITS}, for instance 64")
    return bits


def pack(outputs: Float[np.ndarray, "n bits"]) -> UInt8[np.ndarray, "n bytes"]:
    """Packs real hash outputs by their signs.

    Args:
        outputs: float [n, bits]; bit = 1 where the output >= 0.

    Returns:
        uint8 [n, bits / 8].

    Raises:
        BadInput: for a bit count that is no multiple of 8, or outputs that are not numbers.
    """
    check_bits(outputs.shape[1])
    if not np.isfinite(outputs).all():
        row = int(np.flatnonzero(~np.isfinite(outputs).all(axis=1))[0])
        raise BadInput("packing hash outputs", f"NaN or infinity in row {row}", "Check the features of that row")
    return np.packbits(outputs >= 0, axis=1, bitorder="little")


def unpack(codes: UInt8[np.ndarray, "n bytes"]) -> Bool[np.ndarray, "n bits"]:
    """The inverse of `pack` up to sign: uint8 [n, bytes] -> bool [n, 8 * bytes]."""
    return np.unpackbits(codes, axis=1, bitorder="little").astype(bool)
