"""What papers share: batch normalisation and dropout that do not depend on the number of workers."""

import pytest
import torch

from xhash_ray.methods.base import World
from xhash_ray.methods.blocks import (
    GlobalBatchNorm,
    RunningCentre,
    cosine,
    dropout,
    modal_similarity,
    neighbourhood_similarity,
    share_a_label,
)


class Worker(World):
    """One of several workers, without the others."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def test_batch_norm_is_torchs_in_training_and_afterwards():
    ours, theirs = GlobalBatchNorm(5), torch.nn.BatchNorm1d(5)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        X = torch.randn(8, 5, generator=generator) * 3 + 1
        assert torch.allclose(ours(X, World()), theirs(X), atol=1e-5)
    ours.eval(), theirs.eval()
    assert torch.allclose(ours(X, World()), theirs(X), atol=1e-5)


def test_workers_draw_their_parts_of_one_mask():
    X = torch.ones(6, 4)
    torch.manual_seed(3)
    whole = dropout(X, 0.5, True, World())
    parts = []
    for rank in range(3):
        torch.manual_seed(3)
        parts.append(dropout(X[:2], 0.5, True, Worker(rank, 3)))
    assert torch.equal(torch.cat(parts), whole)
    assert set(whole.unique().tolist()) == {0.0, 2.0}


def test_dropout_is_off_when_not_training():
    X = torch.ones(3, 2)
    assert dropout(X, 0.5, False, World()) is X
    assert dropout(X, 0.0, True, World()) is X


def test_similarities_by_hand():
    X = torch.tensor([[2.0, 0.0], [0.0, 5.0], [3.0, 4.0], [0.0, 0.0]])
    expected = torch.tensor([[1, 0, 0.6, 0], [0, 1, 0.8, 0], [0.6, 0.8, 1, 0], [0, 0, 0, 0]])
    assert torch.allclose(cosine(X, X), expected)
    assert torch.allclose(modal_similarity(X, signed=True), expected)
    assert torch.allclose(modal_similarity(X, signed=False), 2 * expected - 1)


def test_rows_share_a_label_where_they_have_one_in_common():
    L = torch.tensor([[1.0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert share_a_label(L, L).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("signed", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("n", [4, 40])
def test_neighbourhoods_are_compared_alike_whatever_the_size_of_the_batch(signed, n):
    generator = torch.Generator().manual_seed(n)
    F_I, F_T = (torch.randn(n, d, generator=generator, dtype=torch.float64) for d in (7, 5))
    expected = cosine(modal_similarity(F_I, signed[0]), modal_similarity(F_T, signed[1]))
    assert torch.allclose(neighbourhood_similarity(F_I, F_T, signed), expected, atol=1e-9)


def test_centred_outputs_have_no_mean_and_keep_a_running_one():
    centre = RunningCentre(3, momentum=0.5)
    h = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    assert centre(h, World()).mean(dim=0).abs().max() == 0
    assert torch.equal(centre.mean, torch.tensor([1.0, 1.0, 1.0]))
    assert torch.equal(centre.eval()(h), h - 1)
    assert RunningCentre(3, enabled=False)(h, World()) is h
