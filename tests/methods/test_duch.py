"""DUCH against its formulas, written here once more as plain loops over Python numbers."""

import math

import pytest
import torch

from tests.methods.oracle import Row, Rows, cosine, inner
from xhash_ray import methods
from xhash_ray.learning.loop import fit
from xhash_ray.learning.sources import Resident
from xhash_ray.methods.base import Batch, Shape, TrainingPairs, World
from xhash_ray.methods.duch import Settings, nt_xent

BITS = 8
WEIGHTS = {"inter": 0.7, "intra_image": 0.4, "intra_text": 0.3, "alpha": 0.5, "beta": 0.2, "gamma": 0.6}
UNUSUAL = {**WEIGHTS, "temperature": 0.3, "balance": "bits", "penalty": 3.0}


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x)."""
    return 1 / (1 + math.exp(-x))


def nt_xent_oracle(U: Rows, V: Rows, tau: float) -> float:
    """Mean over pairs of both anchors' -log share among all codes but the anchor."""
    total = 0.0
    for i in range(len(U)):
        for anchors, others in ((U, V), (V, U)):
            same = [math.exp(cosine(anchors[i], anchors[j]) / tau) for j in range(len(U)) if j != i]
            other = [math.exp(cosine(anchors[i], others[j]) / tau) for j in range(len(U))]
            total -= math.log(other[i] / (sum(same) + sum(other)))
    return total / len(U)


def believed(row: Row, method: torch.nn.Module) -> float:
    """D of one code, layer by layer."""
    first, last = method.discriminator[0], method.discriminator[2]
    hidden = [
        max(0.0, inner(weights, row) + b) for weights, b in zip(first.weight.tolist(), first.bias.tolist(), strict=True)
    ]
    return inner(last.weight.tolist()[0], hidden) + last.bias.item()


def steepness(row: Row, method: torch.nn.Module, step: float = 1e-6) -> float:
    """|D'| at one code, by small steps along every bit."""
    slopes = []
    for bit in range(len(row)):
        up, down = ([*row[:bit], row[bit] + d, *row[bit + 1 :]] for d in (step, -step))
        slopes.append((believed(up, method) - believed(down, method)) / (2 * step))
    return math.sqrt(inner(slopes, slopes))


def balance_oracle(codes: Rows, kind: str) -> float:
    """R of one kind of codes."""
    n, bits = len(codes), len(codes[0])
    if kind == "codes":
        return sum(sum(row) ** 2 for row in codes) / n
    return bits * sum((sum(row[bit] for row in codes) / n) ** 2 for bit in range(bits))


def quantisation_oracle(kinds: list[Rows]) -> float:
    """Sum over the four kinds of |B - H|^2, mean over pairs, with B the signs of their sum."""
    n, total = len(kinds[0]), 0.0
    for i in range(n):
        for bit in range(len(kinds[0][0])):
            B = 1.0 if sum(codes[i][bit] for codes in kinds) >= 0 else -1.0
            total += sum((B - codes[i][bit]) ** 2 for codes in kinds)
    return total / n


def hash_oracle(kinds: list[Rows], method: torch.nn.Module, s: Settings) -> dict[str, float]:
    """The terms of the nets' loss from I^1, I^2, T^1, T^2."""
    I_1, I_2, T_1, T_2 = kinds
    n = len(I_1)
    return {
        "inter": s.inter * nt_xent_oracle(I_1, T_1, s.temperature),
        "intra_image": s.intra_image * nt_xent_oracle(I_1, I_2, s.temperature),
        "intra_text": s.intra_text * nt_xent_oracle(T_1, T_2, s.temperature),
        "deceive": -s.alpha * sum(math.log(sigmoid(believed(row, method))) for row in I_1 + I_2) / n,
        "quantisation": s.beta * quantisation_oracle(kinds),
        "balance": s.gamma * sum(balance_oracle(codes, s.balance) for codes in kinds),
    }


def discriminator_oracle(kinds: list[Rows], method: torch.nn.Module, s: Settings) -> dict[str, float]:
    """The terms of D's loss; penalties halfway between texts and images."""
    I_1, I_2, T_1, T_2 = kinds
    found = {}
    for name, texts, images in (("plain", T_1, I_1), ("view", T_2, I_2)):
        n = len(texts)
        told = sum(-math.log(sigmoid(believed(row, method))) for row in texts) / n
        told += sum(-math.log(1 - sigmoid(believed(row, method))) for row in images) / n
        middle = [[(a + b) / 2 for a, b in zip(x, y, strict=True)] for x, y in zip(texts, images, strict=True)]
        steep = sum((steepness(row, method) - 1) ** 2 for row in middle) / n
        found |= {f"tell_{name}": told, f"penalty_{name}": s.penalty * steep}
    return found


