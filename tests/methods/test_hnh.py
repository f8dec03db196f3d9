"""HNH against its formulas as plain loops."""

import pytest
import torch

from tests.methods import oracle as o
from xhash_ray.methods.hnh import Settings, common_representation


def similarity(affinities: o.Rows, order: float) -> o.Rows:
    """k (A o (A A' / n)) - 1, entry by entry."""
    n = len(affinities)
    second = [[sum(affinities[i][k] * affinities[j][k] for k in range(n)) / n for j in range(n)] for i in range(n)]
    return o.entrywise(lambda a, b: order * a * b - 1, affinities, second)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("given", [{}, {"alpha": 3.0, "beta": 0.7, "lambda_": 1.3, "gamma": 0.4, "order": 1.5}])
def test_terms_are_the_sums_of_the_docstring(signed, given):
    method, batch = o.ready("hnh", signed, **given)
    s, image, text = Settings(**given), batch.image.tolist(), batch.text.tolist()
    affine = o.affinities if signed else lambda features, mean: o.affinities_as_they_are(features)
    S_I = similarity(affine(image, method.scale_image.mean.tolist()), s.order)
    S_T = similarity(affine(text, method.scale_text.mean.tolist()), s.order)
    S = o.entrywise(lambda a, b: s.gamma * a + (1 - s.gamma) * b, S_I, S_T)
    B_I = o.squashed(method.image_outputs(batch.image).tolist())
    B_T = o.squashed(method.text_outputs(batch.text).tolist())
    ratio = s.beta * 8 / (s.alpha * len(image))
    U = common_representation(*(torch.tensor(each) for each in (B_I, B_T, S)), ratio).tolist()
    expected = {
        "common_image": s.alpha * o.mean_square(B_I, U),
        "common_text": s.alpha * o.mean_square(B_T, U),
        "affinity_image": s.beta * o.mean_square(o.inners(B_I, U), S),
        "affinity_text": s.beta * o.mean_square(o.inners(B_T, U), S),
        "inter": s.lambda_ * o.mean_square(o.inners(B_I, B_T), S),
    }
    assert o.terms(method, batch) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_common_representation_minimises_the_first_two_sums():
    generator = torch.Generator().manual_seed(1)
    B_I, B_T = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    S = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    S = (S + S.T) / 2
    U = common_representation(B_I, B_T, S, 0.3).requires_grad_()
    near = (U - B_I).square().sum() + (U - B_T).square().sum()
    far = (S - U @ B_I.T).square().sum() + (S - U @ B_T.T).square().sum()
    (near + 0.3 * far).backward()
    assert U.grad is not None
    assert U.grad.abs().max() < 1e-10
