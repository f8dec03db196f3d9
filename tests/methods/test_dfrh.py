"""DFRH against its formulas written out densely, and what it decides by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xhash_ray import methods
from xhash_ray.errors import BadInput
from xhash_ray.methods import dfrh
from xhash_ray.methods.base import Shape, TrainingPairs
from xhash_ray.methods.dfrh import DFRH, HashFunction, Preparation, Settings

PAIRS, BITS = 240, 16


def pairs_of(n: int = PAIRS, noise: float = 0.3, one_space: bool = False, seed: int = 1) -> TrainingPairs:
    """Pairs with eight numbers in common, seen through a map of each modality's own, or the same map."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, 8, generator=generator)
    maps = [torch.randn(8, 24, generator=generator) for _ in range(2)]
    image, text = (
        shared @ maps[0 if one_space else at] + noise * torch.randn(n, 24, generator=generator) for at in range(2)
    )
    return TrainingPairs(image, text + 1.5, None, n)  # an offset, as between CLIP's modalities


def prepared(pairs: TrainingPairs, bits: int = BITS, **settings: object) -> DFRH:
    method = methods.create("dfrh", Shape(bits, pairs.image.shape[1], pairs.text.shape[1]), settings)
    method.prepare(pairs, 3)
    assert isinstance(method, DFRH)
    return method


def rows_of(n: int = 60, d: int = 6) -> torch.Tensor:
    return dfrh.unit(torch.randn(n, d, generator=torch.Generator().manual_seed(2)))


def dense(rows: torch.Tensor, s: Settings) -> tuple[np.ndarray, np.ndarray]:
    """S and F of eq. (2), neighbours found by sorting, every eigenpair by numpy."""
    S = (rows @ rows.T).double().numpy()
    n = len(S)
    k = min(max(round(s.neighbours * n**0.5), 10), n - 1)
    W = np.zeros((n, n))
    for row in range(n):
        order = [other for other in np.argsort(-S[row], kind="stable") if other != row][:k]
        W[row, order] = np.maximum(S[row, order], 0)
    W = np.maximum(W, W.T)
    D = W.sum(axis=1)
    nu, v = np.linalg.eigh(W / np.sqrt(D[:, None] * D))
    nu, v = nu[::-1][1:], v[:, ::-1][:, 1:]
    c = min(s.dimensions, n - 2)
    F = v[:, :c] / np.sqrt(D)[:, None] * (1 - s.alpha * nu[:c]) ** -s.q
    return nu[:c], F / np.sqrt((F**2).sum(axis=1).mean())


def test_the_target_is_its_formula():
    rows, s = rows_of(), Settings(dimensions=7)
    _, F = dense(rows, s)
    found = dfrh.diffused(rows, s, 1).double().numpy()
    np.testing.assert_allclose(found @ found.T, F @ F.T, atol=1e-4)  # eigenvectors have no sign


def test_an_extension_gives_graph_pairs_what_they_have():
    """W F / (nu D) = F on the graph itself where every node is every node's neighbour."""
    rows, s = rows_of(), Settings(dimensions=4, neighbours=100.0)
    shifted = dfrh.unit(rows.abs())  # no similarity below 0: nothing is cut off
    nu, F = dense(shifted, s)
    W = (shifted @ shifted.T).double().numpy()
    np.fill_diagonal(W, 0)
    np.testing.assert_allclose(W @ F / W.sum(axis=1, keepdims=True) / nu, F, atol=1e-6)


def test_pairs_beyond_the_graph_lie_near_where_a_whole_graph_puts_them():
    rows = dfrh.unit(torch.cat([rows_of(200, 6) * 0.2 + centre for centre in 3 * torch.eye(6)[:3]]))
    whole, part = (dfrh.diffused(rows, Settings(dimensions=2, graph_pairs=most), 1) for most in (600, 300))
    for group in range(3):  # groups are together, and apart from others, in both
        own = slice(200 * group, 200 * group + 200)
        for F in (whole, part):
            centre = F[own].mean(dim=0)
            assert (F[own] - centre).norm(dim=1).mean() < 0.3 * centre.norm()


def test_the_regression_is_its_formula():
    rows = rows_of()
    F = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(5))
    function = HashFunction(6, 80, 3)
    placed = function.place(rows, torch.Generator().manual_seed(1))
    assert placed == len(rows)
    C = function.regress(rows, F, 0.1, placed)
    K = torch.exp(-torch.cdist(rows, function.U[:placed]).square() / function.s).double().numpy()
    gram = torch.exp(-torch.cdist(function.U[:placed], function.U[:placed]).square() / function.s).double().numpy()
    residual = K.T @ (K @ C[:placed].double().numpy() - F.double().numpy()) + 0.1 * gram @ C[:placed].double().numpy()
    np.testing.assert_allclose(residual, 0, atol=1e-3)
    assert not C[placed:].any()


def test_two_spaces_are_not_taken_for_one_and_one_is():
    assert prepared(pairs_of()).beta == 0
    assert prepared(pairs_of(one_space=True)).beta > 0.4


def test_it_says_what_it_found():
    (found,) = prepared(pairs_of(one_space=True)).findings()
    assert found.startswith("direct cross-modal similarity used with weight 0.")
    (none,) = prepared(pairs_of()).findings()
    assert "weight 0.00" in none


def test_a_weight_that_is_given_is_used():
    assert prepared(pairs_of(one_space=True), beta=0.0).beta == 0
    assert prepared(pairs_of(one_space=True), beta=0.75).beta == 0.75


def test_new_pairs_find_their_halves():
    """Pairs that training has not seen; a coin would give half of the bits."""
    for one_space in (False, True):
        everything = pairs_of(2 * PAIRS, one_space=one_space)
        method = prepared(TrainingPairs(everything.image[:PAIRS], everything.text[:PAIRS], None, PAIRS))
        image, text = (
            np.unpackbits(method.encode(modality, rows[PAIRS:]), axis=1)
            for modality, rows in (("image", everything.image), ("text", everything.text))
        )
        assert (image != text).mean() < 0.25
        assert (image != np.roll(text, 1, axis=0)).mean() > 0.4


def test_counts_are_rooted_and_weighted_and_signed_features_are_not():
    counts = (torch.rand(50, 30, generator=torch.Generator().manual_seed(1)) > 0.9).float() * 4
    preparation = Preparation(30)
    preparation.fit(counts)
    present = (counts > 0).sum(dim=0)
    np.testing.assert_allclose(preparation.idf, np.log(51 / (1 + present.numpy())), rtol=1e-5)
    assert preparation.rooted
    signed = Preparation(30)
    signed.fit(counts - 1)
    assert not signed.rooted
    assert (signed.idf == 1).all()


@pytest.mark.parametrize("bits", [8, 16, 64, 256])
def test_no_bit_is_stuck_or_repeats_another(bits):
    from xhash_ray.methods.artefacts import bit_health

    pairs = pairs_of(1000)
    method = prepared(pairs, bits, landmarks=200)
    for modality, rows in (("image", pairs.image), ("text", pairs.text)):
        health = bit_health(method.encode(modality, rows))
        assert health["stuck_bits"] == 0
        assert health["duplicate_bits"] == 0


def test_too_few_pairs_are_said():
    few = pairs_of(2)
    with pytest.raises(BadInput, match="2 pairs"):
        prepared(few)
