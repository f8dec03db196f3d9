"""What a person sees while a verb runs: lines on standard error."""

from __future__ import annotations

import sys
import time


class Progress:
    """Lines about one stage: `[extract] 2,048 of 6,000 pairs, 512 pairs/s, 8 s left`.

    Args:
        stage: The verb.
        total: Items to do, 0 when unknown.
        unit: What an item is.
        interval_s: Least time between two lines.
    """

    def __init__(self, stage: str, total: int = 0, unit: str = "pairs", interval_s: float = 2.0) -> None:
        self.stage, self.total, self.unit, self.interval_s = stage, total, unit, interval_s
        self.done = 0
        self.started_s = self.said_s = time.monotonic()

    def say(self, text: str) -> None:
        """One line."""
        print(f"[{self.stage}] {text}", file=sys.stderr, flush=True)

    def add(self, count: int) -> None:
        """Counts items and says so when it is time."""
        self.done += count
        self.tell(self.line())

    def tell(self, text: str) -> None:
        """One line, if the last one is long enough ago."""
        if time.monotonic() - self.said_s >= self.interval_s:
            self.said_s = time.monotonic()
            self.say(text)

    def finish(self, count: int, where: str) -> None:
        """The closing line of a stage."""
        self.say(f"{count:,} {self.unit} in {self.seconds:.1f} s, in {where}")

    @property
    def seconds(self) -> float:
        """Time since the stage began."""
        return max(time.monotonic() - self.started_s, 1e-9)

    def line(self) -> str:
        """How far it is and how fast it goes."""
        rate = self.done / self.seconds
        of_total = f" of {self.total:,}" if self.total else ""
        left = f", {(self.total - self.done) / rate:,.0f} s left" if self.total and rate else ""
        return f"{self.done:,}{of_total} {self.unit}, {rate:,.0f} {self.unit}/s{left}"


class TrainingProgress(Progress):
    """Lines about a training: every tenth of its epochs, and how far a long pass is.

    Args:
        epochs: Of the whole training.
        passes: Of the whole training; several of them may make an epoch.
    """

    def __init__(self, epochs: int, passes: int) -> None:
        super().__init__("train", epochs, "epochs")
        self.passes = passes

    def epoch(self, epoch: int, report: dict[str, float]) -> None:
        """A finished epoch, counted from 0."""
        self.done = epoch + 1
        if self.done % max(1, self.total // 10) == 0 or self.done == self.total:
            speed = report.get("pairs_per_s", 0.0)
            detail = ", ".join(f"{name} {value:.4g}" for name, value in report.items() if name != "pairs_per_s")
            self.say(f"epoch {self.done} of {self.total}: {detail}, {speed:,.0f} pairs/s")

    def step(self, passes: int, step: int, steps: int) -> None:
        """A step of a pass that is under way."""
        self.say(f"pass {passes + 1} of {self.passes}: step {step:,} of {steps:,}")
