"""SSAH against its formulas, written here once more as plain loops over Python numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray import methods
from xhash_ray.errors import BadInput
from xhash_ray.methods.base import Batch, Shape, TrainingPairs, World
from xhash_ray.methods.ssah import LARGEST, SSAH, MultiScale

Rows = list[list[float]]
N, BITS, CLASSES = 9, 8, 3
SMALL = {"hidden": 6, "semantic": 5, "batch_size": 4}


def inner(x: list[float], y: list[float]) -> float:
    """Inner product."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def similar(x: list[float], y: list[float]) -> float:
    """1 for a class in common."""
    return float(any(a and b for a, b in zip(x, y, strict=True)))


def likelihood_oracle(left: Rows, right: Rows, labels: Rows, all_labels: Rows, share: float | None) -> float:
    """-log of the likelihood of S, pair by pair; with a share, either kind of pair weighs one half in all."""
    total = 0.0
    for x, label in zip(left, labels, strict=True):
        for y, other in zip(right, all_labels, strict=True):
            theta, s = inner(x, y) / 2, similar(label, other)
            probability = 1 / (1 + math.exp(-theta))
            weight = 1.0 if share is None else (0.5 / share if s else 0.5 / (1 - share))
            total -= weight * math.log(probability if s else 1 - probability)
    return total / len(left) / len(right)


def released_oracle(left: Rows, right: Rows, labels: Rows, all_labels: Rows) -> float:
    """Half the squared difference of S theta and log(1 + exp theta), with 0.999 for similar pairs."""
    total = 0.0
    for x, label in zip(left, labels, strict=True):
        for y, other in zip(right, all_labels, strict=True):
            theta = inner(x, y) / 2
            total += (0.999 * similar(label, other) * theta - math.log(1 + math.exp(theta))) ** 2 / 2
    return total / len(left) / len(right)


def squares(left: Rows, right: Rows) -> float:
    """Squared distances, mean over rows, divided by N."""
    return (
        sum((a - b) ** 2 for x, y in zip(left, right, strict=True) for a, b in zip(x, y, strict=True)) / len(left) / N
    )


def sigmoid(value: float) -> float:
    """1 / (1 + e^-value)."""
    return 1 / (1 + math.exp(-value))


def pairs(classes: int = CLASSES, multi: bool = True) -> TrainingPairs:
    """N pairs with one or several labels each, in double precision."""
    generator = torch.Generator().manual_seed(3)
    image, text = (torch.randn(N, d, generator=generator, dtype=torch.float64) for d in (5, 7))
    labels = torch.nn.functional.one_hot(torch.arange(N) % classes, classes).double()
    if multi:
        labels = torch.maximum(labels, (torch.rand(N, classes, generator=generator) < 0.2).double())
    return TrainingPairs(image, text, labels, N)


def created(multi: bool = True, known: bool = True, **changed: float | str | bool) -> tuple[SSAH, TrainingPairs]:
    """A small SSAH in double precision that has met all pairs, with codes in memory that nets did not say."""
    torch.manual_seed(1)
    method = methods.create("ssah", Shape(BITS, 5, 7, CLASSES), {**SMALL, **changed}).double()
    given_pairs = pairs(multi=multi)
    method.prepare(given_pairs, 1)
    method.double()
    if known:
        method.meet(batch_of(range(N), multi), World())
        for name in ("F_label", "H_label", "H_image", "H_text"):
            buffer = method.memory.get_buffer(name)
            buffer.copy_(torch.rand_like(buffer) * 2 - 1)
    return method, given_pairs


def batch_of(rows: object, multi: bool = True) -> Batch:
    """Some of the pairs."""
    where = torch.tensor(list(rows))
    image, text, labels, _ = pairs(multi=multi)
    return Batch(image[where], text[where], labels[where], where)


def says(method: SSAH, phase: str, batch: Batch) -> tuple[Rows, Rows, Rows]:
    """F, H and class scores of a net, layer by layer."""
    with torch.no_grad():
        given = {"label": batch.labels, "image": method.scale_image(batch.image), "text": method.scale_text(batch.text)}
        net = method.get_submodule(f"{phase}_net")
        F = net.body(given[phase]).clamp(min=0)
        return F.tolist(), net.code(F).tanh().tolist(), method.classes[phase](F).sigmoid().tolist()


WEIGHTS = [
    {"delta": 0.3},
    {"alpha": 0.7, "gamma": 1.3, "eta": 0.4, "beta": 0.6, "delta": 0.2, "balance": False, "fusion": "none"},
]


