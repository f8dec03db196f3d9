"""CIRH against its formulas, written here once more as plain loops over Python numbers."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray import methods
from xhash_ray.methods import cirh
from xhash_ray.methods.base import Batch, Shape, TrainingPairs, World
from xhash_ray.methods.cirh import mixed, thresholds

Rows = list[list[float]]
PAIRS, BITS = 10, 8
PLAIN = {"hidden": 6, "graph_hidden": 7, "dropout": 0.0, "batch_size": 5}
UNUSUAL = {**PLAIN, "a1": 0.3, "a2": 0.2, "kept": 0.7, "lambda1": 3.0, "lambda2": 2.0, "beta": 0.6}
every_setting = pytest.mark.parametrize("chosen", [PLAIN, UNUSUAL])


def inner(x: list[float], y: list[float]) -> float:
    """Inner product."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def cosine(x: list[float], y: list[float]) -> float:
    """Cosine of two vectors."""
    return inner(x, y) / math.sqrt(inner(x, x) * inner(y, y))


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + math.exp(-x))


def centred(rows: Rows) -> Rows:
    """Rows less their mean."""
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return [[value - m for value, m in zip(row, mean, strict=True)] for row in rows]


def similarity_oracle(image: Rows, text: Rows, s: cirh.Settings, signed: bool) -> Rows:
    """S of all training pairs."""
    if signed:
        image, text = centred(image), centred(text)
    n = range(len(image))
    S1 = [[s.a1 * cosine(image[i], image[j]) + (1 - s.a1) * cosine(text[i], text[j]) for j in n] for i in n]
    k = min(max(round(s.kept * len(image)), 1), len(image))
    for row in S1:
        for j in sorted(n, key=lambda j, row=row: row[j])[: len(image) - k]:
            row[j] = 0.0
    S2 = [[2 * sigmoid(S1[i][j]) - 1 + (i == j) for j in n] for i in n]
    return [[s.a2 * S1[i][j] + (1 - s.a2) * (S2[i][j] + S2[j][i]) / 2 for j in n] for i in n]


def mean_square(found: Rows, wanted: Rows) -> float:
    """Mean over all entries of the squared difference."""
    squares = [(a - b) ** 2 for x, y in zip(found, wanted, strict=True) for a, b in zip(x, y, strict=True)]
    return sum(squares) / len(squares)


def cosines(X: Rows, Y: Rows) -> Rows:
    """Cosine of every row with every row."""
    return [[cosine(x, y) for y in Y] for x in X]


def signs(X: Rows) -> Rows:
    """Sign of every number."""
    return [[math.copysign(1, value) for value in row] for row in X]


def pairs_of(seed: int, signed: bool = False) -> TrainingPairs:
    """Random features of both modalities in double precision."""
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(PAIRS, length, generator=generator, dtype=torch.float64) for length in (5, 4))
    return TrainingPairs(*((image, text) if signed else (image.abs(), text.abs())), None, PAIRS)


def prepared(pairs: TrainingPairs, **chosen) -> cirh.CIRH:
    """CIRH of 8 bits before its first step, in double precision."""
    torch.manual_seed(1)
    method = methods.create("cirh", Shape(BITS, 5, 4), chosen).double()
    method.prepare(pairs, 1)
    return method


def batch_of(pairs: TrainingPairs, rows: list[int]) -> Batch:
    """Some training pairs, with their numbers."""
    return Batch(pairs.image[rows], pairs.text[rows], None, torch.tensor(rows))


def similarities(method: cirh.CIRH, pairs: TrainingPairs, rows: list[int], signed: bool = False) -> Rows:
    """The oracle's S of some training pairs."""
    S = similarity_oracle(pairs.image.tolist(), pairs.text.tolist(), method.settings, signed)
    return [[S[i][j] for j in rows] for i in rows]


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 9999), st.sampled_from([PLAIN, UNUSUAL]), st.booleans(), st.integers(2, PAIRS))
def test_similarities_are_their_formula_and_belong_to_the_pairs_of_the_batch(seed, chosen, signed, size):
    pairs = pairs_of(seed, signed)
    method = prepared(pairs, **chosen)
    rows = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(seed))[:size].tolist()
    batch = batch_of(pairs, rows)
    expected = torch.tensor(similarities(method, pairs, rows, signed), dtype=torch.float64)
    torch.testing.assert_close(method.similarity(batch, batch, World()), expected)


