"""AGCH against its formulas as plain loops."""

import math

import pytest
import torch

from tests.methods import oracle as o
from xhash_ray.methods.agch import Settings

UNUSUAL = {"alpha": 0.4, "beta": 0.3, "lambda_": 5.0, "delta": 0.2, "rho": 2.0, "gamma_v": 1.0, "gamma_t": 0.8}


def matrix_product(X: o.Rows, Y: o.Rows) -> o.Rows:
    """X Y."""
    return o.inners(X, o.transposed(Y))


def graph_codes(net: torch.nn.Module, features: o.Rows, P: o.Rows) -> o.Rows:
    """relu(P X W), relu(P H W), a linear layer, tanh, unit rows."""
    H = features
    for layer in (net.first, net.second):
        spread = matrix_product(P, matrix_product(H, o.transposed(layer.weight.tolist())))
        H = [[max(0.0, value) for value in row] for row in spread]
    outputs = matrix_product(H, o.transposed(net.last.weight.tolist()))
    bias = net.last.bias.tolist()
    return o.squashed([[value + b for value, b in zip(row, bias, strict=True)] for row in outputs])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("given", [{}, UNUSUAL])
def test_terms_are_the_sums_of_the_docstring(signed, given):
    method, batch = o.ready("agch", signed, **given)
    s, image, text, n = Settings(**given), batch.image.tolist(), batch.text.tolist(), range(len(batch.image))
    affine = o.affinities if signed else lambda features, mean: o.affinities_as_they_are(features)
    C_I = affine(image, method.scale_image.mean.tolist())
    C_T = affine(text, method.scale_text.mean.tolist())
    weight = s.gamma_v**2 + s.gamma_t**2
    C = o.entrywise(lambda a, b: (s.gamma_v**2 * a + s.gamma_t**2 * b) / weight, C_I, C_T)
    A = o.entrywise(lambda c: c * math.exp(-math.sqrt(math.sqrt(max(0.0, 2 - 2 * c))) / s.rho), C)
    S = o.entrywise(lambda a: 2 * a - 1, A)
    degree = [sum(row) for row in A]
    P = [[A[i][j] / math.sqrt(degree[i] * degree[j]) for j in n] for i in n]
    h_v, h_t = method.image_outputs(batch.image), method.text_outputs(batch.text)
    B_v, B_t = o.squashed(h_v.tolist()), o.squashed(h_t.tolist())
    B_h = o.squashed(method.fusion(torch.cat([h_v, h_t], dim=1)).tolist())
    G_v = graph_codes(method.image_graph, method.scale_image(batch.image).tolist(), P)
    G_t = graph_codes(method.text_graph, method.scale_text(batch.text).tolist(), P)
    expected = {
        "inter": s.alpha * o.mean_square(o.inners(B_v, B_t), S),
        "intra_image": s.alpha * s.beta * o.mean_square(o.inners(B_v, B_v), S),
        "intra_text": s.alpha * s.beta * o.mean_square(o.inners(B_t, B_t), S),
        "graph": s.delta * o.mean_square(o.inners(G_v, G_t), S),
        "graph_agrees": s.delta * (o.mean_square(G_v, B_v) + o.mean_square(G_t, B_t)),
        "fused": s.lambda_ * (o.mean_square(B_v, B_h) + o.mean_square(B_t, B_h)),
    }
    assert o.terms(method, batch) == pytest.approx(expected, rel=1e-4, abs=1e-5)
