"""A training as metrics: what its driver hears of epochs and steps, wherever the workers are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from xhash_ray import telemetry
from xhash_ray.learning.loop import Pass

NO_TERMS = {"learning_rate", "pairs_per_s", "bit_balance", "quantisation_error", "validation_map"}


class TrainingMetrics:
    """The metrics of one training while it is under way.

    Args:
        method: Its name.
        passes: All that it takes.
        pairs: Pairs of a pass.
        epochs: Those that earlier starts finished.
        clock: Unix time in seconds.
    """

    def __init__(
        self, method: str, passes: Sequence[Pass], pairs: int, epochs: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        self.method, self.passes, self.pairs, self.clock = method, passes, pairs, clock
        self.epochs = epochs
        self.counted = self.after(epochs)

    def __enter__(self) -> TrainingMetrics:
        telemetry.set("xhash_training_active", 1, method=self.method)
        telemetry.set("xhash_training_epochs", self.epochs, method=self.method)
        self.moved()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        telemetry.set("xhash_training_active", 0, method=self.method)

    def moved(self) -> None:
        """It is further than it was."""
        telemetry.set("xhash_training_progress_timestamp_seconds", self.clock(), method=self.method)

    def step(self, passes: int, step: int, steps: int) -> None:
        """How far a pass is that is under way.

        Args:
            passes: Those before it.
            step: Steps taken in it.
            steps: Of a pass.
        """
        self.count(int((passes + step / steps) * self.pairs))
        self.moved()

    def epoch(self, epoch: int, report: Mapping[str, float]) -> None:
        """A finished epoch, counted from 0, and what `Loop` reports of it."""
        for name, value in report.items():
            if name not in NO_TERMS:
                telemetry.set("xhash_training_loss", value, method=self.method, term=name)
        telemetry.set("xhash_training_epochs", epoch + 1, method=self.method)
        telemetry.set("xhash_training_learning_rate", report["learning_rate"], method=self.method)
        telemetry.set("xhash_training_pairs_per_second", report["pairs_per_s"], method=self.method)
        self.health(report)
        self.count(self.after(epoch + 1))
        self.moved()

    def health(self, report: Mapping[str, float]) -> None:
        """What the first worker found when it looked at the bits; a validation is not made after every epoch."""
        telemetry.set("xhash_training_bit_balance_ratio", report["bit_balance"], method=self.method)
        telemetry.set("xhash_training_quantisation_error_ratio", report["quantisation_error"], method=self.method)
        if "validation_map" in report:
            telemetry.set("xhash_training_validation_map_ratio", report["validation_map"], method=self.method)

    def after(self, epochs: int) -> int:
        """Pairs trained on after so many epochs."""
        return self.pairs * sum(each.epoch < epochs for each in self.passes)

    def count(self, pairs: int) -> None:
        """Counts on to so many pairs. Workers that went back to a checkpoint take steps again that are counted."""
        telemetry.add("xhash_training_pairs", max(0, pairs - self.counted), method=self.method)
        self.counted = max(self.counted, pairs)
