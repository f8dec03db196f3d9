"""UCCH against its formulas, written here once more as plain loops over Python numbers."""

import math

import pytest
import torch

from xhash_ray import methods
from xhash_ray.learning.loop import fit
from xhash_ray.learning.sources import Resident
from xhash_ray.methods.base import Batch, Shape, TrainingPairs, World
from xhash_ray.methods.ucch import Settings, contrastive, ranking

Rows = list[list[float]]
BITS, PAIRS = 8, 12
UNUSUAL = {"beta": 0.4, "temperature": 0.3, "memory_momentum": 0.7, "margin": 0.05, "shift": 0.6}


def inner(x: list[float], y: list[float]) -> float:
    """Inner product."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def unit(row: list[float]) -> list[float]:
    """A row brought to length 1."""
    length = math.sqrt(inner(row, row))
    return [value / length for value in row]


def code(row: list[float]) -> list[float]:
    """Its signs."""
    return [1.0 if value >= 0 else -1.0 for value in row]


def contrastive_oracle(o: Rows, codes: Rows, own: list[int], numbers: list[int], rows: list[int], T: float) -> float:
    """Mean of -log of a pair's own weight over the mean weight of it and its negatives.

    `codes[k]` is the code of pair `numbers[k]`; `codes[own[i]]` that of row i, which is pair `rows[i]`.
    """
    total = 0.0
    for i, output in enumerate(o):
        weights = [math.exp(inner(output, codes[own[i]]) / T)]
        weights += [
            math.exp(inner(output, b) / T) for b, number in zip(codes, numbers, strict=True) if number != rows[i]
        ]
        total -= math.log(weights[0] / (sum(weights) / len(weights)))
    return total / len(o)


def ranking_oracle(o: Rows, partners: Rows, s: Settings) -> float:
    """Mean of log sum_j exp(s_ij) - s_ii + margin, with similarities below the margin shifted down."""
    total = 0.0
    for i, output in enumerate(o):
        similarity = [inner(output, partner) for partner in partners]
        shifted = [value if value >= similarity[i] - s.margin else value - s.shift for value in similarity]
        total += math.log(sum(math.exp(value) for value in shifted)) - similarity[i] + s.margin
    return total / len(o)


def terms_oracle(
    outputs: tuple[Rows, Rows], memory: Rows, rows: list[int], s: Settings, warming: bool
) -> dict[str, float]:
    """All terms of a batch of one process whose negatives are the whole memory, or the batch."""
    o_I, o_T = ([unit([math.tanh(value) for value in row]) for row in h] for h in outputs)
    T = s.temperature * math.sqrt(len(o_I[0]))
    said = [[(a + b) / 2 for a, b in zip(x, y, strict=True)] for x, y in zip(o_I, o_T, strict=True)]
    if warming:
        given = [code(row) for row in said], list(range(len(rows))), rows
    else:
        given = [code(row) for row in memory], rows, list(range(len(memory)))
    return {
        "contrast_image": s.beta * contrastive_oracle(o_I, *given, rows, T),
        "contrast_text": s.beta * contrastive_oracle(o_T, *given, rows, T),
        "rank_image_text": (1 - s.beta) * ranking_oracle(o_I, o_T, s),
        "rank_text_image": (1 - s.beta) * ranking_oracle(o_T, o_I, s),
    }


def remembered_oracle(outputs: tuple[Rows, Rows], memory: Rows, rows: list[int], kept: float) -> Rows:
    """The memory after a step."""
    o_I, o_T = ([unit([math.tanh(value) for value in row]) for row in h] for h in outputs)
    moved = [list(row) for row in memory]
    for i, row in enumerate(rows):
        said = unit([(a + b) / 2 for a, b in zip(o_I[i], o_T[i], strict=True)])
        moved[row] = unit([kept * old + (1 - kept) * new for old, new in zip(memory[row], said, strict=True)])
    return moved


def small_ucch(**changed: float) -> torch.nn.Module:
    """UCCH of 8 bits for features of 5 and 4 numbers, prepared for 12 pairs, in double precision."""
    torch.manual_seed(1)
    method = methods.create("ucch", Shape(BITS, 5, 4), {"hidden": 6, **changed})
    image, text = features(PAIRS)
    method.prepare(TrainingPairs(image, text, None, PAIRS), 3)
    return method.double()


def features(n: int, seed: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Random features of both modalities."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 5, generator=generator), torch.randn(n, 4, generator=generator)


def batch(rows: list[int]) -> Batch:
    """Some of the 12 pairs, in double precision."""
    image, text = features(PAIRS)
    return Batch(image[rows].double(), text[rows].double(), None, torch.tensor(rows))


@torch.no_grad()
def outputs_of(method: torch.nn.Module, given: Batch) -> tuple[Rows, Rows]:
    """h of both modalities as numbers."""
    return method.image_outputs(given.image).tolist(), method.text_outputs(given.text).tolist()


@pytest.mark.parametrize("changed", [{}, UNUSUAL])
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("rows", [[3], [7, 0, 11, 4, 2]])
def test_the_terms_are_their_formulas(changed, epoch, rows):
    method = small_ucch(**changed)
    method.start_epoch(epoch)
    outputs, memory = outputs_of(method, batch(rows)), method.memory.tolist()
    terms = {name: value.item() for name, value in method(batch(rows), "joint", World()).items()}
    assert terms == pytest.approx(terms_oracle(outputs, memory, rows, method.settings, epoch == 0))


@pytest.mark.parametrize("changed", [{}, UNUSUAL])
@pytest.mark.parametrize(("epoch", "kept"), [(0, 0.0), (1, None)])
def test_a_step_moves_the_memory_of_its_rows(changed, epoch, kept):
    method, rows = small_ucch(**changed), [7, 0, 11, 4, 2]
    method.start_epoch(epoch)
    outputs, before = outputs_of(method, batch(rows)), method.memory.tolist()
    method(batch(rows), "joint", World())
    share = method.settings.memory_momentum if kept is None else kept
    expected = torch.tensor(remembered_oracle(outputs, before, rows, share), dtype=torch.float64)
    torch.testing.assert_close(method.memory, expected)
    untouched = [row for row in range(PAIRS) if row not in rows]
    assert method.memory[untouched].tolist() == [before[row] for row in untouched]


def test_looking_moves_no_memory():
    method = small_ucch().eval()
    before = method.memory.clone()
    method(batch([1, 2]), "joint", World())
    assert torch.equal(method.memory, before)


def test_contrast_by_hand():
    o = torch.tensor([[1.0, 0.0]])
    own, others = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, -1.0], [-1.0, -1.0], [1.0, 1.0]])
    excluded = torch.tensor([[False, False, True]])
    mean = (2 * math.e + 1 / math.e) / 3
    assert float(contrastive(o, own, others, excluded, 1.0)) == pytest.approx(math.log(mean / math.e))


def test_a_net_that_knows_nothing_has_no_contrast_to_show():
    o = torch.zeros(3, 4)
    codes = torch.ones(3, 4)
    assert float(contrastive(o, codes, codes, torch.eye(3, dtype=torch.bool), 1.0)) == pytest.approx(0)


def test_ranking_by_hand():
    o, partners = torch.eye(2), torch.tensor([[1.0, 0.0], [0.9, 0.4]])
    expected = (math.log(math.e + math.exp(0.9)) - 1 + math.log(math.exp(0.4) + math.exp(-0.5)) - 0.4) / 2 + 0.2
    assert float(ranking(o, partners, partners, 0.2, 0.5)) == pytest.approx(expected)


def test_the_first_memory_is_drawn_from_the_seed_with_even_signs_and_unit_rows():
    def memory(seed: int) -> torch.Tensor:
        method = methods.create("ucch", Shape(BITS, 5, 4), {"hidden": 6})
        method.prepare(TrainingPairs(*features(20), None, 5000), seed)
        return method.memory

    assert torch.equal(memory(3), memory(3))
    assert not torch.equal(memory(3), memory(4))
    assert memory(3).shape == (5000, BITS)
    torch.testing.assert_close(memory(3).abs(), torch.full((5000, BITS), BITS**-0.5))
    assert abs(float((memory(3) > 0).float().mean()) - 0.5) < 0.02


def test_negatives_are_all_of_a_small_memory_and_a_seeded_draw_from_a_large_one():
    small = small_ucch()
    assert small.negatives().tolist() == list(range(PAIRS))
    large = small_ucch(negatives=5)
    torch.manual_seed(4)
    first = large.negatives()
    torch.manual_seed(4)
    assert torch.equal(first, large.negatives())
    assert first.shape == (5,)
    assert set(first.tolist()) <= set(range(PAIRS))


def test_codes_receive_no_gradient_and_both_nets_do():
    method = small_ucch()
    method.start_epoch(1)
    sum(method(batch([1, 2, 3]), "joint", World()).values()).backward()
    assert not method.memory.requires_grad
    assert all(parameter.grad.abs().sum() > 0 for parameter in method.parameters())


def test_a_step_is_no_longer_than_the_clipped_gradient():
    method = small_ucch(clip=1e-3)
    method.start_epoch(1)
    optimizer = method.optimizer_of("joint")
    (1e6 * sum(method(batch([1, 2, 3]), "joint", World()).values())).backward()
    optimizer.step()
    gradients = torch.cat([parameter.grad.flatten() for parameter in method.parameters()])
    assert float(gradients.norm()) == pytest.approx(1e-3)


def test_the_unit_of_features_changes_no_code():
    image, text = features(64)

    def codes(factor: float) -> list[bytes]:
        torch.manual_seed(1)
        method = methods.create("ucch", Shape(16, 5, 4), {"hidden": 16, "epochs": 2, "batch_size": 16})
        given = factor * image, factor * text
        fit(method, Resident(*given, None, 16, 3, World()), World(), 3)
        return [method.encode("image", given[0]).tobytes(), method.encode("text", given[1]).tobytes()]

    assert codes(1.0) == codes(1024.0)
