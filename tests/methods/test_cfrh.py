"""CFRH against its formulas as plain loops."""

import math

import pytest
import torch

from tests.methods import oracle as o
from xhash_ray.methods.base import World
from xhash_ray.methods.cfrh import Settings

UNUSUAL = {"beta": 0.3, "gamma": 0.3, "eta": 0.4, "mu": 1.1, "delta": 0.6, "phi": 0.4}


def similarity(features: o.Rows, mean: o.Row, signed: bool) -> o.Rows:
    """S_I or S_T: 2 cos - 1, or the cosine of centred features."""
    affinity = o.affinities(features, mean) if signed else o.affinities_as_they_are(features)
    return o.entrywise(lambda a: 2 * a - 1, affinity)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("given", [{}, UNUSUAL])
@pytest.mark.parametrize("epoch", [0, 8])
def test_terms_are_the_sums_of_the_docstring(signed, given, epoch):
    method, batch = o.ready("cfrh", signed, **given)
    method.start_epoch(epoch)
    s, n, a = Settings(**given), range(len(batch.image)), math.sqrt(epoch + 1)
    S_I = similarity(batch.image.tolist(), method.scale_image.mean.tolist(), signed)
    S_T = similarity(batch.text.tolist(), method.scale_text.mean.tolist(), signed)
    S_C = [[o.cosine(S_I[i], S_T[j]) for j in n] for i in n]
    S = [
        [s.mu * (s.beta * S_I[i][j] + s.gamma * S_T[i][j] + s.eta * (S_C[i][j] + S_C[j][i]) / 2) for j in n] for i in n
    ]
    codes = [
        [[math.tanh(a * value) for value in row] for row in outputs.tolist()]
        for outputs in (method.image_outputs(batch.image), method.text_outputs(batch.text))
    ]
    B_I, B_T = ([o.unit(row) for row in rows] for rows in codes)
    F_I = [o.unit(row) for row in method.scale_image(batch.image).tolist()]
    F_T = [o.unit(row) for row in method.scale_text(batch.text).tolist()]
    D_I, D_T = (
        decoder(torch.tensor(rows)).tolist()
        for decoder, rows in zip((method.image_decoder, method.text_decoder), codes, strict=True)
    )
    expected = {
        "intra_image": s.delta * o.mean_square(o.inners(B_I, B_I), S),
        "intra_text": s.delta * o.mean_square(o.inners(B_T, B_T), S),
        "cross_image_text": o.mean_square(o.inners(B_I, B_T), S),
        "cross_text_image": o.mean_square(o.inners(B_T, B_I), S),
        "pairs": -sum(o.inner(B_I[i], B_T[i]) for i in n) / len(B_I),
        "reconstruct_image": s.phi * 5 * o.mean_square(D_I, F_I),
        "reconstruct_text": s.phi * 4 * o.mean_square(D_T, F_T),
    }
    assert o.terms(method, batch) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_reconstruction_sends_its_gradient_into_the_encoder():
    method, batch = o.ready("cfrh", True)
    method(batch, "joint", World())["reconstruct_image"].backward()
    assert method.image_net[0].weight.grad.abs().max() > 0
    assert method.image_decoder.weight.grad.abs().max() > 0