@pytest.mark.parametrize("changed", WEIGHTS)
@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("phase", ["label", "image", "text"])
def test_the_loss_of_a_net_is_its_formula(phase, multi, changed):
    method, (_, _, labels, _) = created(multi, **changed)
    s, rows = method.settings, [4, 0, 7, 2]
    batch = batch_of(rows, multi)
    F, H, C = says(method, phase, batch)
    memory = {name: method.memory.get_buffer(name).tolist() for name in ("F_label", "H_label", "H_image", "H_text")}
    for place, row in enumerate(rows):  # what the net says now replaces what it said last
        memory[f"H_{phase}"][row] = H[place]
        if phase == "label":
            memory["F_label"][row] = F[place]
    own, everything = batch.labels.tolist(), labels.tolist()
    share = sum(similar(x, y) for x in everything for y in everything) / N**2 if s.balance else None
    voices = ("H_image", "H_text", "H_label")
    B = [[1.0 if sum(memory[v][row][k] for v in voices) >= 0 else -1.0 for k in range(BITS)] for row in rows]
    expected = {
        "pairs_features": s.alpha * likelihood_oracle(F, memory["F_label"], own, everything, share),
        "pairs_codes": s.gamma * likelihood_oracle(H, memory["H_label"], own, everything, share),
        "quantisation": s.eta * squares(H, B),
        "classes": s.beta * squares(C, own),
    }
    if phase != "label":
        believed = method.discriminators[phase](torch.tensor(F, dtype=torch.float64)).tolist()
        expected["deceive"] = s.delta * sum(-math.log(sigmoid(value)) for value in believed) / len(rows)
    terms = method(batch, phase, World())
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected)


@pytest.mark.parametrize("phase", ["label", "image", "text"])
def test_the_released_loss_is_its_formula(phase):
    method, (_, _, labels, _) = created(loss="released", delta=0.0)
    rows = [1, 8, 3]
    batch = batch_of(rows)
    F, H, C = says(method, phase, batch)
    columns_F, columns_H = method.memory.F_label.tolist(), method.memory.H_label.tolist()
    if phase == "label":
        for place, row in enumerate(rows):
            columns_F[row], columns_H[row] = F[place], H[place]
    own, everything = batch.labels.tolist(), labels.tolist()
    expected = {
        "pairs_features": released_oracle(F, columns_F, own, everything),
        "pairs_codes": released_oracle(H, columns_H, own, everything),
        "quantisation": squares(H, [[1.0 if value >= 0 else -1.0 for value in row] for row in H]) / 2,
        "classes": squares(C, own) / 2,
    }
    assert {name: value.item() for name, value in method(batch, phase, World()).items()} == pytest.approx(expected)


def test_the_discriminators_loss_is_its_formula():
    method, _ = created()
    batch = batch_of([5, 1, 6])
    labels = method.label_net(batch.labels)[0].detach()
    expected = {}
    for name in ("image", "text"):
        F = torch.tensor(says(method, name, batch)[0], dtype=torch.float64)
        D = method.discriminators[name]
        each = [
            -math.log(sigmoid(x)) - math.log(1 - sigmoid(y))
            for x, y in zip(D(labels).tolist(), D(F).tolist(), strict=True)
        ]
        expected[f"tell_{name}"] = sum(each) / len(each) / 2
    terms = method(batch, "discriminator", World())
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected)


@pytest.mark.parametrize("phase", ["image", "text"])
def test_the_discriminators_gradient_reaches_the_nets(phase):
    """What the released code lacks: the adversarial term alone moves the weights below the semantic feature."""
    method, _ = created(delta=0.5)
    method(batch_of(range(4)), phase, World())["deceive"].backward()
    body = list(method.get_submodule(f"{phase}_net.body").parameters())
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in body[-2:])
    other = "text" if phase == "image" else "image"
    assert all(weight.grad is None for weight in method.get_submodule(f"{other}_net").parameters())
    assert all(weight.grad is None for weight in method.label_net.parameters())


@pytest.mark.parametrize("phase", ["image", "text"])
def test_a_step_against_the_discriminator_makes_it_believe(phase):
    method, _ = created(alpha=0.0, gamma=0.0, eta=0.0, beta=0.0, delta=1.0)
    batch = batch_of(range(N))
    before = method(batch, phase, World())["deceive"]
    optimizer = method.optimizer_of(phase)
    before.backward()
    optimizer.step()
    assert method(batch, phase, World())["deceive"] < before
    moved = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    assert not moved & {id(weight) for weight in method.discriminators.parameters()}


def test_the_discriminators_step_leaves_the_nets_alone():
    method, _ = created()
    sum(method(batch_of(range(4)), "discriminator", World()).values()).backward()
    for name in ("label_net", "image_net", "text_net", "classes"):
        assert all(weight.grad is None for weight in method.get_submodule(name).parameters())
    assert all(weight.grad is not None for weight in method.discriminators.parameters())


