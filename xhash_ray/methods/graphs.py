"""Graphs of nearest neighbours, their strongest eigenvectors, and where further rows lie among these.

Source: Coifman, Lafon: Diffusion maps, ACHA 2006 (section 3: eigenvectors; section 5 of Lafon, Lee, PAMI 2006 and
Bengio et al., NIPS 2003: their extension to rows that are not in the graph).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from jaxtyping import Float, Int64
from torch import Tensor

BLOCK = 2048  # rows at a time: bounds memory
WEAKEST = 0.05  # eigenvalue that an extension divides by, at least


def nearest(
    S: Float[Tensor, "n m"], k: int, first: int | None = None
) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """Similarities of rows and their k nearest nodes, those below 0 taken for 0.

    Args:
        S: Of rows and nodes; changed where rows are nodes.
        k: How many.
        first: The first row's own place among the nodes, where rows are nodes; none is its own neighbour.
    """
    if first is not None:
        S[torch.arange(len(S)), torch.arange(first, first + len(S))] = -torch.inf
    found = S.topk(k, dim=1)
    return found.values.clamp(min=0), found.indices


def neighbour_graph(blocks: Iterable[Float[Tensor, "n m"]], k: int) -> scipy.sparse.csr_matrix:
    """W: similarities of nodes of which one is among the other's k nearest, half of them where only one is.

    Args:
        blocks: Similarities of all nodes, some rows at a time.
        k: How many.
    """
    found, m = list[tuple[Tensor, Tensor]](), 0
    for S in blocks:
        found.append(nearest(S, k, m))
        m += len(S)
    values, columns = (torch.cat(part).numpy().ravel() for part in zip(*found, strict=True))
    W = scipy.sparse.csr_matrix((values.astype(np.float64), (np.repeat(np.arange(m), k), columns)), (m, m))
    return (W + W.T) / 2


def eigenpairs(
    W: scipy.sparse.csr_matrix, c: int, seed: int
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, "m c"]]:
    """nu and D^-1/2 v: the strongest eigenpairs of D^-1/2 W D^-1/2, the constant one left out, the strongest first."""
    root = scipy.sparse.diags((np.asarray(W.sum(axis=1)).ravel() + 1e-9) ** -0.5)
    start = np.random.default_rng(seed).standard_normal(W.shape[0])
    nu, v = scipy.sparse.linalg.eigsh(root @ W @ root, k=c + 1, which="LA", v0=start)
    strongest = np.argsort(-nu)[1:]
    return nu[strongest], root @ v[:, strongest]


def extended(S: Float[Tensor, "n m"], F: Float[Tensor, "m c"], nu: Float[Tensor, " c"], k: int) -> Float[Tensor, "n c"]:
    """F of any rows, from their k nearest nodes: (W F)_j / (nu_j D). With the graph's own W, symmetric and without a
    node's similarity to itself, that is F; a node that is asked for like any row gets something near it."""
    W, columns = nearest(S, k)
    weights = W / W.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return torch.einsum("nk,nkc->nc", weights, F[columns]) / nu.clamp(min=WEAKEST)
