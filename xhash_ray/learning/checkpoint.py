"""Checkpoints: everything that decides the rest of a training, in one file that cannot execute code.

    state-PPPPPP-SSSSSSSS.safetensors    after P passes and S steps: weights, buffers, memories, optimisers, sums

A file is put in one step, so that a reader finds the whole of a checkpoint or nothing of it. The last two are kept.
Random numbers need no state: every step seeds its own (see loop.py). Only the first worker writes, what it writes is
the same on every worker, and all are on one trajectory: a checkpoint that a dying run still puts is as good as any. The
running epoch's sums of terms alone are its own: after a restart, the report of that one epoch counts the first worker's
rows for the steps before.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from xhash_ray.errors import Mismatch, XhashError
from xhash_ray.learning.loop import Training
from xhash_ray.learning.sources import Position
from xhash_ray.methods.base import Method, World
from xhash_ray.storage import uri as places

NAME = re.compile(r"^state-(\d+)-(\d+)\.safetensors$")
KEPT = 2
FACTS = ("identity", "position", "counts", "best", "groups", "reports")


def tensors_of(training: Training) -> dict[str, Tensor]:
    """Every tensor of a training by a name that says where it belongs."""
    found = {f"method/{name}": value for name, value in state_of(training.method).items()}
    found |= {f"sum/{name}": value for name, value in training.sums.items()}
    found |= {f"best/{name}": value for name, value in training.best_weights.items()}
    for phase, optimizer in training.optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            values = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            found |= {f"optimizer/{phase}/{number}/{name}": value for name, value in values.items()}
    return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}


def state_of(method: Method) -> dict[str, Tensor]:
    """Parameters and all buffers, memories that models do not hold included."""
    return dict(method.named_parameters()) | dict(method.named_buffers())


def facts_of(training: Training, identity: dict[str, Any]) -> dict[str, Any]:
    """What is no tensor."""
    groups = {
        phase: [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        for phase, optimizer in training.optimizers.items()
    }
    return {
        "identity": identity,
        "position": list(training.position),
        "counts": training.counts,
        "best": list(training.best) if training.best else None,
        "groups": groups,
        "reports": training.reports,
    }


def load_into(training: Training, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Puts a checkpoint into a training that has just been prepared.

    Raises:
        Mismatch: when its tensors are of other names or shapes than the method's.
    """
    parts: dict[str, dict[str, Tensor]] = {"method": {}, "sum": {}, "best": {}, "optimizer": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = value
    put_state(training.method, parts["method"])
    for phase, optimizer in training.optimizers.items():
        put_optimizer(optimizer, phase, parts["optimizer"], facts["groups"][phase])
    device = device_of(training.method)
    training.sums = {name: value.to(device) for name, value in parts["sum"].items()}
    training.counts = dict(facts["counts"])
    training.best = (int(facts["best"][0]), float(facts["best"][1])) if facts["best"] else None
    training.best_weights = parts["best"]
    training.reports = list(facts["reports"])
    training.position = Position(*facts["position"])


def device_of(method: Method) -> torch.device:
    """Where a method's weights are."""
    return next((value.device for value in state_of(method).values()), torch.device("cpu"))


@torch.no_grad()
def put_state(method: Method, stored: dict[str, Tensor]) -> None:
    """Copies parameters and buffers in place, so that optimisers keep pointing at them."""
    for name, value in state_of(method).items():
        if name not in stored or stored[name].shape != value.shape:
            found = f"'{name}' is {list(stored[name].shape) if name in stored else 'absent'}, not {list(value.shape)}"
            raise Mismatch("continuing a training", found, "Give --overwrite to start again")
        value.copy_(stored[name])


def put_optimizer(
    optimizer: torch.optim.Optimizer, phase: str, stored: dict[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Restores momenta, step counts and rates."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in stored.items():
        owner, number, key = name.split("/")
        if owner == phase:
            state.setdefault(int(number), {})[key] = value
    now = optimizer.state_dict()["param_groups"]
    merged = [{**group, **kept, "params": group["params"]} for group, kept in zip(now, groups, strict=True)]
    optimizer.load_state_dict({"state": state, "param_groups": merged})


@dataclass
class Checkpoints:
    """The checkpoints of one run in a folder, local or S3.

    Attributes:
        folder: Where they lie.
        identity: What a checkpoint must belong to: method, shape, settings, seed, data. Plain JSON values.
        world: Only its first worker writes.
        interval_s: Least time between two checkpoints.
        restored: Where the training was continued, None when it started anew.
    """

    folder: str
    identity: dict[str, Any]
    world: World
    interval_s: float = 60.0
    written_s: float = field(default_factory=time.monotonic)
    restored: Position | None = None

    def restore(self, training: Training) -> None:
        """Continues from the last checkpoint, if there is one.

        Raises:
            Mismatch: when it belongs to another method, other settings or other data.
            XhashError: when workers found different checkpoints (Ray Train then starts them again).
        """
        name = self.latest()
        if name is not None:
            tensors, facts = self.read(name)
            check_identity(facts["identity"], self.identity, self.folder)
            load_into(training, tensors, facts)
            self.restored = training.position
        device = device_of(training.method)  # workers on GPUs exchange nothing else
        at = torch.tensor([float(training.position.passes), float(training.position.steps)], device=device)
        if not torch.equal(self.world.mean(at), at):
            raise XhashError("continuing a training", "workers found different checkpoints", "Start it again")

    def read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """One checkpoint."""
        content = places.read_bytes(places.join(self.folder, name))
        try:
            size = int.from_bytes(content[:8], "little")
            facts = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["facts"])
            lacking = [name for name in FACTS if name not in facts]
            if lacking:
                raise ValueError(f"it lacks {', '.join(lacking)}")
            return safetensors.torch.load(content), facts
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
            do = "Delete that file to continue from the one before"
            raise Mismatch(f"checkpoint {name} in {self.folder}", f"damaged: {error}", do) from None

    def offer(self, training: Training, force: bool = False) -> None:
        """Writes a checkpoint when the last one is old enough."""
        if self.world.rank == 0 and (force or time.monotonic() - self.written_s >= self.interval_s):
            self.write(training)
            self.written_s = time.monotonic()

    def write(self, training: Training) -> None:
        """Writes a checkpoint, then removes those that are too old."""
        facts = json.dumps(facts_of(training, self.identity))
        content = safetensors.torch.save(tensors_of(training), {"facts": facts})
        name = f"state-{training.position.passes:06d}-{training.position.steps:08d}.safetensors"
        places.write_bytes(places.join(self.folder, name), content)
        places.delete(self.folder, self.names()[:-KEPT])

    def settle(self, start_again: bool) -> bool:
        """Before a run: whether there is something to continue; what belongs to another training is cleared away.

        Args:
            start_again: Whether the user has allowed what is there to be replaced (--overwrite).

        Raises:
            Mismatch: when a checkpoint belongs to another training and may not be replaced.
        """
        name = self.latest()
        if name is None:
            return False
        try:
            check_identity(self.read(name)[1]["identity"], self.identity, self.folder)
        except Mismatch:
            if not start_again:
                raise
            self.clear()
            return False
        return True

    def reports(self) -> list[dict[str, float]]:
        """What the last checkpoint's training reported of its epochs."""
        name = self.latest()
        found: list[dict[str, float]] = self.read(name)[1]["reports"] if name else []
        return found

    def clear(self) -> None:
        """Removes all checkpoints."""
        places.delete(self.folder, self.names())

    def latest(self) -> str | None:
        """The name of the last checkpoint."""
        return next(iter(reversed(self.names())), None)

    def names(self) -> list[str]:
        """Names of all checkpoints, oldest first."""
        if not places.exists(self.folder):
            return []
        found = (places.name_of(uri) for uri in places.list_files(self.folder, (".safetensors",)))
        return sorted(name for name in found if NAME.match(name))


def check_identity(found: dict[str, Any], wanted: dict[str, Any], where: str) -> None:
    """Raises Mismatch naming the first thing in which two trainings differ."""
    for name in dict.fromkeys([*wanted, *found]):
        if found.get(name) != wanted.get(name):
            line = f"a checkpoint with {name} = {found.get(name)}, asked was {wanted.get(name)}"
            do = "Ask for the same training, name another --out, or give --overwrite to start again"
            raise Mismatch(f"continuing the training in {where}", line, do)
