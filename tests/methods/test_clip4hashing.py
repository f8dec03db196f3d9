"""CLIP4Hashing against its formulas as plain loops."""

import math

import pytest
import torch

from tests.methods import oracle as o
from xhash_ray.methods.base import World
from xhash_ray.methods.clip4hashing import MOMENTUM, Settings

UNUSUAL = {"intra": 0.4, "inter": 0.7, "consistency": 1.1}


def centred(features: o.Rows) -> o.Rows:
    """Features less their column means."""
    mean = [sum(column) / len(features) for column in o.transposed(features)]
    return [[value - m for value, m in zip(row, mean, strict=True)] for row in features]


def affinity(image: o.Rows, text: o.Rows) -> o.Rows:
    """S_C: direct where lengths agree, by neighbourhoods otherwise; a pair counts as 1."""
    n = range(len(image))
    if len(image[0]) == len(text[0]):
        S = [[o.cosine(image[i], text[j]) for j in n] for i in n]
    else:
        S_I, S_T = (o.affinities_as_they_are(features) for features in (image, text))
        S = [[o.cosine(S_I[i], S_T[j]) for j in n] for i in n]
    for i in n:
        S[i][i] = 1.0
    return [[(S[i][j] + S[j][i]) / 2 for j in n] for i in n]


def weighted(S: o.Rows) -> o.Rows:
    """Dynamic weighting, entry by entry."""
    values = [value for row in S for value in row]
    mean, low, high = sum(values) / len(values), min(values), max(values)

    def one(value: float) -> float:
        if value <= mean:
            return max(-1.0, min(1.0, value * math.exp(-0.5 * (mean - value) / (mean - low) - 0.5)))
        return max(-1.0, min(1.0, value * math.exp(0.5 * (value - mean) / (high - mean) - 0.5)))

    return o.entrywise(one, S)


@pytest.mark.parametrize("lengths", [(5, 5), (5, 4)])
@pytest.mark.parametrize("given", [{}, UNUSUAL])
def test_terms_are_the_sums_of_the_docstring(lengths, given):
    method, batch = o.ready("clip4hashing", True, lengths=lengths, **given)
    s = Settings(**given)
    S = weighted(affinity(centred(batch.image.tolist()), centred(batch.text.tolist())))
    H_I = [o.unit(row) for row in method.image_hidden(batch.image).tolist()]
    H_T = [o.unit(row) for row in method.text_hidden(batch.text).tolist()]
    expected = {
        "intra_image": s.intra * o.mean_square(o.inners(H_I, H_I), S),
        "intra_text": s.intra * o.mean_square(o.inners(H_T, H_T), S),
        "inter_image_text": s.inter * o.mean_square(o.inners(H_I, H_T), S),
        "inter_text_image": s.inter * o.mean_square(o.inners(H_T, H_I), S),
        "consistency": s.consistency * o.mean_square(H_I, H_T),
    }
    assert o.terms(method, batch) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_equal_lengths_share_the_whole_net():
    method, batch = o.ready("clip4hashing", True, lengths=(5, 5))
    assert method.image_layer is method.text_layer
    assert torch.equal(method.image_layer(batch.image), method.text_layer(batch.image))


def test_a_bit_is_decided_by_the_middle_between_the_extremes():
    method, batch = o.ready("clip4hashing", True)
    method.train()(batch, "joint", World())
    h = method.image_hidden(batch.image)
    middle = MOMENTUM * (h.amax(dim=0) + h.amin(dim=0)) / 2
    assert torch.allclose(method.image_middle, middle)
    assert torch.allclose(method.image_outputs(batch.image), h - middle)
    by_sign, _ = o.ready("clip4hashing", True, min_max=False)
    assert torch.equal(by_sign.image_outputs(batch.image), by_sign.image_hidden(batch.image))
