"""JDSH against its formulas, written here once more as plain loops over Python numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xhash_ray import methods
from xhash_ray.methods import jdsh
from xhash_ray.methods.base import Batch, Shape, TrainingPairs, World
from xhash_ray.methods.jdsh import PUBLISHED, Settings, Thresholds, fit_thresholds, joint_similarity, weighted

Rows = list[list[float]]
SETTINGS = Settings()
UNUSUAL = Settings(alpha=0.4, beta=0.3, lambda_=0.3, mu=1.1, intra=0.7, pairs=0.6, weight_left=0.2, weight_right=0.3)


def inner(x: list[float], y: list[float]) -> float:
    """Inner product."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def cosine(x: list[float], y: list[float]) -> float:
    """Cosine of two vectors, 0 where one of them is zero."""
    lengths = math.sqrt(inner(x, x)) * math.sqrt(inner(y, y))
    return inner(x, y) / lengths if lengths else 0.0


def joint_similarity_oracle(image: Rows, text: Rows, s: Settings) -> Rows:
    """Entry by entry: alpha S_I + beta S_T + lambda S_C with S_C made symmetric."""
    n = range(len(image))
    s_image = [[2 * cosine(image[i], image[j]) - 1 for j in n] for i in n]
    s_text = [[2 * cosine(text[i], text[j]) - 1 for j in n] for i in n]
    s_cross = [[cosine(s_image[i], s_text[j]) for j in n] for i in n]
    return [
        [s.alpha * s_image[i][j] + s.beta * s_text[i][j] + s.lambda_ * (s_cross[i][j] + s_cross[j][i]) / 2 for j in n]
        for i in n
    ]


def weight_oracle(value: float, t: Thresholds, s: Settings) -> float:
    """One entry of S after the decision."""
    if value < t.left:
        return (1 + s.weight_left * math.exp(-(value - t.lowest))) * value
    if value > t.right:
        return (1 + s.weight_right * math.exp(value - t.highest)) * value
    return value


def relaxed_codes(outputs: Rows, a: float) -> Rows:
    """tanh(a h), each row brought to length 1."""
    codes = []
    for row in outputs:
        squashed = [math.tanh(a * value) for value in row]
        length = math.sqrt(inner(squashed, squashed))
        codes.append([value / length for value in squashed])
    return codes


def mean_square(left: Rows, right: Rows, wanted: Rows) -> float:
    """Mean over all n x n entries of (<left i, right j> - wanted ij) squared."""
    n = range(len(left))
    return sum((inner(left[i], right[j]) - wanted[i][j]) ** 2 for i in n for j in n) / len(left) ** 2


def loss_oracle(image_outputs: Rows, text_outputs: Rows, wanted: Rows, a: float, s: Settings) -> dict[str, float]:
    """The named terms of L."""
    b_image, b_text = relaxed_codes(image_outputs, a), relaxed_codes(text_outputs, a)
    return {
        "intra_image": s.intra * mean_square(b_image, b_image, wanted),
        "intra_text": s.intra * mean_square(b_text, b_text, wanted),
        "inter_image_text": mean_square(b_image, b_text, wanted),
        "inter_text_image": mean_square(b_text, b_image, wanted),
        "pairs": -s.pairs * sum(inner(x, y) for x, y in zip(b_image, b_text, strict=True)) / len(b_image),
    }


