"""DCMH against its formulas, written here once more as plain loops over Python numbers."""

import math

import pytest
import torch

from xhash_ray import methods
from xhash_ray.errors import BadInput
from xhash_ray.learning.loop import fit
from xhash_ray.learning.sources import Resident
from xhash_ray.methods.base import Batch, Shape, TrainingPairs, World
from xhash_ray.methods.blocks import pair_likelihood, similar_share
from xhash_ray.methods.dcmh import DCMH, LARGEST, common_codes

N, BITS, CLASSES = 9, 8, 3


def pairs(multi: bool = True) -> TrainingPairs:
    """N pairs with one or several labels each, in double precision."""
    generator = torch.Generator().manual_seed(3)
    image, text = (torch.randn(N, d, generator=generator, dtype=torch.float64) for d in (5, 7))
    labels = torch.nn.functional.one_hot(torch.arange(N) % CLASSES, CLASSES).double()
    if multi:
        labels = torch.maximum(labels, (torch.rand(N, CLASSES, generator=generator) < 0.2).double())
    return TrainingPairs(image, text, labels, N)


def batch_of(rows: object, multi: bool = True) -> Batch:
    """Some of the pairs."""
    where = torch.tensor(list(rows))
    image, text, labels, _ = pairs(multi)
    return Batch(image[where], text[where], labels[where], where)


def created(multi: bool = True, known: bool = True, **changed: float | str | bool) -> DCMH:
    """A small DCMH in double precision that has met all pairs, with memories that the nets did not say."""
    torch.manual_seed(1)
    method = methods.create("dcmh", Shape(BITS, 5, 7, CLASSES), {"hidden": 6, **changed}).double()
    method.prepare(pairs(multi), 1)
    method.double()
    if known:
        method.meet(batch_of(range(N), multi), World())
        generator = torch.Generator().manual_seed(8)
        for name in ("image", "text", "B"):
            random = torch.randn(N, BITS, generator=generator, dtype=torch.float64)
            method.memory.get_buffer(name).copy_(random.sign() if name == "B" else random)
    return method


