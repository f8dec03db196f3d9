"""What is looked at after an epoch: numbers that can be worked out by hand, and a MAP that brute force confirms."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
import torch

from xhash_ray.learning import validation
from xhash_ray.learning.data import Pairs
from xhash_ray.learning.validation import Examination, output_health
from xhash_ray.methods.base import Method, Settings, Shape


class Signs(Method):
    """A method whose outputs are its inputs, eight of them."""

    def __init__(self) -> None:
        super().__init__(Shape(8, 8, 8, 3), Settings())

    def image_outputs(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def text_outputs(self, text: torch.Tensor) -> torch.Tensor:
        return text


def made_pairs(n: int, seed: int, classes: int = 3) -> Pairs:
    """Pairs with few distinct distances, so that many items are tied, and one or two labels each."""
    generator = np.random.default_rng(seed)
    image, text = (torch.from_numpy(generator.standard_normal((n, 8)).astype(np.float32)) for _ in range(2))
    labels = torch.zeros(n, classes)
    labels[torch.arange(n), torch.arange(n) % classes] = 1
    labels[::4, 0] = 1
    return Pairs(image, text, labels)


class Items(NamedTuple):
    """Outputs and labels of one side."""

    outputs: np.ndarray
    labels: np.ndarray


def average_precision(distances: np.ndarray, relevant: np.ndarray) -> float:
    """Average precision, the mean over all orders of items that keep nearer ones first."""
    found = []
    for order in itertools.permutations(range(len(distances))):
        ranked = list(order)
        if any(distances[a] > distances[b] for a, b in itertools.pairwise(ranked)):
            continue
        hits = relevant[ranked]
        found.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean() if hits.any() else 0.0)
    return float(np.mean(found))


def brute_force(queries: Items, database: Items) -> float:
    """MAP by definition."""
    scores = []
    for output, labels in zip(queries.outputs, queries.labels, strict=True):
        distances = ((output >= 0) != (database.outputs >= 0)).sum(axis=1)
        scores.append(average_precision(distances, (database.labels * labels).any(axis=1)))
    return float(np.mean(scores))


@pytest.mark.parametrize("seed", range(3))
def test_validation_map_is_that_of_brute_force_in_both_directions(seed):
    training, held_out = made_pairs(6, seed), made_pairs(5, seed + 10)
    labels = held_out.labels.numpy(), training.labels.numpy()
    directions = [
        (held_out.image, training.text),
        (held_out.text, training.image),
    ]
    wanted = np.mean([brute_force(Items(q.numpy(), labels[0]), Items(d.numpy(), labels[1])) for q, d in directions])
    found = Examination(training, held_out, 1, 0)(Signs(), 0)
    assert found["validation_map"] == pytest.approx(wanted, abs=1e-9)
    assert 0 < wanted < 1


def test_validation_searches_a_bounded_database(monkeypatch):
    training, held_out = made_pairs(40, 1), made_pairs(5, 2)
    monkeypatch.setattr(validation, "DATABASE_ROWS", 6)
    found = Examination(training, held_out, 1, 0)(Signs(), 0)
    assert found == Examination(training.first(6), held_out, 1, 0)(Signs(), 0)


@pytest.mark.parametrize(("every", "last", "due"), [(1, 3, {0, 1, 2, 3}), (2, 4, {1, 3, 4}), (10, 3, {3})])
def test_validation_happens_every_so_many_epochs_and_after_the_last(every, last, due):
    examine = Examination(made_pairs(6, 1), made_pairs(5, 2), every, last)
    assert {epoch for epoch in range(last + 1) if "validation_map" in examine(Signs(), epoch)} == due


@pytest.mark.parametrize("lacking", ["validation", "its labels", "training labels"])
def test_without_validation_pairs_or_labels_there_is_no_map(lacking):
    training, held_out = made_pairs(6, 1), made_pairs(5, 2)
    if lacking == "its labels":
        held_out = Pairs(held_out.image, held_out.text, None)
    if lacking == "training labels":
        training = Pairs(training.image, training.text, None)
    found = Examination(training, None if lacking == "validation" else held_out, 1, 0)(Signs(), 0)
    assert found.keys() == {"bit_balance", "quantisation_error"}


@pytest.mark.parametrize(
    ("image", "balance", "error"),
    [
        ([[1.0] * 8, [-1.0] * 8], 0.0, 0.0),  # every bit splits the rows in half, outputs are codes
        ([[1.0] * 8, [2.0] * 8], 1.0, 0.0),  # all bits are stuck
        ([[1.0] * 4 + [0.0] * 4, [-1.0] * 8], 0.0, (1 - np.sqrt(0.5)) / 2),  # 0 counts as 1
        ([[1.0] * 8, [1.0] * 4 + [-1.0] * 4], 0.5, 0.0),
    ],
)
def test_health_is_what_can_be_worked_out_by_hand(image, balance, error):
    pairs = Pairs(torch.tensor(image), torch.tensor(image), None)
    found = output_health(Signs(), pairs, "cpu")
    assert found == {
        "bit_balance": pytest.approx(balance, abs=1e-6),
        "quantisation_error": pytest.approx(error, abs=1e-6),
    }


def test_health_is_the_mean_of_both_modalities():
    even, stuck = torch.tensor([[1.0] * 8, [-1.0] * 8]), torch.ones(2, 8)
    assert output_health(Signs(), Pairs(even, stuck, None), "cpu")["bit_balance"] == pytest.approx(0.5)


def test_health_is_of_validation_pairs_where_there_are_some():
    even = torch.tensor([[1.0] * 8, [-1.0] * 8])
    stuck = Pairs(torch.ones(2, 8), torch.ones(2, 8), torch.ones(2, 3))
    found = Examination(stuck, Pairs(even, even, torch.ones(2, 3)), 1, 0)(Signs(), 0)
    assert found["bit_balance"] == pytest.approx(0.0)
