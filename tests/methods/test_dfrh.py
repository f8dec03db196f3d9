"""DFRH against its formulas written out densely, and what it decides by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xhash_ray import methods
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.learning import loop
from xhash_ray.learning.sources import Resident
from xhash_ray.methods import dfrh, graphs, rotations
from xhash_ray.methods.base import Shape, TrainingPairs, World
from xhash_ray.methods.dfrh import DFRH, Settings
from xhash_ray.methods.scaling import Preparation, unit

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
    assert isinstance(method, DFRH)
    size = min(method.settings.batch_size, len(pairs.image))
    loop.fit(method, Resident(pairs.image, pairs.text, None, size, 3, World(), whole=True), World(), 3)
    return method


def rows_of(n: int = 60, d: int = 6) -> torch.Tensor:
    return unit(torch.randn(n, d, generator=torch.Generator().manual_seed(2)))


def test_the_target_is_its_formula():
    rows, s = rows_of(), Settings(dimensions=7)
    W = graphs.neighbour_graph([rows @ rows.T], 10)
    nu, v = graphs.eigenpairs(W, 7, seed=1)
    wanted = v * (1 - s.alpha * nu) ** -s.q
    wanted /= np.sqrt((wanted**2).sum(axis=1).mean())
    F, found_nu = dfrh.diffused(W, s, 1)
    np.testing.assert_allclose(F @ F.T, wanted @ wanted.T, atol=1e-4)
    np.testing.assert_allclose(found_nu, nu, rtol=1e-5)


def test_pairs_beyond_the_graph_lie_near_where_a_whole_graph_puts_them():
    whole, part = pairs_of(600, noise=0.1), prepared(pairs_of(600, noise=0.1), graph_pairs=300, dimensions=8)
    assert len(part.nodes_x) == 300
    x, y = part.prepared_image(whole.image), part.prepared_text(whole.text)
    known = {row.numpy().tobytes() for row in part.nodes_x}
    beyond = torch.tensor([row.numpy().tobytes() not in known for row in x])
    assert beyond.sum() == 300
    S, F = part.similarities(x, y, [0.33])[0][beyond], part.target(x, y)[beyond]
    best, worst = S.argmax(dim=1), S.argmin(dim=1)
    near, far = ((F - part.F[at]).norm(dim=1).mean() for at in (best, worst))
    assert near < 0.5 * far


def test_pairs_in_any_batches_give_the_same():
    pairs = pairs_of()
    one, other = prepared(pairs, batch_size=1000), prepared(pairs, batch_size=77)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, atol=1e-4, rtol=1e-4)


def test_the_rotation_is_orthonormal_and_takes_more_of_the_rows_than_principal_directions():
    generator = torch.Generator().manual_seed(4)
    signs = torch.where(torch.randn(400, 4, generator=generator) >= 0, 1.0, -1.0)  # strong, along the axes
    V = torch.cat([signs, 1.5 * torch.randn(400, 20, generator=generator)], dim=1).double()
    R = rotations.rotation(V, 8, 50, seed=1)
    torch.testing.assert_close(R.T @ R, torch.eye(8, dtype=torch.float64))
    assert (V @ R).abs().sum() > (V @ rotations.principal(V, 8)).abs().sum()


def test_fewer_directions_than_bits_are_spread_over_all_bits():
    V = torch.randn(100, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    R = rotations.rotation(V, 16, 50, seed=1)
    torch.testing.assert_close(R @ R.T, torch.eye(5, dtype=torch.float64))
    assert ((V @ R).std(dim=0) > 0.1).all()


def test_the_second_pass_regresses_onto_common_bits():
    pairs = pairs_of(one_space=True)
    first, second = prepared(pairs, epochs=1, beta=0.3), prepared(pairs, beta=0.3)
    x, y = first.prepared_image(pairs.image), first.prepared_text(pairs.text)
    B = torch.where(first.image(x) + first.text(y) >= 0, 1.0, -1.0).double() * float(first.level)
    K, ridge = first.image.kappa(x).double(), first.settings.lambda_ * first.image.kappa(first.image.U).double()
    wanted = torch.linalg.lstsq(K.T @ K + ridge, K.T @ (B - x.double() @ first.image.P.double())).solution
    torch.testing.assert_close(K @ second.image.C.double(), K @ wanted, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(second.image.P, first.image.P)


def test_landmarks_are_as_many_as_encoding_may_cost():
    for shape in (Shape(64, 512, 512), Shape(1024, 512, 512), Shape(64, 100_000, 100_000), Shape(512, 2048, 2048)):
        assert 900 < dfrh.landmarks_for(shape) < 1000
    assert dfrh.landmarks_for(Shape(64, 128, 10)) == dfrh.MOST_LANDMARKS
    assert methods.load("jdsh").settings_type().hidden == dfrh.HIDDEN
    shape = Shape(64, 512, 698)
    products = dfrh.landmarks_for(shape) * (512 + 698 + 2 * 64)
    assert 0.99 * dfrh.COST < products / dfrh.jdsh_products(shape) <= dfrh.COST
    assert len(prepared(pairs_of(), landmarks=50).image.U) == 50
    assert len(prepared(pairs_of()).image.U) == PAIRS


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


@pytest.mark.parametrize("w", [("much",), ("1.5",), ()])
def test_shares_that_are_none_are_said(w):
    with pytest.raises(BadOption, match=r"settings\.w"):
        prepared(pairs_of(), w=w)


def test_similarities_are_their_formula():
    pairs = pairs_of(one_space=True)
    method = prepared(pairs, beta=0.25)
    x, y = method.prepared_image(pairs.image), method.prepared_text(pairs.text)
    z = (unit(x @ method.A) + unit(y @ method.B)) / 2
    one, other = method.similarities(x, y, [0.0, 0.4])
    own = (x @ x.T + y @ y.T) / 2
    torch.testing.assert_close(one, 0.75 * z @ z.T + 0.25 * (x + y) @ (x + y).T / 4)
    torch.testing.assert_close(other, 0.75 * (0.6 * z @ z.T + 0.4 * own) + 0.25 * (x + y) @ (x + y).T / 4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alpha": 1.5}, "alpha"),
        ({"beta": 2.0}, "beta"),
        ({"sample": 2}, "sample"),
        ({"landmarks": -1}, "landmarks"),
        ({"dimensions": 0}, "dimensions"),
        ({"graph_pairs": 0}, "graph_pairs"),
    ],
)
def test_numbers_that_cannot_be_are_refused(settings, said):
    with pytest.raises(BadOption, match=f"settings.{said}"):
        dfrh.Settings(**settings)


def test_a_few_pairs_that_are_all_unlike_each_other_are_refused():
    pairs = pairs_of()
    few = TrainingPairs(pairs.image[:3], pairs.text[:3], None, 3)
    with pytest.raises(BadInput, match="no two of which are alike"):
        prepared(few)