@pytest.mark.parametrize("chosen", [{**PLAIN, "kept": 0.9}, UNUSUAL])  # enough that third neighbours are no ties at 0
def test_the_loss_of_stage_one_is_its_formula(chosen):
    pairs, rows = pairs_of(3), [7, 2, 4, 0, 8, 9]
    method = prepared(pairs, **chosen)
    batch, s = batch_of(pairs, rows), method.settings
    S = similarities(method, pairs, rows)
    with torch.no_grad():
        terms = method(batch, "fuse", World())
        image, text = method.scale_image(batch.image).tolist(), method.scale_text(batch.text).tolist()
        X = []
        for F in (image, text):
            X.append([])
            for i in range(len(rows)):
                near = sorted(range(len(rows)), key=lambda j, i=i: -S[i][j])
                parts = zip(F[i], F[near[2]], F[near[3]], strict=True)
                X[-1].append([0.7 * own + 0.2 * second + 0.1 * third for own, second, third in parts])
        H_I, H_T, H = method.fusion(*(torch.tensor(x).double() for x in X), torch.tensor(S).double(), World())
        D = [
            decoder(H + torch.tanh(branch), World()).tolist()
            for decoder, branch in ((method.fusion.image_decoder, H_I), (method.fusion.text_decoder, H_T))
        ]
    outputs = [Y.tolist() for Y in (H_I, H_T, H)]
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {
            "image": s.lambda1 * mean_square(D[0], X[0]),
            "text": s.lambda1 * mean_square(D[1], X[1]),
            "correlation": s.lambda2 * sum(mean_square(cosines(Y, Y), S) for Y in outputs),
            "binary": mean_square(outputs[2], signs(outputs[2])),
        },
        rel=1e-5,
    )
    torch.testing.assert_close(method.memory.B[rows], torch.tensor(signs(outputs[2])).to(method.memory.B.dtype))
    assert method.memory.known.nonzero().flatten().tolist() == sorted(rows)


@every_setting
def test_the_loss_of_stage_two_is_its_formula(chosen):
    pairs, rows, unknown = pairs_of(4), [7, 2, 4, 0], 4
    method = prepared(pairs, **chosen)
    batch, s = batch_of(pairs, rows), method.settings
    written = torch.tensor([row for row in range(PAIRS) if row != unknown])
    codes = torch.randn(PAIRS, BITS, generator=torch.Generator().manual_seed(2)).sign()
    method.memory.write(written, World(), B=codes[written])
    S, B = similarities(method, pairs, rows), codes[rows].tolist()
    with torch.no_grad():
        terms = method(batch, "hash", World())
        B_I, B_T = torch.tanh(method.image_outputs(batch.image)), torch.tanh(method.text_outputs(batch.text))
    B_I, B_T = B_I.tolist(), B_T.tolist()

    def missed(found: Rows) -> float:
        each = [(found[i][b] - B[i][b]) ** 2 for i in range(len(rows)) if rows[i] != unknown for b in range(BITS)]
        return sum(each) / (len(rows) * BITS)

    reproduced = mean_square(cosines(B_I, B_T), S) + mean_square(cosines(B_I, B_I), S)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(
        {
            "image": missed(B_I),
            "text": missed(B_T),
            "pairs": mean_square(B_I, B_T),
            "correlation": s.beta * (reproduced + mean_square(cosines(B_T, B_T), S)),
        }
    )


def normalised(X: Rows) -> Rows:
    """Every column brought to mean 0 and variance 1."""
    columns = []
    for column in zip(*X, strict=True):
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        columns.append([(value - mean) / math.sqrt(variance + 1e-5) for value in column])
    return [list(row) for row in zip(*columns, strict=True)]


def linear(X: Rows, layer: torch.nn.Linear) -> Rows:
    """A linear layer, row by row."""
    weight = layer.weight.tolist()
    bias = [0.0] * len(weight) if layer.bias is None else layer.bias.tolist()
    return [[inner(row, w) + b for w, b in zip(weight, bias, strict=True)] for row in X]


def relu(X: Rows) -> Rows:
    """Negative numbers replaced by 0."""
    return [[max(value, 0.0) for value in row] for row in X]


def unit(X: Rows) -> Rows:
    """Rows of length 1."""
    return [[value / math.sqrt(inner(row, row)) for value in row] for row in X]


def product(S: Rows, X: Rows) -> Rows:
    """The matrix product S X."""
    return [[inner(row, list(column)) for column in zip(*X, strict=True)] for row in S]


