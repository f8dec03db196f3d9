"""Average precision of a ranking with ties, as its expectation over all orders of the tied items.

Hamming distances are small integers, so most of a ranking is ties, and an average precision that depends on how a
sort happened to break them is not a property of the codes. Here every tied group contributes its expected sum of
precisions (McSherry & Najork, ECIR 2008, "Computing information retrieval performance measures efficiently in the
presence of tied scores"): in a group of n items with r relevant, after N items with R relevant, position i (from 1)
holds a relevant item with probability r / n, and then R + 1 + (i - 1)(r - 1) / (n - 1) relevant items have been
seen on average. Precision divides by N + i, which sums to harmonic numbers.
"""

import itertools

import numpy as np
from jaxtyping import Bool, Float, Int

from xhash_ray.core.hamming import to_words


def average_precision_reference(scores: Float[np.ndarray, " n"], relevant: Bool[np.ndarray, " n"]) -> float:
    """The definition: the mean of average precision over every order of tied items. Only for tiny inputs."""
    groups = [np.flatnonzero(scores == value) for value in np.unique(scores)[::-1]]
    values = []
    for arrangement in itertools.product(*(itertools.permutations(group) for group in groups)):
        hits = relevant[np.concatenate([np.array(group, dtype=int) for group in arrangement])]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        values.append(float(precision[hits].sum() / max(1, hits.sum())))
    return float(np.mean(values))


def expected_average_precision(
    sizes: Int[np.ndarray, "q groups"], relevant: Int[np.ndarray, "q groups"]
) -> Float[np.ndarray, " q"]:
    """Expected average precision of q rankings from their tied groups, best group first.

    Args:
        sizes: Items in each group, 0 for groups a ranking does not have.
        relevant: Relevant items in each group.

    Returns:
        float64 [q]; 0 for a query to which nothing is relevant.
    """
    n, r = sizes.astype(np.float64), relevant.astype(np.float64)
    N, R = np.cumsum(n, axis=1) - n, np.cumsum(r, axis=1) - r
    slope = np.divide(r - 1, n - 1, out=np.zeros_like(n), where=n > 1)
    H = harmonic_numbers(sizes)
    reciprocal = H[(N + n).astype(int)] - H[N.astype(int)]  # sum of 1 / (N + i) over the group
    precisions = slope * n + (R + 1 - slope * (N + 1)) * reciprocal
    total = np.divide(r * precisions, n, out=np.zeros_like(n), where=n > 0).sum(axis=1)
    return np.divide(total, r.sum(axis=1), out=np.zeros(len(n)), where=r.sum(axis=1) > 0)


def extreme_average_precision(
    sizes: Int[np.ndarray, "q groups"], relevant: Int[np.ndarray, "q groups"]
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """The lowest and the highest average precision that some order of the tied items gives.

    Lowest: in every group the irrelevant items come first. Highest: the relevant ones do. In either case the r
    relevant items of a group are neighbours, after P items in all with R relevant, and their precisions
    (R + i) / (P + i), i = 1 .. r, sum to r + (R - P)(H(P + r) - H(P)).

    Args:
        sizes: As for `expected_average_precision`.
        relevant: Relevant items in each group.

    Returns:
        Two float64 [q], lowest and highest; 0 for a query to which nothing is relevant.
    """
    N, R = np.cumsum(sizes, axis=1) - sizes, np.cumsum(relevant, axis=1) - relevant
    H, found = harmonic_numbers(sizes), relevant.sum(axis=1)
    values = []
    for before in (N + sizes - relevant, N):
        precisions = relevant + (R - before) * (H[before + relevant] - H[before])
        total = precisions.sum(axis=1)
        values.append(np.divide(total, found, out=np.zeros(len(total)), where=found > 0))
    return values[0], values[1]


def harmonic_numbers(sizes: Int[np.ndarray, "q groups"]) -> Float[np.ndarray, " n_plus_1"]:
    """H(0) .. H(n), n the length of the longest ranking."""
    longest = int(sizes.sum(axis=1).max(initial=0))
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, longest + 1))])


def of_codes(queries: np.ndarray, database: np.ndarray, relevant: Bool[np.ndarray, "q n"]) -> Float[np.ndarray, " q"]:
    """Expected average precision of each query from a matrix of what is relevant, items ranked by Hamming distance.

    Where relevance is a label in common, `counting.count_pairs` needs no such matrix and is far faster.

    Args:
        queries: uint8 [q, bits / 8].
        database: uint8 [n, bits / 8].
        relevant: bool [q, n].
    """
    bits = queries.shape[1] * 8
    query_words, words = to_words(queries), to_words(database)
    sizes, hits = np.zeros((2, len(queries), bits + 1), dtype=np.int64)
    for row, word in enumerate(query_words):
        distances = np.bitwise_count(words ^ word).sum(axis=1, dtype=np.int64)
        sizes[row] = np.bincount(distances, minlength=bits + 1)
        hits[row] = np.bincount(distances[relevant[row]], minlength=bits + 1)
    return expected_average_precision(sizes, hits)


def of_scores(scores: Float[np.ndarray, "q n"], relevant: Bool[np.ndarray, "q n"]) -> Float[np.ndarray, " q"]:
    """Expected average precision of each query, items ranked by real scores, highest first."""
    values = np.zeros(len(scores))
    if scores.shape[1] == 0:
        return values
    for row, (line, wanted) in enumerate(zip(scores, relevant, strict=True)):
        order = np.argsort(-line, kind="stable")
        starts = np.flatnonzero(np.diff(line[order], prepend=np.inf))
        sizes = np.diff(starts, append=len(order))
        hits = np.add.reduceat(wanted[order].astype(np.int64), starts)
        values[row] = expected_average_precision(sizes[None, :], hits[None, :])[0]
    return values
