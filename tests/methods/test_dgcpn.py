"""DGCPN against its formulas, written here once more as plain loops over Python numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray import methods
from xhash_ray.errors import BadInput
from xhash_ray.methods import dgcpn
from xhash_ray.methods.base import Batch, Shape, TrainingPairs, World
from xhash_ray.methods.dgcpn import neighbours

Rows = list[list[float]]
PAIRS, BITS = 9, 8
PLAIN = {"hidden": 6, "dropout": 0.0, "centre": False}
UNUSUAL = {**PLAIN, "a1": 0.4, "a2": 0.6, "neighbours": 0.7, "scale": 1.3, "target": 1.1, "alpha": 0.5, "beta": 2.5}
every_setting = pytest.mark.parametrize("chosen", [PLAIN, UNUSUAL])
every_phase = pytest.mark.parametrize("phase", ["joint", "image", "text"])


def inner(x: list[float], y: list[float]) -> float:
    """Inner product."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def affinity(x: list[float], y: list[float], signed: bool) -> float:
    """Cosine, moved to [0, 1] for signed features."""
    value = inner(x, y) / math.sqrt(inner(x, x) * inner(y, y))
    return (1 + value) / 2 if signed else value


def centred(rows: Rows) -> Rows:
    """Rows less their mean."""
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return [[value - m for value, m in zip(row, mean, strict=True)] for row in rows]


def similarity_oracle(image: Rows, text: Rows, s: dgcpn.Settings, signed: bool) -> Rows:
    """S of all training pairs with each other, its diagonal 0."""
    if signed:
        image, text = centred(image), centred(text)
    n = len(image)
    A = [
        [
            (1 - s.a1) * affinity(image[i], image[j], signed) + s.a1 * affinity(text[i], text[j], signed)
            for j in range(n)
        ]
        for i in range(n)
    ]
    k = min(max(round(s.neighbours * n), 2), n)
    P = []
    for i in range(n):
        others = sorted((j for j in range(n) if j != i), key=lambda j: -A[i][j])
        kept = set(others[: k - 1])
        total = sum(A[i][j] for j in kept)
        P.append([A[i][j] / total if j in kept else 0.0 for j in range(n)])
    return [
        [0.0 if i == j else 2 * ((1 - s.a2) * A[i][j] + s.a2 * s.scale * k * inner(P[i], P[j])) - 1 for j in range(n)]
        for i in range(n)
    ]


def relaxed(outputs: Rows, binary: bool) -> Rows:
    """tanh or sign of every number, each row brought to length 1."""
    codes = []
    for row in outputs:
        squashed = [math.copysign(1, value) if binary else math.tanh(value) for value in row]
        length = math.sqrt(inner(squashed, squashed))
        codes.append([value / length for value in squashed])
    return codes


def loss_oracle(image: Rows, text: Rows, S: Rows, s: dgcpn.Settings, phase: str) -> dict[str, float]:
    """The named terms of L."""
    B_I, B_T = relaxed(image, phase == "text"), relaxed(text, phase == "image")
    n = range(len(B_I))

    def reproduced(left: Rows, right: Rows) -> float:
        wrong = [(inner(left[i], right[j]) - S[i][j]) ** 2 for i in n for j in n if i != j]
        return sum(wrong) / len(n) ** 2

    def apart(a: Rows, b: Rows, c: Rows, d: Rows) -> float:
        return sum((inner(a[i], b[j]) - inner(c[i], d[j])) ** 2 for i in n for j in n) / len(n) ** 2

    consistency = (
        apart(B_I, B_T, B_I, B_I) + apart(B_I, B_T, B_T, B_T) + apart(B_I, B_I, B_T, B_T) + apart(B_I, B_T, B_T, B_I)
    )
    return {
        "pairs": sum((inner(B_I[i], B_T[i]) - s.target) ** 2 for i in n) / len(n),
        "image": s.alpha * reproduced(B_I, B_I),
        "text": s.alpha * reproduced(B_T, B_T),
        "inter": s.alpha * reproduced(B_I, B_T),
        "consistency": s.beta * consistency,
    }


def pairs_of(seed: int, signed: bool = False, n: int = PAIRS) -> TrainingPairs:
    """Random features of both modalities in double precision."""
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(n, length, generator=generator, dtype=torch.float64) for length in (5, 4))
    return TrainingPairs(image, text, None, n) if signed else TrainingPairs(image.abs(), text.abs(), None, n)


def prepared(pairs: TrainingPairs, **chosen) -> dgcpn.DGCPN:
    """DGCPN of 8 bits before its first step, in double precision."""
    torch.manual_seed(1)
    method = methods.create("dgcpn", Shape(BITS, 5, 4), chosen).double()
    method.prepare(pairs, 1)
    return method