def pairs(n: int, seed: int = 2) -> Batch:
    """Random features of both modalities in double precision."""
    generator = torch.Generator().manual_seed(seed)
    image, text = (torch.randn(n, d, generator=generator, dtype=torch.float64) for d in (5, 4))
    return Batch(image, text)


def small_duch(**changed: float | str) -> torch.nn.Module:
    """DUCH of 8 bits for features of 5 and 4 numbers, in double precision."""
    torch.manual_seed(1)
    method = methods.create("duch", Shape(BITS, 5, 4), {"hidden": 6, **changed}).double()
    image, text, *_ = pairs(20)
    method.prepare(TrainingPairs(image, text, None, 20), 3)
    return method


@torch.no_grad()
def kinds_of(method: torch.nn.Module, batch: Batch) -> list[Rows]:
    """I^1, I^2, T^1, T^2 as numbers, with the random draws of a first step."""
    torch.manual_seed(9)
    return [codes.tolist() for codes in method.codes(batch, World())]


def terms_of(method: torch.nn.Module, batch: Batch, phase: str) -> dict[str, float]:
    """The terms of a phase with the same random draws."""
    torch.manual_seed(9)
    return {name: value.item() for name, value in method(batch, phase, World()).items()}


@pytest.mark.parametrize("changed", [{}, UNUSUAL])
@pytest.mark.parametrize("n", [2, 5])
def test_the_nets_terms_are_their_formulas(changed, n):
    method = small_duch(**changed)
    expected = hash_oracle(kinds_of(method, pairs(n)), method, method.settings)
    assert terms_of(method, pairs(n), "hash") == pytest.approx(expected)


@pytest.mark.parametrize("changed", [{}, UNUSUAL])
def test_the_discriminators_terms_are_their_formulas(changed):
    method = small_duch(**changed).eval()
    expected = discriminator_oracle(kinds_of(method, pairs(5)), method, method.settings)
    assert terms_of(method, pairs(5), "discriminator") == pytest.approx(expected, rel=1e-5)


def test_contrast_by_hand():
    U, V = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    expected = 2 * math.log((math.e + 2) / math.e)
    assert float(nt_xent(U, V, U, V, torch.arange(2), 1.0)) == pytest.approx(expected)


def test_balance_by_hand():
    H = torch.tensor([[[1.0, -1.0], [1.0, 1.0]]]).expand(4, 2, 2)
    assert float(small_duch(balance="codes").balance(H, H)) == pytest.approx(4 * (0 + 4) / 2)
    assert float(small_duch(balance="bits").balance(H, H)) == pytest.approx(4 * BITS * 1)


def reached(method: torch.nn.Module, terms: list[torch.Tensor]) -> set[str]:
    """The parts of a method that terms send a gradient to."""
    method.zero_grad()
    sum(terms).backward()
    found = {name: value.grad for name, value in method.named_parameters() if value.grad is not None}
    return {name.split(".")[0] for name, gradient in found.items() if gradient.abs().sum() > 0}


def test_deceiving_reaches_the_image_net_and_telling_only_the_discriminator():
    method = small_duch()
    deceive = method(pairs(5), "hash", World())["deceive"]
    assert reached(method, [deceive]) == {"image_net", "discriminator"}
    told = method(pairs(5), "discriminator", World())
    assert reached(method, list(told.values())) == {"discriminator"}
    moved = {id(p) for group in method.optimizer_of("hash").param_groups for p in group["params"]}
    assert not moved & {id(p) for p in method.discriminator.parameters()}


def test_deceiving_makes_images_look_like_texts():
    method = small_duch()
    optimizer = torch.optim.SGD(method.image_net.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        torch.manual_seed(9)
        loss = method(pairs(5), "hash", World())["deceive"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]


def test_second_views_differ_in_training_only():
    method = small_duch(dropped=0.5)
    I_1, I_2, T_1, T_2 = kinds_of(method, pairs(5))
    assert I_1 != I_2
    assert T_1 != T_2
    I_1, I_2, T_1, T_2 = (torch.tensor(codes) for codes in kinds_of(method.eval(), pairs(5)))
    torch.testing.assert_close(I_1, I_2)
    torch.testing.assert_close(T_1, T_2)


def test_the_unit_of_features_changes_no_code():
    image, text = (features.float() for features in pairs(64)[:2])

    def codes(factor: float) -> list[bytes]:
        torch.manual_seed(1)
        method = methods.create("duch", Shape(16, 5, 4), {"hidden": 16, "epochs": 2, "batch_size": 16})
        given = factor * image, factor * text
        fit(method, Resident(*given, None, 16, 3, World()), World(), 3)
        return [method.encode("image", given[0]).tobytes(), method.encode("text", given[1]).tobytes()]

    assert codes(1.0) == codes(1024.0)
