"""The training loop: one for all methods, one process or many, from the start or from a checkpoint.

Before every batch torch is seeded by (seed, pass, step), equally on every worker, so that random draws are no state:
a training continued from a checkpoint takes the steps that it would have taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from xhash_ray.errors import XhashError
from xhash_ray.learning.sources import Position, Source, check_batches
from xhash_ray.methods.base import Batch, Method, World

Terms = dict[str, Tensor]
OnEpoch = Callable[[int, dict[str, float]], None]
OnStep = Callable[[Position, int], None]  # how far it is, steps of a pass


class Pass(NamedTuple):
    """One pass over the data: its epoch, its number within it, the steps on every batch, whether it is the last."""

    epoch: int
    number: int
    phases: Sequence[str]
    closes_epoch: bool


def schedule(method: Method) -> list[Pass]:
    """All passes of a training in order."""
    passes = []
    for epoch in range(method.settings.epochs):
        names = method.passes(epoch)
        passes += [Pass(epoch, number, phases, number == len(names) - 1) for number, phases in enumerate(names)]
    return passes


@dataclass
class Training:
    """A method in training and everything that a checkpoint must hold.

    Attributes:
        method: Its parameters and buffers.
        optimizers: By phase.
        position: How far it is.
        sums: Sums of this epoch's terms on this worker, and the steps they are of, by term.
        best: Epoch and score of the best weights so far, where selection by validation is on.
        best_weights: Those weights.
        reports: Of every epoch so far.
    """

    method: Method
    optimizers: dict[str, torch.optim.Optimizer]
    position: Position = Position()
    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    best: tuple[int, float] | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    reports: list[dict[str, float]] = field(default_factory=list)

    def add(self, prefix: str, terms: Terms) -> None:
        """Adds one step's terms to the epoch's sums, on their device."""
        for name, value in terms.items():
            key = prefix + name
            self.sums[key] = self.sums[key] + value if key in self.sums else value
            self.counts[key] = self.counts.get(key, 0) + 1


class Keeper(Protocol):
    """Where checkpoints are kept."""

    def restore(self, training: Training) -> None:
        """Puts the last checkpoint, if there is one, into a training that has just been prepared."""

    def offer(self, training: Training, force: bool = False) -> None:
        """Keeps a checkpoint when it is time for one."""


class Examiner(Protocol):
    """Looks at a method after an epoch: bit health, validation."""

    def __call__(self, method: Method, epoch: int) -> dict[str, float]:
        """Numbers to report; `validation_map` among them decides where the best epoch is wanted."""


class Loop:
    """Trains a method in place.

    Args:
        method: Freshly created, with the same weights on every worker.
        source: Its data.
        world: Who shares the batches.
        seed: Decides whatever the method draws.
        on_epoch: Called with the epoch, from 0, and its report: mean terms, `loss`, `learning_rate`, `pairs_per_s`, and
            what `examine` found.
        on_step: Called after every batch.
        examine: Called after each epoch, on the first worker only.
        keeper: Of checkpoints.
        device: Where the method is trained.
        precision: "fp32", or "bf16" for autocast of the networks.
        keep_best: End with the weights of the epoch whose `validation_map` was highest.
    """

    def __init__(
        self,
        method: Method,
        source: Source,
        world: World,
        seed: int,
        on_epoch: OnEpoch,
        *,
        on_step: OnStep = lambda *_: None,
        examine: Examiner | None = None,
        keeper: Keeper | None = None,
        device: str = "cpu",
        precision: str = "fp32",
        keep_best: bool = False,
    ) -> None:
        self.method, self.source, self.world, self.seed, self.on_epoch = method, source, world, seed, on_epoch
        self.on_step = on_step
        self.examine, self.keeper, self.device, self.keep_best = examine, keeper, device, keep_best
        kind = torch.device(device).type
        self.autocast = torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16")

    def run(self) -> Training:
        """Prepares, then takes every pass that is left.

        Raises:
            BadInput: for fewer pairs than a batch.
            XhashError: when the loss stops being a number.
        """
        plan = schedule(self.method)
        if plan and not (self.method.gradient_free and self.source.steps):
            check_batches(self.source.steps * self.source.batch_size, self.source.batch_size, self.world.size)
        training = self.prepared()
        batches = self.source.batches(training.position, len(plan))
        for number in range(training.position.passes, len(plan)):
            self.take(plan[number], training, batches)
        if not plan:
            self.report(0, training, 0.0)
        if training.best_weights:
            self.method.load_state_dict(training.best_weights)
        self.method.eval()
        return training

    def prepared(self) -> Training:
        """The method fitted to what is known of the data, its optimisers, and the last checkpoint in both."""
        self.method.prepare(self.source.known(), self.seed)
        self.method.to(self.device)
        phases = dict.fromkeys(phase for entry in schedule(self.method) for phase in entry.phases)
        moving = [phase for phase in phases if phase not in self.method.gradient_free]
        training = Training(self.method, {phase: self.method.optimizer_of(phase) for phase in moving})
        if self.keeper:
            self.keeper.restore(training)
        return training

    def take(self, this: Pass, training: Training, batches: Iterator[Batch]) -> None:
        """One pass over the data, or what is left of it."""
        self.method.train()
        torch.manual_seed(step_seed(self.seed, Position(training.position.passes, -1)))  # it may draw, too
        self.method.start_epoch(this.epoch)
        self.set_rates(this, training)
        first, started_s = training.position.steps, time.perf_counter()
        for step in range(first, self.source.steps):
            torch.manual_seed(step_seed(self.seed, training.position))
            batch = next(batches).to(self.device)
            for phase in this.phases:
                training.add(self.prefix(phase), self.step(batch, phase, training.optimizers.get(phase)))
            training.position = Position(training.position.passes, step + 1)
            self.on_step(training.position, self.source.steps)
            if self.keeper and step + 1 < self.source.steps:
                self.keeper.offer(training)
        pairs = (self.source.steps - first) * self.source.batch_size
        self.close(this, training, pairs / (time.perf_counter() - started_s))

    def close(self, this: Pass, training: Training, pairs_per_s: float) -> None:
        """Ends a pass, and the epoch with its last pass."""
        training.position = Position(training.position.passes + 1)
        if this.closes_epoch:
            with torch.no_grad():
                self.method.end_epoch(this.epoch, self.world)
            self.report(this.epoch, training, pairs_per_s)
        if self.keeper:
            self.keeper.offer(training)

    def step(self, batch: Batch, phase: str, optimizer: torch.optim.Optimizer | None) -> Terms:
        """One step of one phase, with gradients where it has an optimiser; returns its terms."""
        if optimizer is None:
            with torch.no_grad():
                summed: Terms = self.method(batch, phase, self.world)
                return summed
        optimizer.zero_grad(set_to_none=True)
        with self.autocast:
            terms: Terms = self.method(batch, phase, self.world)
        torch.stack([value.float() for value in terms.values()]).sum().backward()
        self.world.average_gradients([p for group in optimizer.param_groups for p in group["params"]])
        optimizer.step()
        with torch.no_grad():
            self.method.after_step(batch, phase, self.world)
        return {name: value.detach() for name, value in terms.items()}

    def set_rates(self, this: Pass, training: Training) -> None:
        """Learning rates of a pass."""
        for phase, rate in self.method.learning_rates(this.epoch, this.number).items():
            for group in training.optimizers[phase].param_groups:
                group["lr"] = rate

    def prefix(self, phase: str) -> str:
        """What distinguishes equal terms of several phases."""
        return f"{phase}." if len(self.method.phases) > 1 else ""

    def report(self, epoch: int, training: Training, pairs_per_s: float) -> None:
        """Mean terms of an epoch, their sum, and what the examiner finds; starts the next epoch's sums."""
        means = self.means(training)
        rates = [group["lr"] for optimizer in training.optimizers.values() for group in optimizer.param_groups]
        found = {"loss": self.loss(means), **means, "learning_rate": max(rates, default=0.0)}
        found["pairs_per_s"] = pairs_per_s
        if self.examine and self.world.rank == 0:
            self.method.eval()
            found |= self.examine(self.method, epoch)
        self.keep_if_best(epoch, found, training)
        training.sums, training.counts = {}, {}
        training.reports.append(found)
        self.on_epoch(epoch, found)

    def means(self, training: Training) -> dict[str, float]:
        """The epoch's mean terms over steps and workers."""
        if not training.sums:
            return {}
        each = torch.stack([training.sums[name] / training.counts[name] for name in training.sums])
        return dict(zip(training.sums, self.world.mean(each.float()).tolist(), strict=True))

    def loss(self, means: dict[str, float]) -> float:
        """The sum of all terms but the adversaries'.

        Raises:
            XhashError: when it is not a number.
        """
        against = tuple(f"{phase}." for phase in self.method.adversaries)
        loss = sum((value for name, value in means.items() if not name.startswith(against)), 0.0)
        if not math.isfinite(loss):
            raise XhashError("training", f"the loss is {loss}", "Lower settings.learning_rate or check the features")
        return loss

    def keep_if_best(self, epoch: int, found: dict[str, float], training: Training) -> None:
        """Copies the weights of the best validated epoch."""
        score = found.get("validation_map")
        if not self.keep_best or score is None or (training.best and score <= training.best[1]):
            return
        training.best = (epoch, score)
        training.best_weights = {name: value.detach().clone() for name, value in self.method.state_dict().items()}


def step_seed(seed: int, position: Position) -> int:
    """The seed of one batch's random draws; torch takes no larger ones."""
    return ((seed * 1_000_003 + position.passes) * 1_000_003 + position.steps) % 2**63


def fit(method: Method, source: Source, world: World, seed: int, on_epoch: OnEpoch = lambda *_: None) -> Training:
    """Trains a method in place, in memory and without checkpoints: `Loop` with its defaults."""
    return Loop(method, source, world, seed, on_epoch).run()
