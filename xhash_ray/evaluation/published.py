"""The average precisions that published tables were made with, by name, so that like is compared with like.

Each takes the labels that items have in common with the query, int [q, n], along the ranking: column 0 is the first
item. Ties are broken by database row (a stable sort). Most published code sorts unstably, so its own figures depend on
the machine; between `lowest` and `highest` lies every one of them for MAP@all.

Each returns float64 [q]. NaN marks a query that the definition leaves out of the mean; `mean` averages accordingly.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from xhash_ray.errors import BadOption, nearest


def map_at_k_over_hits(overlap: Int[np.ndarray, "q n"], k: int) -> Float[np.ndarray, " q"]:
    """MAP@k whose sum of precisions is divided by the hits found among the first k, not by min(k, R).

    One early hit and then nothing gives 1. A query without hits among the first k counts 0. Used with k = 50 by the
    code of DJSRH, JDSH, DSAH, CIRH, CFRH, CCAH, UCMFH ("calculate_top_map"), with k = 5,000 by CAGAN and MOED, and with
    k = n, where it is MAP@all, by SSAH and DCMH.
    """
    hits = overlap[:, :k] > 0
    precisions = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return (precisions * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)


def map_first_min_k_r(overlap: Int[np.ndarray, "q n"], k: int) -> Float[np.ndarray, " q"]:
    """Mean precision at the first min(k, R) relevant items, wherever they rank; R is the number of relevant items.

    For k < R this is not MAP@k: the ranking is never cut at k. For k >= R it is MAP@all. A query without relevant
    items counts 0. Used by the code of torchcmh, DCHMT, MITH, VTM-UCH, DUCH ("calc_map_k").
    """
    hits = overlap > 0
    seen = np.cumsum(hits, axis=1)
    wanted = hits & (seen <= k)
    precisions = seen / np.arange(1, hits.shape[1] + 1)
    return (precisions * wanted).sum(axis=1) / np.maximum(wanted.sum(axis=1), 1)


def map_without_zero_hit_queries(overlap: Int[np.ndarray, "q n"], k: int) -> Float[np.ndarray, " q"]:
    """MAP@all over the queries to which something is relevant; the others are left out of the mean.

    The cut-off k has no part in it. Used by the code of UCCH ("fx_calc_map_multilabel_k").
    """
    values = map_at_k_over_hits(overlap, overlap.shape[1])
    return np.where((overlap > 0).any(axis=1), values, np.nan)


def map_weighted_by_overlap(overlap: Int[np.ndarray, "q n"], k: int) -> Float[np.ndarray, " q"]:
    """MAP@k in which an item counts as often as it has labels in common with the query, so values may exceed 1.

    At each hit among the first k the mean overlap of the places up to it is taken; these are averaged over the hits. A
    query without hits counts 0. This is the weighted MAP of Zhao et al., CVPR 2015 ("deep semantic ranking"). The code
    of DGCPN prints a top-50 value weighted by label overlap as "MAP@All_1"; its source was not at hand, so its exact
    normalisation may differ from this one.
    """
    weights = overlap[:, :k].astype(np.float64)
    hits = weights > 0
    means = np.cumsum(weights, axis=1) / np.arange(1, hits.shape[1] + 1)
    return (means * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1)


DEFINITIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    definition.__name__: definition
    for definition in (
        map_at_k_over_hits,
        map_first_min_k_r,
        map_without_zero_hit_queries,
        map_weighted_by_overlap,
    )
}


def mean(values: Float[np.ndarray, " q"]) -> float:
    """The mean over the queries that count; 0.0 when none does."""
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if len(counted) else 0.0


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """Definitions by name, or every one for `all`.

    Raises:
        BadOption: for an unknown name.
    """
    if tuple(names) == ("all",):
        return tuple(DEFINITIONS)
    for name in names:
        if name not in DEFINITIONS:
            raise BadOption("--definitions", f"unknown definition '{name}'", nearest(name, [*DEFINITIONS, "all"]))
    return tuple(names)


def ranked(scores: Shaped[np.ndarray, "q n"], overlap: Int[np.ndarray, "q n"]) -> Int[np.ndarray, "q n"]:
    """Overlaps along the ranking: smallest score (distance) first, ties by database row."""
    return np.take_along_axis(overlap, np.argsort(scores, axis=1, kind="stable"), axis=1)
