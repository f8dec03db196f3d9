"""Measures of a ranking with ties, each from the counts of its tied groups alone.

`counts` is int64 [q, groups, levels]: of query q, the items of each tied group, best group first, that have 0, 1, ...,
levels - 1 labels in common with it. At a cut-off inside a group the values are expectations over all orders of the
group: each of its places holds the mean of the group (McSherry & Najork, ECIR 2008), so hits and gains grow linearly
through it. An item with at least one label in common is relevant. A query without relevant items counts 0 everywhere.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from xhash_ray.evaluation.average_precision import expected_average_precision, extreme_average_precision

RECALL_LEVELS = np.linspace(0, 1, 21)
RADIUS = 2  # the papers' "precision within Hamming radius 2"


def every_measure(
    counts: Int[np.ndarray, "q groups levels"], cutoffs: Sequence[int], by_radius: bool
) -> dict[str, np.ndarray]:
    """All measures of each query, so that parts of the queries can be added up.

    Args:
        counts: As above.
        cutoffs: Places N at which precision, recall and NDCG are wanted.
        by_radius: Whether groups are Hamming distances 0, 1, ..., so that a radius means something.

    Returns:
        Arrays whose first axis is the query: `map`, `lowest`, `highest`, `chance` (the share of relevant items),
        `without_relevant` [q]; `precision_at`, `recall_at`, `ndcg_at` [q, cutoffs]; `curve` (interpolated precision at
        RECALL_LEVELS); by radius also `radius_precision`, `radius_recall` [q, groups] and `radius_empty` [q], 1 where
        nothing lies within RADIUS.
    """
    sizes, relevant = counts.sum(axis=2), counts[:, :, 1:].sum(axis=2)
    lowest, highest = extreme_average_precision(sizes, relevant)
    found, total = relevant.sum(axis=1), sizes.sum(axis=1)
    values = {
        "map": expected_average_precision(sizes, relevant),
        "lowest": lowest,
        "highest": highest,
        "chance": found / np.maximum(total, 1),
        "without_relevant": (found == 0).astype(np.float64),
        "precision_at": precision_at(sizes, relevant, cutoffs),
        "recall_at": recall_at(sizes, relevant, cutoffs),
        "ndcg_at": ndcg_at(counts, cutoffs),
        "curve": interpolated_precision(sizes, relevant),
    }
    if by_radius:
        values["radius_precision"], values["radius_recall"] = within_radius(sizes, relevant)
        values["radius_empty"] = (sizes[:, : RADIUS + 1].sum(axis=1) == 0).astype(np.float64)
    return values


def expected_hits(
    sizes: Int[np.ndarray, "q groups"], relevant: Int[np.ndarray, "q groups"], cutoffs: Sequence[int]
) -> Float[np.ndarray, "q cutoffs"]:
    """Expected number of relevant items among the first N, for every cut-off N.

    In a group of n items with r relevant each place holds a relevant one with probability r / n, so the expectation is
    the line between the ends of the group.
    """
    ends = np.pad(np.cumsum(sizes, axis=1), ((0, 0), (1, 0)))
    hits = np.pad(np.cumsum(relevant, axis=1), ((0, 0), (1, 0)))
    lines = [np.interp(cutoffs, *line) for line in zip(ends, hits, strict=True)]
    return np.array(lines, dtype=np.float64).reshape(len(sizes), len(cutoffs))


def precision_at(
    sizes: Int[np.ndarray, "q groups"], relevant: Int[np.ndarray, "q groups"], cutoffs: Sequence[int]
) -> Float[np.ndarray, "q cutoffs"]:
    """Expected precision@N: the share of relevant items among the first N, or among all where there are fewer."""
    places = np.minimum(np.asarray(cutoffs)[None, :], sizes.sum(axis=1)[:, None])
    return expected_hits(sizes, relevant, cutoffs) / np.maximum(places, 1)


def recall_at(
    sizes: Int[np.ndarray, "q groups"], relevant: Int[np.ndarray, "q groups"], cutoffs: Sequence[int]
) -> Float[np.ndarray, "q cutoffs"]:
    """Expected recall@K: the share of all relevant items that is among the first K."""
    return expected_hits(sizes, relevant, cutoffs) / np.maximum(relevant.sum(axis=1), 1)[:, None]


def ndcg_at(counts: Int[np.ndarray, "q groups levels"], cutoffs: Sequence[int]) -> Float[np.ndarray, "q cutoffs"]:
    """Expected NDCG@k: gain 2**(labels in common) - 1, discount 1 / log2(1 + place).

    Source: Järvelin & Kekäläinen 2002 with the exponential gain of Burges et al. 2005, as in Zhao et al., CVPR 2015
    (multi-label hashing). The expectation over ties puts a group's mean gain in each of its places.
    """
    sizes, gain_of = counts.sum(axis=2), 2.0 ** np.arange(counts.shape[2]) - 1
    means = np.divide(counts @ gain_of, sizes, out=np.zeros(sizes.shape), where=sizes > 0)
    ideal_sizes = counts.sum(axis=1)[:, ::-1]
    ideal_means = np.broadcast_to(gain_of[::-1], ideal_sizes.shape)
    found, best = gains_within(sizes, means, cutoffs), gains_within(ideal_sizes, ideal_means, cutoffs)
    return np.divide(found, best, out=np.zeros_like(found), where=best > 0)


def gains_within(
    sizes: Int[np.ndarray, "q groups"], means: Float[np.ndarray, "q groups"], cutoffs: Sequence[int]
) -> Float[np.ndarray, "q cutoffs"]:
    """Discounted gain of the first k places, for every cut-off k, where each place of a group has the group's mean."""
    ends = np.cumsum(sizes, axis=1)
    reached = max([int(ends[:, -1:].max(initial=0)), *cutoffs])
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, reached + 2)))])
    totals = [
        (means * (discounts[np.minimum(ends, k)] - discounts[np.minimum(ends - sizes, k)])).sum(axis=1) for k in cutoffs
    ]
    return np.array(totals, dtype=np.float64).reshape(len(cutoffs), len(sizes)).T


def within_radius(
    sizes: Int[np.ndarray, "q groups"], relevant: Int[np.ndarray, "q groups"]
) -> tuple[Float[np.ndarray, "q groups"], Float[np.ndarray, "q groups"]]:
    """Precision and recall of everything within each radius; precision is 0 where nothing lies within it.

    A whole group is in or out, so ties have no say. The papers' "precision within Hamming radius 2" is column 2.
    """
    reached, hits = np.cumsum(sizes, axis=1), np.cumsum(relevant, axis=1)
    return hits / np.maximum(reached, 1), hits / np.maximum(hits[:, -1:], 1)


def interpolated_precision(
    sizes: Int[np.ndarray, "q groups"], relevant: Int[np.ndarray, "q groups"]
) -> Float[np.ndarray, "q recall_levels"]:
    """Interpolated precision at RECALL_LEVELS: the highest precision of any radius that reaches the recall.

    Points of the curve are whole groups, so ties have no say.
    """
    precision, recall = within_radius(sizes, relevant)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    enough = recall[:, :, None] >= RECALL_LEVELS - 1e-12  # recall is a quotient: 0.3 may come out a hair below
    first = enough.argmax(axis=1)
    return np.take_along_axis(best, first, axis=1) * enough.any(axis=1)