def inner(x: list[float], y: list[float]) -> float:
    """Inner product."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def similar(x: list[float], y: list[float]) -> float:
    """1 for a class in common."""
    return float(any(a and b for a, b in zip(x, y, strict=True)))


@pytest.mark.parametrize("phase", ["image", "text"])
@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("changed", [{}, {"gamma": 0.7, "eta": 0.3, "balance": False}])
def test_the_loss_is_its_formula(phase, multi, changed):
    method, rows = created(multi, **changed), [4, 0, 7, 2]
    s, batch, labels = method.settings, batch_of(rows, multi), pairs(multi).labels.tolist()
    fresh = method.said(phase, batch).tolist()
    opposite = method.memory.get_buffer("text" if phase == "image" else "image").tolist()
    own, B = method.memory.get_buffer(phase).tolist(), method.memory.get_buffer("B").tolist()
    share = sum(similar(x, y) for x in labels for y in labels) / N**2
    likelihood = 0.0
    for place, row in enumerate(rows):
        own[row] = fresh[place]
        for j in range(N):
            theta, S = inner(fresh[place], opposite[j]) / 2, similar(labels[row], labels[j])
            weight = (0.5 / share if S else 0.5 / (1 - share)) if s.balance else 1.0
            likelihood += weight * (math.log(1 + math.exp(theta)) - S * theta)
    apart = sum((fresh[place][k] - B[row][k]) ** 2 for place, row in enumerate(rows) for k in range(BITS))
    sums = [sum(own[row][k] for row in range(N)) for k in range(BITS)]
    entries = len(rows) * N
    expected = {
        "pairs": likelihood / entries,
        "quantisation": s.gamma * apart / entries,
        "balance": s.eta * inner(sums, sums) / entries,
    }
    terms = method(batch, phase, World())
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected)


@pytest.mark.parametrize("phase", ["image", "text"])
def test_gradients_are_those_written_down_by_the_authors(phase):
    """dL/dF_i = sum_j (sigmoid(theta_ij) - S_ij) G_j / 2 + 2 gamma (F_i - B_i) + 2 eta (sum of all F), by n N."""
    method, rows = created(balance=False, gamma=0.7, eta=0.3), [4, 0, 7]
    batch, seen = batch_of(rows), []
    said = method.said

    def listening(name: str, given: Batch) -> torch.Tensor:
        seen.append(said(name, given).detach().requires_grad_())
        return seen[-1]

    method.said = listening
    sum(method(batch, phase, World()).values()).backward()
    (F,), G = seen, method.memory.get_buffer("text" if phase == "image" else "image")
    labels = pairs().labels
    S = (labels[rows] @ labels.T > 0).double()
    sums = method.memory.get_buffer(phase).sum(dim=0)
    B = method.memory.get_buffer("B")[rows]
    wanted = (torch.sigmoid(F @ G.T / 2) - S) @ G / 2 + 2 * 0.7 * (F - B) + 2 * 0.3 * sums
    torch.testing.assert_close(F.grad, wanted.detach() / (len(rows) * N))


def test_the_memory_holds_what_each_net_said_last():
    method = created(known=False)
    batch = batch_of([6, 2])
    method(batch, "image", World())
    F, G = method.said("image", batch), method.said("text", batch)
    assert method.memory.known.nonzero().flatten().tolist() == [2, 6]
    torch.testing.assert_close(method.memory.image[[6, 2]], F)
    torch.testing.assert_close(method.memory.text[[6, 2]], G)
    torch.testing.assert_close(method.memory.B[[6, 2]], common_codes(F, G))
    with torch.no_grad():
        method.text_net[0].weight.mul_(2)
    method(batch, "image", World())
    torch.testing.assert_close(method.memory.text[[6, 2]], G)
    method(batch, "text", World())
    torch.testing.assert_close(method.memory.text[[6, 2]], method.said("text", batch))


def test_only_the_net_of_the_phase_gets_gradients():
    for phase, other in (("image", "text"), ("text", "image")):
        method = created()
        sum(method(batch_of(range(4)), phase, World()).values()).backward()
        assert all(weight.grad.any() for weight in method.get_submodule(f"{phase}_net").parameters())
        assert all(weight.grad is None for weight in method.get_submodule(f"{other}_net").parameters())


def test_common_codes_and_thresholds_are_renewed_after_an_epoch():
    method = created()
    method.end_epoch(0, World())
    F, G = method.memory.image.tolist(), method.memory.text.tolist()
    expected = [[1.0 if a + b >= 0 else -1.0 for a, b in zip(x, y, strict=True)] for x, y in zip(F, G, strict=True)]
    assert method.memory.B.tolist() == expected
    for rows, threshold in ((F, method.image_threshold), (G, method.text_threshold)):
        assert threshold.tolist() == pytest.approx([sorted(column)[N // 2] for column in zip(*rows, strict=True)])


def test_thresholds_stay_at_zero_where_wanted():
    method = created(thresholds="zero")
    method.end_epoch(0, World())
    assert not method.image_threshold.any()
    assert not method.text_threshold.any()


def test_rates_fall_linearly_and_passes_alternate():
    method = created(epochs=5, learning_rate=0.5, last_rate=0.1)
    assert method.passes(3) == (("image",), ("text",))
    found = [method.learning_rates(epoch, 1) for epoch in range(5)]
    assert [rate["text"] for rate in found] == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])


def test_sgd_is_there_for_the_published_training():
    assert isinstance(created(optimizer="sgd").optimizer_of("image"), torch.optim.SGD)
    assert isinstance(created().optimizer_of("image"), torch.optim.Adam)


def test_too_many_pairs_are_refused():
    with pytest.raises(BadInput, match="200,001 pairs"):
        created(known=False).prepare(pairs()._replace(total=LARGEST + 1), 1)


def test_large_products_do_not_overflow():
    theta = torch.tensor([[1e4, -1e4]])
    assert pair_likelihood(theta, torch.tensor([[1.0, 0.0]])) == 0
    assert pair_likelihood(theta, torch.tensor([[0.0, 1.0]])) == 1e4


def test_the_share_of_similar_pairs_by_hand():
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert float(similar_share(labels)) == pytest.approx(12 / 16)  # all but (0, 2), (0, 3) and their mirrors
    assert 0 < float(similar_share(torch.zeros(4, 2))) < 0.1
    assert 0.9 < float(similar_share(torch.ones(4, 2))) < 1


def test_several_labels_are_learned():
    """Pairs whose labels overlap come to have closer codes across modalities than pairs without a common label."""
    generator = torch.Generator().manual_seed(5)
    labels = (torch.rand(96, 5, generator=generator) < 0.3).float()
    image, text = (
        labels @ torch.randn(5, d, generator=generator) + 0.1 * torch.randn(96, d, generator=generator) for d in (12, 9)
    )
    torch.manual_seed(1)
    method = methods.create("dcmh", Shape(16, 12, 9, 5), {"hidden": 32, "epochs": 20, "batch_size": 32})
    fit(method, Resident(image, text, labels, 32, 3, World()), World(), 3)
    B_I, B_T = method.image_outputs(image).sign(), method.text_outputs(text).sign()
    S, products = labels @ labels.T > 0, B_I @ B_T.T
    assert products[S].mean() > products[~S].mean() + 4
