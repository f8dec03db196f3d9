"""Training on Ray Train: every worker takes its share of each global batch; rank 0 hands in the weights."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import ray.train
import safetensors.numpy
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.torch import TorchTrainer

from xhash_ray.errors import BadInput, XhashError
from xhash_ray.learning.data import Pairs
from xhash_ray.learning.history import History
from xhash_ray.learning.loop import schedule
from xhash_ray.learning.reporting import TrainingMetrics
from xhash_ray.learning.run import Outcome, Plan, hand_in, learn, plan_training
from xhash_ray.learning.sources import Position
from xhash_ray.methods.base import World
from xhash_ray.options import Train
from xhash_ray.progress import TrainingProgress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.collectives import current_world
from xhash_ray.runtime.relay import delivered
from xhash_ray.runtime.streaming import OrderedWindows, shard_windows
from xhash_ray.runtime.telemetry import reported_to_ray
from xhash_ray.storage import uri as places
from xhash_ray.storage.writing import new_run

RAY_FOLDER = "ray"  # Ray Train's own records, inside the run folder
OUTCOME, WEIGHTS = "outcome.json", "weights.safetensors"
STEP_LINES_S = 10.0


def train(options: Train) -> dict[str, Any]:
    """Learns the hash functions of one method from features.

    A run that died is continued by the same call: from its last checkpoint, to the same weights.

    Returns:
        `out`, `method`, `bits`, `fingerprint`, `pairs`, `seconds`, last `loss`, `pairs_per_s`, `codes` (bit health),
        `streamed`, `validation_map` where there is one.

    Raises:
        BadInput: for features, a method or settings that cannot be used; before any worker starts.
        XhashError: when training fails.
    """
    plan = plan_training(options)
    history = History(plan.run_folder)
    pairs = None if plan.streamed else plan.data.resident()
    progress = TrainingProgress(plan.settings.epochs, len(schedule(plan.method())))
    progress.say(
        f"{options.method}, {options.bits} bits, {plan.data.pairs:,} pairs{' (streamed)' if plan.streamed else ''}, "
        f"workers: {options.workers}"
    )
    checkpoints = plan.checkpoints(World())
    if checkpoints.settle(options.overwrite):
        progress.say(f"continuing from {checkpoints.latest()}")
        history.load(checkpoints.reports())

    metrics = TrainingMetrics(options.method, schedule(plan.method()), plan.pairs_per_pass, len(history.rows))

    def on_message(message: dict[str, Any]) -> None:
        """An epoch's report, or how far a pass is."""
        if "step" in message:
            progress.step(**message)
            metrics.step(**message)
            return
        epoch = message.pop("epoch")
        history.add(epoch, message)
        progress.epoch(epoch, message)
        metrics.epoch(epoch, message)

    if options.workers == 0:
        with metrics:
            outcome = learn(
                plan,
                World(),
                pairs,
                lambda epoch, report: on_message({"epoch": epoch, **report}),
                StepLines(on_message),
            )
    else:
        with cluster.connected(), reported_to_ray(), metrics, delivered(on_message) as mailbox:
            outcome = spread(plan, pairs, mailbox)
    history.close()
    return sum_up(plan, outcome, progress.seconds)


def spread(plan: Plan, pairs: Pairs | None, mailbox: Any) -> Outcome:
    """Runs `learn` on the workers of a TorchTrainer and returns what rank 0 handed in."""
    options = plan.options
    filesystem, path = places.arrow_filesystem(places.join(plan.run_folder, RAY_FOLDER))
    counts = plan.worker_counts
    config = {
        "plan": plan,
        "pairs": None if pairs is None else ray.put({name: numpy_of(value) for name, value in vars(pairs).items()}),
        "threads": cluster.threads_for(counts.stop - 1),
        "mailbox": mailbox,
    }
    trainer = TorchTrainer(
        worker,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=(counts.start, counts.stop - 1) if len(counts) > 1 else counts.start,
            use_gpu=cluster.gpus() >= counts.start,
        ),
        run_config=RunConfig(
            name=f"{options.method}-{options.bits}-{new_run()}",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=options.max_failures),
            callbacks=[NoSecondTry()],
        ),
        datasets={"train": ray.data.from_items([0])} if plan.streamed else None,  # a name: see OrderedWindows
        dataset_config=ordered_windows(plan) if plan.streamed else None,
    )
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        raise training_error(error) from None
    with result.checkpoint.as_directory() as folder:
        return Outcome(
            **json.loads((Path(folder) / OUTCOME).read_text()),
            weights=safetensors.numpy.load_file(Path(folder) / WEIGHTS),
        )