def beside(*parts: Rows) -> Rows:
    """Matrices side by side."""
    return [list(itertools.chain(*rows)) for rows in zip(*parts, strict=True)]


def test_the_fusion_net_is_its_graph_convolutions_written_as_one_joint_graph():
    n, net = 5, prepared(pairs_of(5), **PLAIN).fusion
    generator = torch.Generator().manual_seed(6)
    X_I, X_T, S = (torch.randn(n, m, generator=generator, dtype=torch.float64) for m in (5, 4, n))
    found = net(X_I, X_T, S, World())
    S = S.tolist()
    V_I = unit(relu(normalised(linear(X_I.tolist(), net.image.linear))))
    V_T = unit(relu(normalised(linear(X_T.tolist(), net.text.linear))))
    G_I = relu(normalised(product(S, linear(V_I, net.image_graph))))
    G_T = relu(normalised(product(S, linear(V_T, net.text_graph))))
    identity = [[float(i == j) for j in range(n)] for i in range(n)]
    graph = beside(S, identity) + beside(identity, S)
    joint = normalised(product(graph, linear(V_I + V_T, net.joint_graph)))
    J = relu([[a + b for a, b in zip(joint[i], joint[n + i], strict=True)] for i in range(n)])
    H_I = normalised(linear(beside(G_I, J), net.image_head.linear))
    H_T = normalised(linear(beside(J, G_T), net.text_head.linear))
    H_J = normalised(linear(J, net.joint_head.linear))
    H = normalised(linear(beside(H_I, H_J, H_T), net.code.linear))
    for Y, expected in zip(found, (H_I, H_T, [[math.tanh(value) for value in row] for row in H]), strict=True):
        torch.testing.assert_close(Y, torch.tensor(expected, dtype=torch.float64))


def test_thresholds_by_hand():
    S1 = torch.tensor([[1.0, 0.2, 0.6, 0.4], [0.3, 1.0, 0.3, 0.1]])
    torch.testing.assert_close(thresholds(S1, 2), torch.tensor([0.5, 0.3 - 1e-6]))
    assert thresholds(S1, 4).tolist() == [-math.inf, -math.inf]


def test_mixtures_by_hand():
    F = torch.tensor([[10.0], [20.0], [30.0], [40.0]])
    nearest = torch.tensor([[0, 3, 1, 2], [1, 0, 3, 2]])
    torch.testing.assert_close(mixed(F, nearest), torch.tensor([[7.0 + 4 + 3], [14.0 + 8 + 3]]))
    torch.testing.assert_close(mixed(F, nearest[:, :2]), F[:2])


@pytest.mark.parametrize("epochs", [1, 2, 5, 8])
def test_stage_two_follows_stage_one(epochs):
    method = prepared(pairs_of(1), **PLAIN, epochs=epochs)
    plan = [phases for epoch in range(epochs) for phases in method.passes(epoch)]
    assert plan == sorted(plan)  # "fuse" before "hash"
    assert set(plan) == {("fuse",), ("hash",)}
    assert len(plan) == epochs + 1


def test_stage_two_leaves_stage_one_and_its_codes_alone():
    pairs = pairs_of(7)
    method = prepared(pairs, **PLAIN)
    batch = batch_of(pairs, [1, 2, 3, 5])
    method(batch, "fuse", World())
    before = method.memory.B.clone()
    sum(method(batch, "hash", World()).values()).backward()
    assert torch.equal(method.memory.B, before)
    assert all(parameter.grad is None for parameter in method.fusion.parameters())
    held = {id(parameter) for group in method.optimizer_of("hash").param_groups for parameter in group["params"]}
    assert held == {id(parameter) for net in (method.image_net, method.text_net) for parameter in net.parameters()}


def test_encoding_does_not_use_the_fusion_net():
    pairs = pairs_of(8)
    method = prepared(pairs, **PLAIN).eval()
    before = method.image_outputs(pairs.image), method.text_outputs(pairs.text)
    for parameter in method.fusion.parameters():
        parameter.data.fill_(3.0)
    after = method.image_outputs(pairs.image), method.text_outputs(pairs.text)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_unit_of_the_features_changes_nothing():
    pairs = pairs_of(9)
    large = pairs._replace(image=1000 * pairs.image, text=1000 * pairs.text)
    terms = [prepared(given, **PLAIN)(batch_of(given, [0, 2, 5, 7]), "fuse", World()) for given in (pairs, large)]
    first, second = ([value.item() for value in found.values()] for found in terms)
    assert first == pytest.approx(second, rel=1e-5)
