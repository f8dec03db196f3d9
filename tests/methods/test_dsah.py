"""DSAH against its formulas as plain loops."""

import math

import pytest
import torch

from tests.methods import oracle as o
from xhash_ray.methods.base import World
from xhash_ray.methods.dsah import Settings


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("given", [{}, {"scale": 1.2, "beta": 0.4, "decode": 0.5, "symmetry": 3.0, "modal": 0.2}])
@pytest.mark.parametrize("epoch", [0, 3])
def test_terms_are_the_sums_of_the_docstring(signed, given, epoch):
    method, batch = o.ready("dsah", signed, **given)
    method.start_epoch(epoch)
    s, image, text = Settings(**given), batch.image.tolist(), batch.text.tolist()
    affine = o.affinities if signed else lambda features, mean: o.affinities_as_they_are(features)
    S_I, S_T = (
        o.entrywise(lambda a: s.scale * (2 * a - 1), affine(features, scale.mean.tolist()))
        for features, scale in ((image, method.scale_image), (text, method.scale_text))
    )
    S = o.entrywise(lambda a, b: s.beta * a + (1 - s.beta) * b, S_I, S_T)
    B_I = o.squashed(method.image_outputs(batch.image).tolist(), math.sqrt(epoch + 1))
    B_T = o.squashed(method.text_outputs(batch.text).tolist(), math.sqrt(epoch + 1))
    F_I = [o.unit(row) for row in method.scale_image(batch.image).tolist()]
    F_T = [o.unit(row) for row in method.scale_text(batch.text).tolist()]
    D_I = method.image_decoder(torch.tensor(B_T)).tolist()
    D_T = method.text_decoder(torch.tensor(B_I)).tolist()
    IT = o.inners(B_I, B_T)
    expected = {
        "intra_image": o.mean_square(o.inners(B_I, B_I), S),
        "inter": o.mean_square(IT, S),
        "intra_text": o.mean_square(o.inners(B_T, B_T), S),
        "pairs": sum((IT[i][i] - s.scale) ** 2 for i in range(len(IT))) / len(IT),
        "decode_image": s.decode * o.mean_square(D_I, F_I),
        "decode_text": s.decode * o.mean_square(D_T, F_T),
        "symmetry": s.symmetry * o.mean_square(IT, o.transposed(IT)),
        "modal_image": s.modal * o.mean_square(o.inners(B_I, B_I), S_I),
        "modal_text": s.modal * o.mean_square(o.inners(B_T, B_T), S_T),
    }
    assert o.terms(method, batch) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_decoding_sends_its_gradient_into_the_other_modalitys_net():
    method, batch = o.ready("dsah", True)
    method(batch, "joint", World())["decode_text"].backward()
    assert method.image_net.weight.grad.abs().max() > 0
    assert method.text_net[0].weight.grad is None or not method.text_net[0].weight.grad.any()