def ordered_windows(plan: Plan) -> OrderedWindows:
    """The stream of a training that is not held in memory."""
    stream = plan.data.plan(plan.settings.batch_size, plan.options.seed, plan.worker_counts)
    return OrderedWindows(stream, len(schedule(plan.method())), plan.checkpoints(World()))


def numpy_of(tensor: torch.Tensor | None) -> np.ndarray | None:
    """A tensor as Ray shares it between workers without copies."""
    return None if tensor is None else tensor.numpy()


def worker(config: dict[str, Any]) -> None:
    """The function that Ray Train runs on each worker.

    Epochs are told through the mailbox, and checkpoints written by the first worker: `ray.train.report` is a barrier
    that waits for the controller's next poll, over a second each, and is used once, for the weights.
    """
    torch.set_num_threads(config["threads"])
    plan, world = config["plan"], current_world()
    mail = config["mailbox"].put.remote if world.rank == 0 else lambda message: None
    pairs = None
    if config["pairs"] is not None:
        arrays = ray.get(config["pairs"])
        labels = None if arrays["labels"] is None else torch.tensor(arrays["labels"])
        pairs = Pairs(torch.tensor(arrays["image"]), torch.tensor(arrays["text"]), labels)
    outcome = learn(
        plan,
        world,
        pairs,
        lambda epoch, report: mail({"epoch": epoch, **report}),
        StepLines(mail),
        shard_windows if plan.streamed else None,
        str(ray.train.torch.get_device()),
    )
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if world.rank == 0:
            safetensors.numpy.save_file(contiguous(outcome.weights), Path(folder) / WEIGHTS)
            rest = {name: value for name, value in vars(outcome).items() if name != "weights"}
            (Path(folder) / OUTCOME).write_text(json.dumps(rest))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({}, checkpoint=checkpoint)


class StepLines:
    """Tells how far a pass is, now and then: an epoch of millions of pairs takes long."""

    def __init__(self, mail: Any) -> None:
        self.mail = mail
        self.said_s = time.monotonic()

    def __call__(self, position: Position, steps: int) -> None:
        """Called after every batch."""
        if time.monotonic() - self.said_s >= STEP_LINES_S:
            self.said_s = time.monotonic()
            self.mail({"passes": position.passes, "step": position.steps, "steps": steps})


class NoSecondTry(UserCallback):
    """Ends a training whose worker says that what was given cannot be used: another try would say the same."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train's controller, which ends the training when this raises."""
        for error in worker_exceptions.values():
            known = known_error(error)
            if isinstance(known, BadInput):
                raise known


def known_error(error: BaseException) -> XhashError | None:
    """The error of this project inside whatever Ray wrapped around it."""
    for inner in (getattr(error, "cause", None), error.__cause__):
        found = known_error(inner) if isinstance(inner, BaseException) else None
        if found:
            return found
    return error if isinstance(error, XhashError) else None


def training_error(error: TrainingFailedError) -> XhashError:
    """The worker's own error where there is one, the last line of the failure otherwise."""
    causes = [*getattr(error, "worker_failures", {}).values(), *filter(None, [getattr(error, "controller_failure", 0)])]
    known = next(filter(None, map(known_error, causes)), None)
    if known:
        return known
    lines = [line for line in str(causes[0] if causes else error).splitlines() if line.strip()]
    return XhashError("training", lines[-1].strip()[:300], "See the run folder for the workers' logs")


def sum_up(plan: Plan, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Writes the model folder and says what came of it."""
    artefact = hand_in(plan, outcome, seconds)
    validated = {name: outcome.terms[name] for name in ("validation_map",) if name in outcome.terms}
    return {
        "out": plan.out,
        "method": plan.options.method,
        "bits": plan.options.bits,
        "fingerprint": artefact.fingerprint,
        "pairs": plan.data.pairs,
        "seconds": round(seconds, 2),
        "pairs_per_s": round(outcome.terms.get("pairs_per_s", 0.0), 1),
        "loss": round(outcome.terms.get("loss", 0.0), 5),
        "streamed": plan.streamed,
        **validated,
        **({"findings": outcome.facts["findings"]} if outcome.facts.get("findings") else {}),
        "codes": outcome.codes,
    }


def contiguous(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights as safetensors wants them."""
    return {name: np.ascontiguousarray(value) for name, value in weights.items()}
