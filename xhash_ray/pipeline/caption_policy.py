"""Several captions of a pair: which of them count, and what becomes of them.

mean     one row, the normalised mean of all captions' features
first    one row, the first caption's
random   one row, that of a caption drawn by the seed and the pair's id: the same draw on every machine
each     one row per caption, all with the image's feature; ids ID#0, ID#1, ... where a pair has several
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

POLICIES = ("mean", "first", "random", "each")


def counted(identity: str, texts: Sequence[str], policy: str, seed: int) -> tuple[str, ...]:
    """The captions of a pair that count, in their order."""
    if policy == "first":
        return tuple(texts[:1])
    if policy == "random" and texts:
        digest = hashlib.blake2b(f"{seed} {identity}".encode(), digest_size=8).digest()
        return (texts[int.from_bytes(digest, "little") % len(texts)],)
    return tuple(texts)


def row_ids(identity: str, captions: int, policy: str) -> list[str]:
    """Ids of the rows that a pair becomes."""
    if policy != "each" or captions < 2:
        return [identity]
    return [f"{identity}#{number}" for number in range(captions)]


def pair_id(row_id: str) -> str:
    """The id of the pair that a row of policy "each" came from; also of pairs that had one caption."""
    stem, mark, number = row_id.rpartition("#")
    return stem if mark and number.isdigit() else row_id
