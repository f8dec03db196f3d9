"""Trainings as metrics: every loss term, pairs counted once though workers go back, and over when they are over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xhash_ray import telemetry
from xhash_ray.exposition import Registry
from xhash_ray.learning.loop import Pass
from xhash_ray.learning.reporting import TrainingMetrics

REPORT = {"loss": 3.0, "similarity": 2.5, "quantisation": 0.5, "learning_rate": 0.01, "pairs_per_s": 640.0}
REPORT |= {"bit_balance": 0.25, "quantisation_error": 0.125}
PASSES = [Pass(epoch, number, ("p",), number == 1) for epoch in range(3) for number in range(2)]


class Reported(Registry):
    """What was reported, by name and labels."""

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"method": "jdsh", **labels})


@pytest.fixture
def reported() -> Iterator[Reported]:
    with telemetry.attached(Reported()) as backend:
        yield backend


def test_an_epoch_is_told_with_every_term(reported):
    with TrainingMetrics("jdsh", PASSES, 100, clock=lambda: 1000.0) as metrics:
        assert reported("xhash_training_active") == 1
        assert reported("xhash_training_epochs") == 0
        metrics.epoch(0, REPORT)
        assert reported("xhash_training_validation_map_ratio") is None
        metrics.epoch(1, REPORT | {"loss": 2.0, "validation_map": 0.5})
    assert reported("xhash_training_active") == 0
    assert [reported("xhash_training_loss", term=term) for term in ("loss", "similarity", "quantisation")] == [
        2,
        2.5,
        0.5,
    ]
    assert reported("xhash_training_loss", term="bit_balance") is None
    assert reported("xhash_training_epochs") == 2
    assert reported("xhash_training_pairs_total") == 400
    assert reported("xhash_training_learning_rate") == 0.01
    assert reported("xhash_training_pairs_per_second") == 640
    assert reported("xhash_training_bit_balance_ratio") == 0.25
    assert reported("xhash_training_quantisation_error_ratio") == 0.125
    assert reported("xhash_training_validation_map_ratio") == 0.5
    assert reported("xhash_training_progress_timestamp_seconds") == 1000


def test_steps_of_a_long_pass_are_pairs_and_progress(reported):
    now_s = iter([1.0, 2.0, 3.0])
    with TrainingMetrics("jdsh", PASSES, 100, clock=lambda: next(now_s)) as metrics:
        metrics.step(passes=0, step=5, steps=20)
        assert reported("xhash_training_pairs_total") == 25
        metrics.step(passes=1, step=10, steps=20)
        assert reported("xhash_training_pairs_total") == 150
        assert reported("xhash_training_progress_timestamp_seconds") == 3


def test_pairs_that_are_trained_on_again_count_once(reported):
    """Lost workers continue from the last checkpoint."""
    metrics = TrainingMetrics("jdsh", PASSES, 100)
    metrics.step(passes=1, step=10, steps=20)
    metrics.step(passes=0, step=10, steps=20)
    assert reported("xhash_training_pairs_total") == 150
    metrics.epoch(0, REPORT)
    assert reported("xhash_training_pairs_total") == 200


def test_pairs_of_earlier_starts_are_no_work_of_this_one(reported):
    with TrainingMetrics("jdsh", PASSES, 100, epochs=2) as metrics:
        assert reported("xhash_training_epochs") == 2
        metrics.epoch(2, REPORT)
    assert reported("xhash_training_pairs_total") == 200


def test_a_training_that_fails_is_over_too(reported):
    with pytest.raises(RuntimeError), TrainingMetrics("jdsh", PASSES, 100):
        raise RuntimeError("oops")
    assert reported("xhash_training_active") == 0


def test_a_method_that_is_fitted_at_once_trains_on_no_batches(reported):
    with TrainingMetrics("jdsh", [], 100) as metrics:
        metrics.epoch(
            0, {"loss": 0.0, "learning_rate": 0.0, "pairs_per_s": 0.0, "bit_balance": 0.0, "quantisation_error": 0}
        )
    assert reported("xhash_training_pairs_total") == 0
    assert reported("xhash_training_epochs") == 1
