"""Gates measure what they say, on codes made by hand."""

import numpy as np
import pytest

from xhash_ray.core.bits import pack
from xhash_ray.core.hamming import distances_reference
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.index.gates import Gates, HeldOut, check, measure, of_modality, pair_recall, parse_gates


def signs(*columns: list[int]) -> np.ndarray:
    """Codes of 8 bits from columns of +1 and -1; the bits that are left alternate in pairs."""
    rows = len(columns[0])
    rest = [[1 if (row >> bit) & 1 else -1 for row in range(rows)] for bit in range(8 - len(columns))]
    return pack(np.array([*columns, *rest], np.float32).T)


def test_a_stuck_bit_and_a_duplicate_bit_are_seen():
    stuck = of_modality(signs([1] * 64))
    assert stuck["max_imbalance"] == 0.5
    assert stuck["min_entropy"] == pytest.approx((6 + 0) / 8, abs=0.13)
    alternating = [1, -1] * 32
    twice = of_modality(signs(alternating, [-value for value in alternating]))
    assert twice["max_correlation"] == pytest.approx(1, abs=1e-5), "an inverted copy is a copy"


def test_distinct_codes_are_counted():
    codes = np.array([[1], [1], [2], [3]], np.uint8)
    assert of_modality(codes)["min_distinct"] == 0.75


def test_pair_recall_is_expected_over_ties():
    rng = np.random.default_rng(1)
    queries, database = rng.integers(0, 4, (20, 1), np.uint8), rng.integers(0, 4, (60, 1), np.uint8)
    distances, expected = distances_reference(database, queries), []
    for row, line in enumerate(distances):
        nearer, tied = (line < line[row]).sum(), (line == line[row]).sum()
        expected.append(min(1, max(0, (10 - nearer) / tied)))
    assert pair_recall(queries, database) == pytest.approx(np.mean(expected))


def test_the_worse_modality_and_direction_count():
    good, bad = np.arange(200, dtype=np.uint8)[:, None], np.zeros((200, 1), np.uint8)
    found = measure(good, bad)
    assert found["max_imbalance"] == 0.5
    assert found["min_distinct"] == 1 / 200
    assert found["min_pair_recall"] == pytest.approx(10 / 200, abs=1e-6)


def test_what_fails_is_told_with_figures_and_what_is_not_asked_is_not_checked():
    found = {"max_imbalance": 0.4, "min_distinct": 0.2}
    check(Gates(), found, "here")
    check(Gates(max_imbalance=0.4), found, "here")
    with pytest.raises(
        BadInput, match=r"at here: max_imbalance is 0\.400, allowed at most 0\.300; min_distinct is 0\.200"
    ):
        check(Gates(max_imbalance=0.3, min_distinct=0.5), found, "here")


@pytest.mark.parametrize(("given", "found"), [({"entropy": 1}, "min_entropy"), ({"min_entropy": "high"}, "no number")])
def test_unknown_gates_and_thresholds_are_refused(given, found):
    with pytest.raises(BadOption, match=found):
        parse_gates(given)


def held_out(n: int, noise: float, d: int = 16) -> HeldOut:
    """Pairs whose texts are their images with some noise; codes are signs."""
    rng = np.random.default_rng(3)
    image = rng.standard_normal((n, d)).astype(np.float32)
    text = image + noise * rng.standard_normal((n, d)).astype(np.float32)
    return HeldOut(image, text, pack(image), pack(rng.permutation(text) if noise > 5 else text))


def test_recall_of_held_out_pairs_is_what_the_definition_says():
    pairs = held_out(300, 0.1)
    sims = (pairs.image / np.linalg.norm(pairs.image, axis=1)[:, None]) @ (
        pairs.text / np.linalg.norm(pairs.text, axis=1)[:, None]
    ).T
    distances, expected = distances_reference(pairs.text_codes, pairs.image_codes), []
    for line, found in zip(sims, distances, strict=True):
        for neighbour in np.argsort(-line)[:10]:
            nearer, tied = (found < found[neighbour]).sum(), (found == found[neighbour]).sum()
            expected.append(min(1, max(0, (100 - nearer) / tied)))
    assert pairs.recalls()["min_image_to_text_recall"] == pytest.approx(np.mean(expected))


def test_recall_is_high_for_codes_that_keep_neighbours_and_chance_for_others():
    good, bad = held_out(600, 0.1).recalls(), held_out(600, 10).recalls()
    assert min(good.values()) > 0.75
    assert max(bad.values()) == pytest.approx(1 / 6, abs=0.06)


def test_recall_that_cannot_be_measured_is_refused():
    pairs = held_out(150, 0.1)
    with pytest.raises(BadInput, match="150 pairs"):
        pairs.recalls()
    with pytest.raises(BadInput, match="image features of 16 numbers, text features of 5"):
        HeldOut(pairs.image, pairs.text[:, :5], pairs.image_codes, pairs.text_codes).recalls()