def test_no_weight_of_deceiving_means_no_such_term():
    method, _ = created(delta=0.0)
    assert "deceive" not in method(batch_of(range(4)), "image", World())


def test_the_memory_holds_what_was_said_last_of_the_rows_drawn():
    method, (_, _, labels, _) = created(known=False)
    rows, others = [6, 2, 3], [0, 1, 4, 5, 7, 8]
    batch = batch_of(rows)
    method(batch, "label", World())
    memory = method.memory
    assert memory.known.nonzero().flatten().tolist() == sorted(rows)
    for name in memory.lengths:
        assert not memory.get_buffer(name)[others].any()
    torch.testing.assert_close(memory.L[rows], labels[rows])
    for phase in ("label", "image", "text"):
        torch.testing.assert_close(memory.get_buffer(f"H_{phase}")[rows].tolist(), says(method, phase, batch)[1])
    torch.testing.assert_close(memory.F_label[rows].tolist(), says(method, "label", batch)[0])


def test_meeting_a_pair_again_changes_nothing():
    method, _ = created(known=False)
    method.meet(batch_of([6, 2]), World())
    method.memory.H_text[6] = 0.25
    method.meet(batch_of([6, 3]), World())
    assert method.memory.H_text[6].tolist() == [0.25] * BITS
    assert method.memory.known.nonzero().flatten().tolist() == [2, 3, 6]


def test_thresholds_are_the_medians_of_the_codes():
    method, _ = created()
    method.end_epoch(0, World())
    for name, threshold in (("H_image", method.image_threshold), ("H_text", method.text_threshold)):
        columns = zip(*method.memory.get_buffer(name).tolist(), strict=True)
        assert threshold.tolist() == pytest.approx([math.atanh(sorted(column)[N // 2]) for column in columns], rel=1e-5)
    text = pairs().text
    raw = method.text_net(method.scale_text(text))[1]
    torch.testing.assert_close(method.text_outputs(text), raw - method.text_threshold)


def test_thresholds_stay_at_zero_where_wanted():
    method, _ = created(thresholds="zero")
    method.end_epoch(0, World())
    assert not method.image_threshold.any()
    assert not method.text_threshold.any()


def test_large_products_do_not_overflow():
    method, _ = created()
    method.memory.F_label.fill_(1e6)
    terms = method(batch_of(range(4)), "image", World())
    assert all(value.isfinite() for value in terms.values())


def fusion_oracle(text: list[float], weights: list[float]) -> list[float]:
    """The input, then five poolings: mean of whole windows, weighted, rectified, drawn out linearly."""
    d, found = len(text), list(text)
    for window, weight in zip((50, 30, 15, 10, 5), weights, strict=True):
        w = min(window, d)
        coarse = [max(0.0, weight * sum(text[i * w : (i + 1) * w]) / w) for i in range(d // w)]
        for place in range(d):
            x = max((place + 0.5) * len(coarse) / d - 0.5, 0.0)  # centres of the d cells, in units of coarse cells
            low = min(int(x), len(coarse) - 1)
            high = min(low + 1, len(coarse) - 1)
            found.append(coarse[low] * (1 - (x - low)) + coarse[high] * (x - low))
    return found


@settings(deadline=None, max_examples=20)
@given(st.sampled_from([1, 4, 5, 10, 49, 50, 51, 120]), st.integers(0, 999))
def test_the_text_fusion_is_its_formula(length, seed):
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(2, length, generator=generator, dtype=torch.float64)
    fusion = MultiScale(length).double()
    with torch.no_grad():
        fusion.weights.copy_(torch.randn(5, generator=generator))
        found = fusion(text)
    expected = [fusion_oracle(row, fusion.weights.tolist()) for row in text.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_passes_and_rates_follow_the_rounds():
    changed = {"label_passes": 4, "image_passes": 3, "text_passes": 6, "image_rate": 0.1}
    method, _ = created(**changed)
    expected = ["label"] * (4 + 2) + ["discriminator"] * 2 + ["image"] * (3 + 1 + 1) + ["text"] * (6 + 3 + 2)
    assert [phase for (phase,) in method.passes(0)] == expected
    rates = [method.learning_rates(1, number) for number in range(8, 13)]
    assert [rate["image"] for rate in rates] == pytest.approx([0.1 * 10 ** -((1 + r) / 2) for r in (0, 0, 0, 1, 2)])


def test_too_many_pairs_are_refused():
    method, given_pairs = created(known=False)
    with pytest.raises(BadInput, match="200,001 pairs"):
        method.prepare(given_pairs._replace(total=LARGEST + 1), 1)


@pytest.mark.parametrize("part", ["label_net", "classes", "discriminators"])
def test_what_only_training_needs_is_named(part):
    assert part in SSAH.training_only
    assert any(name.startswith(f"{part}.") for name in created()[0].state_dict())
