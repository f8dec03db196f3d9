"""The top candidates of a search in a finer order: of a query more is known than its bits.

A query's hash outputs are real numbers; only their signs became its code. The asymmetric score of a candidate weighs
each agreement of bits by how sure the query is of it (Gordo, Perronnin, Gong, Lazebnik, Asymmetric distances for binary
embeddings, TPAMI 2014): nothing is stored for it. Where an index keeps float16 features that both modalities share
(CLIP), candidates can be ordered by cosine instead: 2 d more bytes a pair, and the exact order of the features.
"""

import numpy as np
from jaxtyping import Float, Int64, UInt8

from xhash_ray.core.topk import Hits
from xhash_ray.errors import BadInput, Mismatch

CANDIDATES_AT_ONCE = 200_000


def asymmetric_scores(
    codes: UInt8[np.ndarray, "n bytes"],
    rows: Int64[np.ndarray, "q c"],
    outputs: Float[np.ndarray, "q bits"],
    weights: Float[np.ndarray, " bits"] | None = None,
) -> Float[np.ndarray, "q c"]:
    """sum_j w_j h_j b_j of every candidate: h the query's output, b in {-1, 1} the candidate's bit. Higher is nearer.

    Args:
        codes: uint8 [n, bits / 8], of the database.
        rows: int64 [q, c], candidates of each query.
        outputs: float [q, bits], the hash function's outputs before their signs were taken.
        weights: float [bits], 1 by default.

    Returns:
        float32 [q, c].

    Raises:
        Mismatch: when outputs and codes differ in length.
        BadInput: for outputs or weights that are not numbers.
    """
    bits = codes.shape[1] * 8
    if outputs.shape[1] != bits:
        raise Mismatch("rescoring", f"codes of {bits} bits, {outputs.shape[1]} outputs", "Use the model of the index")
    weighted = (outputs if weights is None else outputs * weights).astype(np.float32)
    if not np.isfinite(weighted).all():
        raise BadInput("rescoring", "outputs or weights that are not numbers", "Check the query's features")
    scores = np.empty(rows.shape, dtype=np.float32)
    at_once = max(1, CANDIDATES_AT_ONCE // max(1, rows.shape[1]))
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        ones = np.unpackbits(codes[rows[part]], axis=2, bitorder="little").astype(np.float32)
        agreement = np.matmul(ones, weighted[part, :, None])[:, :, 0]
        scores[part] = 2 * agreement - weighted[part].sum(axis=1, keepdims=True)
    return scores


def cosine_scores(
    features: Float[np.ndarray, "n d"], rows: Int64[np.ndarray, "q c"], queries: Float[np.ndarray, "q d"]
) -> Float[np.ndarray, "q c"]:
    """Cosine of every candidate's stored features with the query's: float32 [q, c]; 0 where a row is zero.

    Raises:
        Mismatch: when features and queries differ in length, as those of two models, or of two modalities without a
            common space, do.
    """
    if features.shape[1] != queries.shape[1]:
        found = f"stored features of {features.shape[1]} numbers, queries of {queries.shape[1]}"
        raise Mismatch("rescoring", found, "Features must be of one model and one space for both modalities")
    scores = np.empty(rows.shape, dtype=np.float32)
    for q, candidates in enumerate(rows):
        taken, query = features[candidates].astype(np.float32), queries[q].astype(np.float32)
        norms = np.linalg.norm(taken, axis=1) * np.linalg.norm(query)
        scores[q] = taken @ query / np.where(norms > 0, norms, 1)
    return scores


def reorder(hits: Hits, scores: Float[np.ndarray, "q c"], k: int | None = None) -> Hits:
    """Candidates by descending score; equal ones stay in the order (distance, row).

    Args:
        hits: Candidates, as `search` gives them.
        scores: Of each.
        k: How many of them to keep; all by default.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Hits(np.take_along_axis(hits.distances, order, axis=1), np.take_along_axis(hits.rows, order, axis=1))


def bit_weights(outputs: Float[np.ndarray, "n bits"]) -> Float[np.ndarray, " bits"]:
    """Weights that make outputs of all bits comparable: one over their standard deviation, 0 for stuck bits."""
    spread = outputs.std(axis=0)
    weights: np.ndarray = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    return weights
