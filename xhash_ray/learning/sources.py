"""Where the batches of a training come from. The order of pairs is a function of (seed, pass) alone.

A global batch is cut by rank: W workers take the same steps on the same batches as one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from xhash_ray.errors import BadInput
from xhash_ray.methods.base import Batch, TrainingPairs, World


class Position(NamedTuple):
    """How far a training has come: passes finished, and steps of the next one."""

    passes: int = 0
    steps: int = 0


class Source(Protocol):
    """What the training loop asks of its data."""

    @property
    def steps(self) -> int:
        """Batches of one pass."""

    @property
    def batch_size(self) -> int:
        """Pairs in a global batch."""

    def known(self) -> TrainingPairs:
        """What methods are prepared with."""

    def batches(self, start: Position, passes: int) -> Iterator[Batch]:
        """This worker's share of every batch from a position to the end of the last pass."""


def check_batches(pairs: int, batch_size: int, workers: int) -> None:
    """Raises BadInput when there are fewer pairs than a batch, or a batch cannot be shared evenly."""
    if batch_size < 1 or pairs < batch_size:
        found = f"{pairs} pairs for batches of {batch_size}"
        raise BadInput("training", found, "Give more pairs or --set settings.batch_size")
    if batch_size % max(1, workers):
        found = f"a batch of {batch_size} pairs for {workers} workers"
        raise BadInput("training", found, "Make settings.batch_size a multiple of --workers")


def order_seed(seed: int, number: int) -> int:
    """The seed of one pass' order."""
    return (seed * 1_000_003 + number) % 2**63


@dataclass(frozen=True)
class Resident:
    """Training pairs in memory; every pass is one random permutation, its last, partial batch left out unless `whole`.

    Attributes:
        image: float32 [n, d_i].
        text: float32 [n, d_t].
        labels: float32 [n, classes] or None.
        batch_size: Pairs in a global batch.
        seed: Of the order.
        world: Who shares the batches.
        whole: Whether the last, partial batch is given, too; workers' parts of it may differ in length.
    """

    image: Tensor
    text: Tensor
    labels: Tensor | None
    batch_size: int
    seed: int
    world: World
    whole: bool = False

    @property
    def steps(self) -> int:
        """Batches of one pass."""
        return -(-len(self.image) // self.batch_size) if self.whole else len(self.image) // self.batch_size

    def known(self) -> TrainingPairs:
        """All pairs."""
        return TrainingPairs(self.image, self.text, self.labels, len(self.image))

    def batches(self, start: Position, passes: int) -> Iterator[Batch]:
        """This worker's share of every batch from a position on."""
        for number in range(start.passes, passes):
            first = start.steps if number == start.passes else 0
            for rows in self.rows_of(number, first):
                labels = None if self.labels is None else self.labels[rows]
                yield Batch(self.image[rows], self.text[rows], labels, rows)

    def rows_of(self, number: int, first_step: int = 0) -> Iterator[Tensor]:
        """This worker's row numbers of each batch of a pass, from a step on."""
        generator = torch.Generator().manual_seed(order_seed(self.seed, number))
        order = torch.randperm(len(self.image), generator=generator)
        for step in range(first_step, self.steps):
            yield self.world.own(order[step * self.batch_size : (step + 1) * self.batch_size])
