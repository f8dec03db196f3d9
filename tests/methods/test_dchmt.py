"""DCHMT against its formulas, written here once more as plain loops over Python numbers."""

import math

import pytest
import torch

from xhash_ray import methods
from xhash_ray.learning.loop import fit
from xhash_ray.learning.sources import Resident
from xhash_ray.methods.base import Batch, Shape, TrainingPairs, World
from xhash_ray.methods.dchmt import DCHMT, squared_distances

N, BITS, CLASSES = 7, 8, 3


def pairs(multi: bool = True) -> TrainingPairs:
    """N pairs with one or several labels each, in double precision."""
    generator = torch.Generator().manual_seed(3)
    image, text = (torch.randn(N, d, generator=generator, dtype=torch.float64) for d in (5, 6))
    labels = torch.nn.functional.one_hot(torch.arange(N) % CLASSES, CLASSES).double()
    if multi:
        labels = torch.maximum(labels, (torch.rand(N, CLASSES, generator=generator) < 0.2).double())
    return TrainingPairs(image, text, labels, N)


def created(multi: bool = True, **changed: float | bool) -> DCHMT:
    """A small DCHMT in double precision."""
    torch.manual_seed(1)
    method = methods.create("dchmt", Shape(BITS, 5, 6, CLASSES), {"hidden": 6, **changed}).double()
    method.prepare(pairs(multi), 1)
    return method.double()


def whole(multi: bool = True) -> Batch:
    """All pairs as one batch."""
    image, text, labels, _ = pairs(multi)
    return Batch(image, text, labels, torch.arange(N))


def probabilities(outputs: list[list[float]]) -> list[list[float]]:
    """From how much more a bit's second choice is preferred: the probabilities of both, bit after bit."""
    found = []
    for row in outputs:
        ones = [1 / (1 + math.exp(-value)) for value in row]
        found.append([p for one in ones for p in (1 - one, one)])
    return found


def terms_oracle(P: list[list[float]], Q: list[list[float]], labels: list[list[float]], s: object) -> tuple:
    """pos and neg, entry by entry."""
    n = range(len(P))
    S = [[float(any(a and b for a, b in zip(labels[i], labels[j], strict=True))) for j in n] for i in n]
    share = sum(map(sum, S)) / len(P) ** 2
    alike, apart = (0.5 / share, 0.5 / (1 - share)) if s.balance else (1.0, 1.0)
    margin = math.sqrt(2 * BITS * s.vartheta)
    pos = neg = 0.0
    for i in n:
        for j in n:
            d = math.sqrt(sum((a - b) ** 2 for a, b in zip(P[i], Q[j], strict=True)))
            pos += alike * S[i][j] * d**2
            neg += apart * (1 - S[i][j]) * max(margin - d, 0.0) ** 2
    return pos / len(P) ** 2, neg / len(P) ** 2


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("changed", [{}, {"balance": False}, {"vartheta": 0.05}, {"vartheta": 0.9, "balance": False}])
def test_the_loss_is_its_formula(multi, changed):
    method, batch = created(multi, **changed), whole(multi)
    with torch.no_grad():
        P_I = probabilities(method.image_outputs(batch.image).tolist())
        P_T = probabilities(method.text_outputs(batch.text).tolist())
        found = {name: value.item() for name, value in method(batch, "joint", World()).items()}
    expected = {}
    for name, (P, Q) in {"inter": (P_I, P_T), "intra_image": (P_I, P_I), "intra_text": (P_T, P_T)}.items():
        both = terms_oracle(P, Q, batch.labels.tolist(), method.settings)
        expected[f"{name}_pos"], expected[f"{name}_neg"] = both
    assert found == pytest.approx(expected, abs=1e-12)


def test_codes_that_differ_in_h_bits_are_root_two_h_apart():
    ones, zeros = torch.tensor([[0.0, 1.0] * 6]), torch.tensor([[0.0, 1.0] * 2 + [1.0, 0.0] * 4])
    assert float(squared_distances(ones, zeros)) == 2 * 4
    assert float(squared_distances(ones, ones)) == 0


@pytest.mark.parametrize(("vartheta", "expected"), [(0.5, 0.0), (0.75, (math.sqrt(12) - math.sqrt(8)) ** 2)])
def test_the_margin_by_hand(vartheta, expected):
    """Dissimilar codes that differ in 4 of 8 bits, and so 8 apart in square."""
    method = created(vartheta=vartheta, balance=False)
    P, Q = torch.tensor([[0.0, 1.0] * 8]).double(), torch.tensor([[0.0, 1.0] * 4 + [1.0, 0.0] * 4]).double()
    terms = method.pos_and_neg(P, Q, torch.zeros(1, 1).double())
    assert terms["pos"] == 0
    assert float(terms["neg"]) == pytest.approx(expected)


def test_equal_codes_have_finite_gradients():
    method, (image, text, labels, _) = created(multi=False), pairs(multi=False)
    batch = Batch(image[:1].expand(4, -1), text[:1].expand(4, -1), labels[:4], torch.arange(4))
    sum(method(batch, "joint", World()).values()).backward()
    assert all(weight.grad.isfinite().all() for weight in method.parameters())


def test_a_code_is_the_choice_of_the_larger_probability():
    method, batch = created(), whole()
    chosen = method.image_net(method.scale_image(batch.image)).softmax(dim=2).argmax(dim=2)
    torch.testing.assert_close(method.image_outputs(batch.image) > 0, chosen == 1)


def test_rates_rise_then_fall_along_half_a_cosine():
    method = created(epochs=10, warm_up=0.2, learning_rate=1.0)
    found = [method.learning_rates(epoch, 0)["joint"] for epoch in range(10)]
    expected = [0.25, 0.75, *((1 + math.cos(math.pi * (epoch + 0.5) / 10)) / 2 for epoch in range(2, 10))]
    assert found == pytest.approx(expected)


def test_several_labels_are_learned():
    """Pairs whose labels overlap come to have closer codes across modalities than pairs without a common label."""
    generator = torch.Generator().manual_seed(5)
    labels = (torch.rand(96, 5, generator=generator) < 0.3).float()
    image, text = (
        labels @ torch.randn(5, d, generator=generator) + 0.1 * torch.randn(96, d, generator=generator) for d in (12, 9)
    )
    torch.manual_seed(1)
    method = methods.create("dchmt", Shape(16, 12, 9, 5), {"hidden": 32, "epochs": 120, "batch_size": 32})
    fit(method, Resident(image, text, labels, 32, 3, World()), World(), 3)
    B_I, B_T = method.image_outputs(image).sign(), method.text_outputs(text).sign()
    S, products = labels @ labels.T > 0, B_I @ B_T.T
    assert products[S].mean() > products[~S].mean() + 4
