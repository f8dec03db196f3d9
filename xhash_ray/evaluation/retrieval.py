"""Retrieval of one set of queries against one database, across modalities and within one.

Everything is a sum over queries, so parts of the queries may be evaluated anywhere and added up. Nothing here needs a
cluster: `mean_average_precision` and `measure_codes` are the calls for other programs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from xhash_ray.errors import BadInput, BadOption, Mismatch, nearest
from xhash_ray.evaluation import summary
from xhash_ray.evaluation.average_precision import expected_average_precision
from xhash_ray.evaluation.direction import Sides, counts_by_distance, sums_of, unit_rows
from xhash_ray.evaluation.protocol import ACROSS, MODALITIES_OF, WITHIN_NAMES, Protocol
from xhash_ray.evaluation.relevance import check_same_classes, pack_labels, widen

DIRECTIONS = ACROSS
__all__ = [
    "DIRECTIONS", "Protocol", "Retrievables", "check_comparable", "chosen_directions", "evaluate_rows",
    "mean_average_precision", "measure_codes", "own_rows", "unit_rows",
]  # fmt: skip


@dataclass(frozen=True)
class Retrievables:
    """Items of either side: codes or float features of both modalities, and labels.

    Attributes:
        kind: "codes" or "features".
        arrays: By modality: uint8 [n, bits / 8] codes or float32 [n, d] features.
        labels: uint64 [n, words], one bit per class (`relevance.pack_labels`).
        ids: n ids, by which a query is known again in the database; None where there are none.
    """

    kind: str
    arrays: Mapping[str, np.ndarray]
    labels: np.ndarray
    ids: Sequence[str] | None = None

    def rows(self, start: int, stop: int) -> "Retrievables":
        """A part of the items."""
        arrays = {name: array[start:stop] for name, array in self.arrays.items()}
        ids = None if self.ids is None else self.ids[start:stop]
        return Retrievables(self.kind, arrays, self.labels[start:stop], ids)


def check_comparable(
    queries: Retrievables, database: Retrievables, directions: Sequence[str] = ("image_to_text", "text_to_image")
) -> None:
    """Raises Mismatch or BadInput when the two sides cannot be compared in the given directions."""
    if queries.kind != database.kind:
        raise Mismatch("evaluation", f"queries are {queries.kind}, database {database.kind}", "Give both as one kind")
    for name in directions:
        source, target = MODALITIES_OF[name]
        lengths = queries.arrays[source].shape[1], database.arrays[target].shape[1]
        if lengths[0] != lengths[1]:
            found = f"{source}s of length {lengths[0]} against {target}s of length {lengths[1]}"
            do = "Encode both with one model" if queries.kind == "codes" else "Encode them: only codes are comparable"
            raise BadInput(f"{name} by {queries.kind}", found, do)


def own_rows(queries: Retrievables, database: Retrievables, directions: Sequence[str]) -> np.ndarray | None:
    """Where each query itself lies in the database, int64 [q], -1 where it does not.

    Within one modality a query that is also an item would find itself at distance 0; that item is dropped for it.
    Across modalities its other half is an item like any other. None when no direction stays within a modality.
    """
    if not WITHIN_NAMES.intersection(directions) or queries.ids is None or database.ids is None:
        return None
    rows = {name: row for row, name in enumerate(database.ids)}
    return np.array([rows.get(name, -1) for name in queries.ids], dtype=np.int64)


def evaluate_rows(
    queries: Retrievables,
    database: Retrievables,
    protocol: Protocol,
    own: np.ndarray | None = None,
    threads: int | None = None,
) -> summary.Sums:
    """Sums over some queries, by direction, so that parts add up (`summary.add`).

    Args:
        queries: The queries, or a part of them.
        database: All items.
        protocol: What is measured.
        own: int64 [q] from `own_rows`, for these queries.
        threads: Cores to use; all this process may use by default.

    Raises:
        BadInput: for codes or threads that cannot be counted.
    """
    masks = widen(queries.labels, database.labels)
    sums: summary.Sums = {}
    for name in protocol.directions:
        source, target = MODALITIES_OF[name]
        dropped = own if name in WITHIN_NAMES else None
        sides = Sides(queries.kind, queries.arrays[source], database.arrays[target], *masks, dropped)
        sums[name] = sums_of(sides, protocol, threads)
    return sums


def chosen_directions(names: Sequence[str]) -> tuple[str, ...]:
    """Directions by name, or all four for `all`.

    Raises:
        BadOption: for an unknown name, or none at all.
    """
    if tuple(names) == ("all",):
        return tuple(MODALITIES_OF)
    for name in names or ("",):
        if name not in MODALITIES_OF:
            raise BadOption("--directions", f"unknown direction '{name}'", nearest(name, [*MODALITIES_OF, "all"]))
    return tuple(names)


def mean_average_precision(
    query_codes: UInt8[np.ndarray, "q bytes"],
    database_codes: UInt8[np.ndarray, "n bytes"],
    query_labels: Shaped[np.ndarray, "q classes"],
    database_labels: Shaped[np.ndarray, "n classes"],
    threads: int | None = None,
) -> float:
    """MAP@all of codes, expected over the orders of tied items; an item is relevant that shares a label.

    Args:
        query_codes: uint8 [q, bits / 8].
        database_codes: uint8 [n, bits / 8].
        query_labels: Multi-hot of any number type or bool; a class counts where it is above 0.
        database_labels: The same for the items.
        threads: Cores to use; all this process may use by default.

    Returns:
        The mean over all queries, those without any relevant item count as 0; 0.0 without queries.

    Raises:
        Mismatch: when queries and items differ in code length or in classes.
        BadInput: for a code length that is no multiple of 8 up to 1,024, or threads below 1.
    """
    check_same_classes(query_labels, database_labels)
    masks = pack_labels(query_labels), pack_labels(database_labels)
    sides = Sides("codes", query_codes, database_codes, *masks)
    total = 0.0
    for counts in counts_by_distance(sides, 2, threads):
        total += float(expected_average_precision(counts.sum(axis=2), counts[:, :, 1]).sum())
    return total / max(1, len(query_codes))


def measure_codes(
    query_codes: UInt8[np.ndarray, "q bytes"],
    database_codes: UInt8[np.ndarray, "n bytes"],
    query_labels: Shaped[np.ndarray, "q classes"],
    database_labels: Shaped[np.ndarray, "n classes"],
    protocol: Protocol | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Every measure of codes in one direction; arguments and errors as of `mean_average_precision`.

    Args:
        protocol: Cut-offs and published definitions; its directions have no part here.

    Returns:
        As `summary.of_direction` says: `map`, `lowest`, `highest`, `precision_at`, `curves` and so on.
    """
    check_same_classes(query_labels, database_labels)
    masks = pack_labels(query_labels), pack_labels(database_labels)
    wanted = protocol or Protocol()
    sums = sums_of(Sides("codes", query_codes, database_codes, *masks), wanted, threads)
    return summary.of_direction(sums, wanted, len(database_codes))