def batch_of(pairs: TrainingPairs, rows: list[int]) -> Batch:
    """Some training pairs, with their numbers."""
    return Batch(pairs.image[rows], pairs.text[rows], None, torch.tensor(rows))


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 9999), st.sampled_from([PLAIN, UNUSUAL]), st.booleans(), st.integers(2, PAIRS))
def test_similarities_are_their_formula_whatever_pairs_are_in_the_batch(seed, chosen, signed, size):
    pairs = pairs_of(seed, signed)
    method = prepared(pairs, **chosen)
    rows = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(seed))[:size].tolist()
    S = similarity_oracle(pairs.image.tolist(), pairs.text.tolist(), method.settings, signed)
    found = method.similarity(batch_of(pairs, rows), World()).fill_diagonal_(0)
    torch.testing.assert_close(found, torch.tensor([[S[i][j] for j in rows] for i in rows], dtype=torch.float64))


@every_phase
@every_setting
def test_the_loss_of_every_phase_is_its_formula(chosen, phase):
    pairs, rows = pairs_of(3), [7, 2, 4, 0, 8]
    method = prepared(pairs, **chosen)
    batch = batch_of(pairs, rows)
    S = similarity_oracle(pairs.image.tolist(), pairs.text.tolist(), method.settings, False)
    with torch.no_grad():
        outputs = method.image_outputs(batch.image).tolist(), method.text_outputs(batch.text).tolist()
        terms = method(batch, phase, World())
    expected = loss_oracle(*outputs, [[S[i][j] for j in rows] for i in rows], method.settings, phase)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected)


def test_neighbours_by_hand():
    A = torch.tensor([[1.0, 0.6, 0.2, 0.1], [0.6, 1.0, 0.3, 0.0], [0.2, 0.3, 1.0, 0.9]])
    expected = torch.tensor([[0, 0.75, 0.25, 0], [2 / 3, 0, 1 / 3, 0], [0, 0.25, 0, 0.75]])
    torch.testing.assert_close(neighbours(A, torch.arange(3), 3), expected)


def test_rows_without_any_affinity_have_no_neighbours():
    assert not neighbours(torch.zeros(2, 4), torch.tensor([0, 3]), 3).any()


def test_pairs_with_the_same_neighbours_cohere_twice_as_much_as_those_with_half_of_them():
    n, k = 20, 9
    A = torch.zeros(3, n)
    A[0, 4:12], A[1, 4:12], A[2, 8:16] = 1.0, 1.0, 1.0
    P = neighbours(A, torch.arange(3), k)
    coherence = 2 * k * P @ P.T
    assert float(coherence[0, 2]) == pytest.approx(float(coherence[0, 1]) / 2)
    assert float(coherence[0, 1]) == pytest.approx(2 * k / (k - 1))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_graph_keeps_a_share_of_the_pairs(share):
    P = prepared(pairs_of(5), **PLAIN, neighbours=share).P
    kept = min(max(round(share * PAIRS), 2), PAIRS) - 1
    assert ((P > 0).sum(dim=1) == kept).all()
    assert not P.diagonal().any()
    torch.testing.assert_close(P.sum(dim=1), torch.ones(PAIRS, dtype=torch.float64))


def test_the_graph_is_the_same_in_blocks_of_any_size(monkeypatch):
    whole = prepared(pairs_of(5), **PLAIN).P
    monkeypatch.setattr(dgcpn, "BLOCK", 4)
    torch.testing.assert_close(prepared(pairs_of(5), **PLAIN).P, whole)


@every_phase
def test_each_phase_moves_its_modality(phase):
    pairs = pairs_of(6)
    method = prepared(pairs, **PLAIN)
    sum(method(batch_of(pairs, [0, 3, 5, 6]), phase, World()).values()).backward()
    moved = {name.split("_")[0] for name, value in method.named_parameters() if value.grad is not None}
    held = {id(parameter) for group in method.optimizer_of(phase).param_groups for parameter in group["params"]}
    named = {name.split("_")[0] for name, value in method.named_parameters() if id(value) in held}
    assert moved == named == ({"image", "text"} if phase == "joint" else {phase})


def test_hidden_units_are_dropped_in_training_alone():
    pairs = pairs_of(7)
    method = prepared(pairs, **{**PLAIN, "dropout": 0.5})
    batch = batch_of(pairs, list(range(PAIRS)))
    first, second = (method(batch, "joint", World())["image"].item() for _ in range(2))
    assert first != second
    method.eval()
    first, second = (method(batch, "joint", World())["image"].item() for _ in range(2))
    assert first == second


def test_the_unit_of_the_features_changes_nothing():
    pairs = pairs_of(8)
    large = pairs._replace(image=1000 * pairs.image, text=1000 * pairs.text)
    rows = [0, 2, 5, 7]
    terms = [prepared(given, **PLAIN)(batch_of(given, rows), "joint", World()) for given in (pairs, large)]
    assert [value.item() for value in terms[1].values()] == pytest.approx([value.item() for value in terms[0].values()])


def test_more_pairs_than_a_matrix_has_room_for_are_refused(monkeypatch):
    monkeypatch.setattr(dgcpn, "LARGEST", 8)
    with pytest.raises(BadInput, match=r"9 pairs.*at most 8"):
        prepared(pairs_of(9), **PLAIN)
