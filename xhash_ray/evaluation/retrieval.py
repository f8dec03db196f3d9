"""Cross-modal retrieval of one set of queries against one database, in both directions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.evaluation import average_precision
from xhash_ray.evaluation.counting import count_pairs
from xhash_ray.evaluation.relevance import check_same_classes, label_matrix, pack_labels, shares_a_label

DIRECTIONS = (("image_to_text", "image", "text"), ("text_to_image", "text", "image"))


@dataclass(frozen=True)
class Retrievables:
    """Items of either side: codes or float features of both modalities, and labels.

    Attributes:
        kind: "codes" or "features".
        arrays: By modality: uint8 [n, bits / 8] codes or float32 [n, d] features.
        labels: n lists of label numbers.
    """

    kind: str
    arrays: Mapping[str, np.ndarray]
    labels: list[list[int]]

    def rows(self, start: int, stop: int) -> "Retrievables":
        """A part of the items."""
        arrays = {name: array[start:stop] for name, array in self.arrays.items()}
        return Retrievables(self.kind, arrays, self.labels[start:stop])


def check_comparable(queries: Retrievables, database: Retrievables) -> None:
    """Raises Mismatch or BadInput when the two sides cannot be compared."""
    if queries.kind != database.kind:
        raise Mismatch("evaluation", f"queries are {queries.kind}, database {database.kind}", "Give both as one kind")
    for name, source, target in DIRECTIONS:
        lengths = queries.arrays[source].shape[1], database.arrays[target].shape[1]
        if lengths[0] != lengths[1]:
            found = f"{source}s of length {lengths[0]} against {target}s of length {lengths[1]}"
            do = "Encode both with one model" if queries.kind == "codes" else "Encode them: only codes are comparable"
            raise BadInput(f"{name} by {queries.kind}", found, do)


def evaluate_rows(queries: Retrievables, database: Retrievables, classes: int) -> dict[str, Any]:
    """Sums over some queries, so that parts add up.

    Returns:
        Per direction the sum of expected average precisions; `queries`, `without_relevant`, and `chance`, the sum
        of the shares of relevant items.
    """
    relevant = shares_a_label(label_matrix(queries.labels, classes), label_matrix(database.labels, classes))
    sums: dict[str, Any] = {}
    for name, source, target in DIRECTIONS:
        sums[name] = float(precisions(queries, database, source, target, relevant).sum())
    share = relevant.mean(axis=1)
    return {
        **sums,
        "queries": len(relevant),
        "without_relevant": int((share == 0).sum()),
        "chance": float(share.sum()),
    }


def precisions(
    queries: Retrievables, database: Retrievables, source: str, target: str, relevant: np.ndarray
) -> np.ndarray:
    """Expected average precision of each query in one direction."""
    if queries.kind == "codes":
        return average_precision.of_codes(queries.arrays[source], database.arrays[target], relevant)
    scores = unit_rows(queries.arrays[source]) @ unit_rows(database.arrays[target]).T
    return average_precision.of_scores(scores, relevant)


def unit_rows(features: np.ndarray) -> np.ndarray:
    """float32 [n, d] with rows of length 1; zero rows stay zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, 1e-12), dtype=np.float32)


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
    counts = count_pairs(query_codes, database_codes, *masks, threads=threads)
    values = average_precision.expected_average_precision(counts.sum(axis=2), counts[:, :, 1])
    return float(values.mean()) if len(values) else 0.0
