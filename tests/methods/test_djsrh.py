"""DJSRH against its formulas as plain loops."""

import math

import pytest
import torch

from tests.methods import oracle as o
from xhash_ray.methods.base import Batch, World
from xhash_ray.methods.djsrh import Settings

UNUSUAL = {"beta": 0.3, "eta": 0.7, "mu": 1.1, "lambda_1": 0.3, "lambda_2": 0.6, "pairs": 0.4}
given_settings = pytest.mark.parametrize("given", [{}, UNUSUAL, {"pairs": 0.0}])


def similarity(batch: Batch, means: tuple[o.Row, o.Row], signed: bool, s: Settings) -> o.Rows:
    """S entry by entry."""
    S_I, S_T = (
        [[2 * value - 1 for value in row] for row in affinities]
        for affinities in (
            o.affinities(rows.tolist(), mean) if signed else o.affinities_as_they_are(rows.tolist())
            for rows, mean in zip((batch.image, batch.text), means, strict=True)
        )
    )
    n = range(len(batch.image))
    joint = [[s.beta * S_I[i][j] + (1 - s.beta) * S_T[i][j] for j in n] for i in n]
    alike = [[sum(joint[i][k] * joint[j][k] for k in n) / len(batch.image) for j in n] for i in n]
    return [[s.mu * ((1 - s.eta) * joint[i][j] + s.eta * alike[i][j]) for j in n] for i in n]


def means_of(method) -> tuple[o.Row, o.Row]:
    """Training means of both modalities."""
    return method.scale_image.mean.tolist(), method.scale_text.mean.tolist()


@given_settings
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("epoch", [0, 8])
def test_terms_are_the_sums_of_the_docstring(given, signed, epoch):
    method, batch = o.ready("djsrh", signed, **given)
    method.start_epoch(epoch)
    s, n = Settings(**given), range(len(batch.image))
    S = similarity(batch, means_of(method), signed, s)
    B_I, B_T = (
        o.squashed(outputs.tolist(), math.sqrt(epoch + 1))
        for outputs in (method.image_outputs(batch.image), method.text_outputs(batch.text))
    )
    expected = {
        "intra_image": s.lambda_1 * o.mean_square(o.inners(B_I, B_I), S),
        "inter": o.mean_square(o.inners(B_I, B_T), S),
        "intra_text": s.lambda_2 * o.mean_square(o.inners(B_T, B_T), S),
        "pairs": -s.pairs * sum(o.inner(B_I[i], B_T[i]) for i in n) / len(B_I),
    }
    assert o.terms(method, batch) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_wanted_similarity_by_hand():
    """Two pairs: images at right angles (cosine 0, S_I = -1), texts alike (S_T = 1)."""
    method, _ = o.ready("djsrh", False, beta=0.75, eta=0.5, mu=2.0)
    image, text = torch.zeros(2, 5), torch.ones(2, 4)
    image[0, 0] = image[1, 1] = 1
    # S~ = [[1, -.5], [-.5, 1]];  S~ S~' / 2 = [[.625, -.5], [-.5, .625]];  S = S~ + S~ S~' / 2
    torch.testing.assert_close(method.similarity(image, text), torch.tensor([[1.625, -1.0], [-1.0, 1.625]]))


def test_no_gradient_flows_through_the_similarity():
    method, batch = o.ready("djsrh", True)
    seen, similarity = [], method.similarity
    method.similarity = lambda *given: seen.append(similarity(*given)) or seen[0]
    method(Batch(batch.image.requires_grad_(), batch.text.requires_grad_()), "joint", World())
    assert not seen[0].requires_grad


@pytest.mark.parametrize("modality", ["image", "text"])
def test_codes_do_not_hang_on_the_unit_of_the_features(modality):
    codes = []
    for unit in (1.0, 1000.0):
        method, batch = o.ready("djsrh", True)
        image, text = batch.image * unit, batch.text * unit
        method.scale_image.fit(image)
        method.scale_text.fit(text)
        codes.append(method.encode(modality, image if modality == "image" else text))
    assert (codes[0] == codes[1]).all()