def random_features(seed: int, n: int, *lengths: int) -> list[torch.Tensor]:
    """Matrices of n rows in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, length, generator=generator, dtype=torch.float64) for length in lengths]


def small_jdsh(s: Settings) -> torch.nn.Module:
    """JDSH of 8 bits for features of 5 and 4 numbers, in double precision."""
    torch.manual_seed(1)
    changed = {name: getattr(s, name) for name in ("alpha", "beta", "lambda_", "mu", "intra", "pairs")}
    weights = {"weight_left": s.weight_left, "weight_right": s.weight_right}
    return methods.create("jdsh", Shape(8, 5, 4), {**changed, **weights, "hidden": 6}).double()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9999), st.integers(1, 6), st.sampled_from([SETTINGS, UNUSUAL]))
def test_joint_similarity_is_its_formula(seed, n, s):
    image, text = random_features(seed, n, 5, 3)
    expected = joint_similarity_oracle(image.tolist(), text.tolist(), s)
    torch.testing.assert_close(joint_similarity(image, text, s), torch.tensor(expected, dtype=torch.float64))


def test_joint_similarity_is_symmetric_and_blind_to_length():
    image, text = random_features(1, 7, 5, 3)
    S = joint_similarity(image, text, SETTINGS)
    torch.testing.assert_close(S, S.T)
    torch.testing.assert_close(S, joint_similarity(3 * image, text / 7, SETTINGS))


def test_joint_similarity_of_a_zero_row_is_a_number():
    image, text = random_features(1, 4, 5, 3)
    image[2] = 0
    expected = joint_similarity_oracle(image.tolist(), text.tolist(), SETTINGS)
    torch.testing.assert_close(joint_similarity(image, text, SETTINGS), torch.tensor(expected, dtype=torch.float64))


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 9999),
    st.sampled_from([*PUBLISHED.values(), Thresholds(-0.2, 0.3, -0.9, 0.9)]),
    st.sampled_from([SETTINGS, UNUSUAL]),
)
def test_weighting_is_its_formula(seed, thresholds, s):
    (S,) = random_features(seed, 5, 5)
    S = S.clamp(-1, 1)
    expected = [[weight_oracle(value, thresholds, s) for value in row] for row in S.tolist()]
    torch.testing.assert_close(weighted(S, thresholds, s), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("value", "factor"), [(-0.6, 1 + 0.1 * math.exp(0.08)), (-0.3, 1), (0.68, 1.2)])
def test_weights_by_hand(value, factor):
    S = torch.full((1, 1), value, dtype=torch.float64)
    assert float(weighted(S, PUBLISHED["mirflickr"], SETTINGS)) == pytest.approx(value * factor)


def test_values_on_a_threshold_are_undecided():
    t = Thresholds(-0.25, 0.5, -1.0, 1.0)
    S = torch.tensor([[t.left, t.right], [0.0, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(weighted(S, t, SETTINGS), S)


@pytest.mark.parametrize(("name", "left", "right"), [("mirflickr", -0.528, -0.138), ("nuswide", -0.6456, -0.276)])
def test_published_thresholds(name, left, right):
    assert PUBLISHED[name].left == pytest.approx(left)
    assert PUBLISHED[name].right == pytest.approx(right)


@pytest.mark.parametrize(
    ("peak", "scale_left", "scale_right"), [(-0.49, 0.02, 0.09), (0.1, 0.05, 0.05), (-0.6, 0.1, 0.3)]
)
def test_thresholds_are_recovered_from_a_sample(peak, scale_left, scale_right):
    """Half normal left of the peak and half Laplace right of it, so that the density is continuous."""
    rng = np.random.default_rng(7)
    mass_left, mass_right = scale_left * math.sqrt(math.pi / 2), scale_right
    n_left = round(200_000 * mass_left / (mass_left + mass_right))
    below = peak - abs(rng.normal(0, scale_left, n_left))
    above = peak + rng.exponential(scale_right, 200_000 - n_left)
    found = fit_thresholds(torch.tensor(np.concatenate([below, above]), dtype=torch.float32))
    assert found.left == pytest.approx(peak - 2 * scale_left, abs=0.3 * scale_left + 0.1 * scale_right)
    assert found.right == pytest.approx(peak + 4 * scale_right, abs=0.4 * scale_right)
    assert found.lowest == pytest.approx(below.min())
    assert found.highest == pytest.approx(above.max())


@pytest.mark.parametrize("value", [0.0, -0.7])
def test_thresholds_of_equal_values_are_numbers(value):
    found = fit_thresholds(torch.full((10,), value))
    assert all(math.isfinite(number) for number in found)
    assert found.left <= found.right


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("s", [SETTINGS, UNUSUAL])
def test_the_loss_of_a_given_similarity_is_its_formula(s, epoch):
    method = small_jdsh(s)
    image, text, S = random_features(2, 6, 5, 4, 6)
    S = (S + S.T) / 4
    method.similarity = lambda *_: S
    method.start_epoch(epoch)
    with torch.no_grad():
        terms = method(Batch(image, text), method.phases[0], World())
        outputs = method.image_outputs(image).tolist(), method.text_outputs(text).tolist()
    expected = loss_oracle(*outputs, S.tolist(), math.sqrt(epoch + 1), s)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected)


@pytest.mark.parametrize("thresholds", ["mirflickr", "nuswide"])
def test_the_wanted_similarity_is_weighted_by_the_chosen_thresholds_and_scaled(thresholds, monkeypatch):
    image, text, S = random_features(3, 40, 5, 4, 40)
    monkeypatch.setattr(jdsh, "joint_similarity", lambda *_: S)
    method = methods.create("jdsh", Shape(8, 5, 4), {"thresholds": thresholds, "hidden": 6, "mu": 1.3})
    method.prepare(TrainingPairs(image, text, None, len(image)), 1)
    t, s = PUBLISHED[thresholds], method.settings
    expected = [[1.3 * weight_oracle(value, t, s) for value in row] for row in S.tolist()]
    torch.testing.assert_close(
        method.similarity(image, text), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )


def test_fitted_thresholds_are_those_of_the_similarities_off_the_diagonal(monkeypatch):
    image, text, S = (rows.float() for rows in random_features(3, 8, 5, 4, 8))
    S.fill_diagonal_(50)
    monkeypatch.setattr(jdsh, "joint_similarity", lambda *_: S)
    method = methods.create("jdsh", Shape(8, 5, 4), {"hidden": 6, "batch_size": 8})
    method.prepare(TrainingPairs(image, text, None, len(image)), 1)
    expected = fit_thresholds(S[~torch.eye(8, dtype=torch.bool)])
    assert method.thresholds.tolist() == pytest.approx(list(expected), rel=1e-5)


def test_no_gradient_flows_through_the_similarity():
    method = small_jdsh(SETTINGS)
    image, text = (rows.requires_grad_() for rows in random_features(4, 6, 5, 4))
    seen = []
    similarity = method.similarity
    method.similarity = lambda *given: seen.append(similarity(*given)) or seen[0]
    method(Batch(image, text), "joint", World())
    assert not seen[0].requires_grad
