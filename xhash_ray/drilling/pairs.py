"""The pairs of a drill: drawn from a seed, changed as generations change, always sorted by id."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

MODALITIES = ("image", "text")
CLUSTERS, FLIPPED = 400, 0.08  # so that many codes lie at the same distance from a query
TWINS = 0.05  # of the pairs have the codes of another one: ties at every distance
COLOURS = ("red", "green", "blue", "white", None)


@dataclass(frozen=True)
class Pairs:
    """What a generation holds.

    Attributes:
        ids: Ascending by code point.
        codes: uint8 [n, bits / 8] by modality.
        years: int64 [n].
        colours: One of COLOURS each; None where it is missing.
    """

    ids: tuple[str, ...]
    codes: Mapping[str, np.ndarray]
    years: np.ndarray
    colours: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def metadata(self, row: int) -> dict[str, Any]:
        """What is stored with a pair."""
        return {"year": int(self.years[row]), "colour": self.colours[row]}


def draw(count: int, bits: int, seed: int, prefix: str = "pair") -> Pairs:
    """New pairs; the same seed draws the same ones.

    Args:
        count: Of pairs.
        bits: Code length, a multiple of 8.
        seed: Of codes and columns.
        prefix: Of the ids.
    """
    rng = np.random.default_rng(seed)
    codes = {modality: clustered(rng, count, bits) for modality in MODALITIES}
    colours = tuple(COLOURS[number] for number in rng.integers(0, len(COLOURS), count))
    ids = tuple(f"{prefix}-{number:08d}" for number in range(count))
    return Pairs(ids, codes, rng.integers(2000, 2025, count), colours)


def clustered(rng: np.random.Generator, count: int, bits: int) -> np.ndarray:
    """Codes around some centres, uint8 [count, bits / 8]; some of them twice."""
    centres = rng.random((CLUSTERS, bits)) < 0.5
    signs = centres[rng.integers(0, CLUSTERS, count)] ^ (rng.random((count, bits)) < FLIPPED)
    codes = np.packbits(signs, axis=1, bitorder="little")
    twins = rng.random(count) < TWINS
    codes[twins] = codes[rng.integers(0, max(1, count), int(twins.sum()))]
    return codes


def without(pairs: Pairs, ids: Sequence[str]) -> Pairs:
    """Pairs but those of some ids."""
    gone = set(ids)
    return taken(pairs, [row for row, name in enumerate(pairs.ids) if name not in gone])


def joined(pairs: Pairs, more: Pairs) -> Pairs:
    """Both; where an id is in both, the second one's pair."""
    kept = without(pairs, more.ids)
    ids = [*kept.ids, *more.ids]
    whole = Pairs(
        tuple(ids),
        {each: np.concatenate([kept.codes[each], more.codes[each]]) for each in MODALITIES},
        np.concatenate([kept.years, more.years]),
        (*kept.colours, *more.colours),
    )
    return taken(whole, sorted(range(len(ids)), key=ids.__getitem__))


def taken(pairs: Pairs, rows: Sequence[int]) -> Pairs:
    """Some pairs, in this order."""
    at = np.asarray(rows, dtype=np.int64)
    return Pairs(
        tuple(pairs.ids[row] for row in rows),
        {each: pairs.codes[each][at] for each in MODALITIES},
        pairs.years[at],
        tuple(pairs.colours[row] for row in rows),
    )


def renamed(pairs: Pairs, ids: Sequence[str]) -> Pairs:
    """The same pairs under other ids, to be joined with pairs that are there: in any order."""
    return Pairs(tuple(ids), pairs.codes, pairs.years, pairs.colours)


def shards_of(ids: Sequence[str], shards: int) -> np.ndarray:
    """The shard of every id by the published rule (index/README.md), in plain Python: int64 [n]."""
    found = []
    for name in ids:
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        found.append((int.from_bytes(digest, "little") >> 32) * shards >> 32)
    return np.asarray(found, dtype=np.int64)


def as_table(pairs: Pairs) -> pa.Table:
    """Pairs as rows of an index."""
    columns = {f"{each}_code": binary(pairs.codes[each]) for each in MODALITIES}
    return pa.table(
        {
            "id": pa.array(pairs.ids, pa.string()),
            **columns,
            "year": pa.array(pairs.years),
            "colour": pa.array(pairs.colours, pa.string()),
        }
    )


def binary(codes: np.ndarray) -> pa.Array:
    """Codes as a column, fixed_size_binary."""
    return pa.array([row.tobytes() for row in codes], pa.binary(codes.shape[1]))


def as_requests(pairs: Pairs) -> list[dict[str, Any]]:
    """Pairs as `Client.add` takes them."""
    return [
        {
            "id": name,
            **{f"{each}_code": pairs.codes[each][row].tobytes().hex() for each in MODALITIES},
            "metadata": {column: value for column, value in pairs.metadata(row).items() if value is not None},
        }
        for row, name in enumerate(pairs.ids)
    ]
