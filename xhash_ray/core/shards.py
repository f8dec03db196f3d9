"""Which shard holds a pair: arithmetic on ids, so that every program that can hash agrees.

A stable 64-bit hash of the id is scaled to the number of shards. It depends on nothing else: not on file
order, not on who writes, not on what other ids exist. The same hash gives the `id%N` condition of --where.
"""

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt64

from xhash_ray.errors import BadInput


def id_hash(ids: Sequence[str]) -> UInt64[np.ndarray, " n"]:
    """BLAKE2b-64 of each id in UTF-8, read as a little-endian integer: uint64 [n]."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def shard_of(ids: Sequence[str], shards: int) -> Int64[np.ndarray, " n"]:
    """The shard of each id, int64 [n] in 0 .. shards - 1: floor(h * shards / 2**32), h the high 32 bits of its hash.

    Raises:
        BadInput: for fewer than 1 or more than 65,536 shards.
    """
    if not 1 <= shards <= 65_536:
        raise BadInput("number of shards", str(shards), "Give 1 to 65,536")
    high = id_hash(ids) >> np.uint64(32)  # 32 bits of hash leave room for the product in 64
    return ((high * np.uint64(shards)) >> np.uint64(32)).astype(np.int64)


def even_split(total: int, parts: int) -> list[tuple[int, int]]:
    """Cuts range(total) into contiguous (start, end) parts whose sizes differ by one at most.

    >>> even_split(9, 2)
    [(0, 5), (5, 9)]
    """
    base, extra = divmod(total, parts)
    starts = [part * base + min(part, extra) for part in range(parts + 1)]
    return list(itertools.pairwise(starts))
