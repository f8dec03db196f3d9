"""Graphs of nearest neighbours against dense arrays, and what is extended from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from xhash_ray.methods.graphs import BLOCK, eigenpairs, extended, neighbour_graph
from xhash_ray.methods.scaling import unit


def rows_of(n: int = 60, d: int = 6, seed: int = 2) -> torch.Tensor:
    return unit(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


def blocks(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    return (some @ rows.T for some in rows.split(BLOCK))


def dense(rows: torch.Tensor, k: int) -> np.ndarray:
    """W, neighbours found by sorting."""
    S = (rows @ rows.T).double().numpy()
    W = np.zeros_like(S)
    for row in range(len(S)):
        order = [other for other in np.argsort(-S[row], kind="stable") if other != row][:k]
        W[row, order] = np.maximum(S[row, order], 0)
    return (W + W.T) / 2


def test_the_graph_is_its_definition():
    rows = rows_of()
    np.testing.assert_allclose(neighbour_graph(blocks(rows), 7).toarray(), dense(rows, 7), atol=1e-6)


def test_a_graph_of_several_blocks_has_no_node_beside_itself():
    rows = rows_of(BLOCK + 100)
    W = neighbour_graph(blocks(rows), 10)
    assert not W.diagonal().any()
    assert (W.getnnz(axis=1) >= 10).all()


def test_eigenpairs_are_those_of_the_dense_matrix():
    W = dense(rows_of(), 8)
    D = W.sum(axis=1)
    nu, v = np.linalg.eigh(W / np.sqrt(D[:, None] * D))
    wanted = v[:, ::-1][:, 1:6] / np.sqrt(D)[:, None]
    found_nu, found = eigenpairs(neighbour_graph(blocks(rows_of()), 8), 5, seed=1)
    np.testing.assert_allclose(found_nu, nu[::-1][1:6], atol=1e-6)
    np.testing.assert_allclose(np.abs((found * D[:, None] * wanted).sum(axis=0)), 1, atol=1e-5)  # they have no sign


def test_an_extension_gives_nodes_what_they_have():
    """Where every node is every node's neighbour, itself included, and no similarity is cut off."""
    rows = unit(rows_of().abs())
    W = (rows @ rows.T).double().numpy()
    D = W.sum(axis=1)
    nu, v = np.linalg.eigh(W / np.sqrt(D[:, None] * D))
    strong = np.abs(nu) > 0.06
    F = torch.from_numpy(v / np.sqrt(D)[:, None])[:, strong].float()
    found = extended(rows @ rows.T, F, torch.from_numpy(nu[strong]).float(), len(rows))
    torch.testing.assert_close(found, F, atol=1e-4, rtol=0)
