"""Training on Ray Train: every worker takes its share of each global batch; rank 0 hands in the weights."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import safetensors.numpy
import torch
from ray.train import RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from xhash_ray import __version__
from xhash_ray.errors import BadInput, XhashError
from xhash_ray.evaluation.relevance import label_matrix
from xhash_ray.learning.loop import OnEpoch, fit
from xhash_ray.learning.sources import Resident, check_batches
from xhash_ray.methods import create
from xhash_ray.methods.artefacts import code_health, facts_of, model_card, weights_of
from xhash_ray.methods.base import Shape
from xhash_ray.options import Train
from xhash_ray.progress import Progress
from xhash_ray.runtime import cluster
from xhash_ray.runtime.collectives import current_world
from xhash_ray.runtime.relay import delivered
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import read_facts, write_artefact
from xhash_ray.storage.features import FeatureSet, load_features, open_features
from xhash_ray.storage.where import parse_where
from xhash_ray.storage.writing import new_run

RUN_FOLDER = "run"  # Ray Train's own records, inside the model folder
OUTCOME, WEIGHTS = "outcome.json", "weights.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What a training hands in.

    Attributes:
        facts: Method, code length, feature lengths, settings.
        weights: Arrays by name.
        terms: Of the last epoch.
        codes: Bit health by modality.
        pairs: Training pairs.
    """

    facts: dict[str, Any]
    weights: dict[str, np.ndarray]
    terms: dict[str, float]
    codes: dict[str, dict[str, float]]
    pairs: int


def train(options: Train) -> dict[str, Any]:
    """Learns the hash functions of one method from features.

    Returns:
        `out`, `method`, `bits`, `fingerprint`, `pairs`, `seconds`, last `loss`, `pairs_per_s`, `codes` (bit health).

    Raises:
        BadInput: for features, a method or settings that cannot be used; before any worker starts.
        XhashError: when training fails.
    """
    out = take_model_folder(options)
    where = parse_where(options.where)
    found = open_features(places.normalise(options.features))
    shape = Shape(options.bits, found.image_length, found.text_length)
    method = create(options.method, shape, options.settings)
    features = load_features(places.normalise(options.features), where)
    check_batches(len(features.ids), method.settings.batch_size, max(1, options.workers))
    progress = Progress("train", method.settings.epochs, "epochs")
    progress.say(f"{options.method}, {options.bits} bits, {len(features.ids):,} pairs, workers: {options.workers}")
    if options.workers == 0:
        outcome = learn(options, lambda epoch, terms: say_epoch(progress, epoch, terms))
    else:
        with cluster.connected():
            outcome = spread(options, out, progress)
    return finish(options, out, found, outcome, progress)


def take_model_folder(options: Train) -> str:
    """The normal name of --out, free to be written."""
    out = places.normalise(options.out)
    if read_facts(out) is not None and not options.overwrite:
        raise BadInput(f"writing a model to {out}", "a model is there", "Name another folder or give --overwrite")
    return out


def learn(options: Train, on_epoch: OnEpoch) -> Outcome:
    """What every worker does: load, create, fit. All arrive at the same weights."""
    features = load_features(places.normalise(options.features), parse_where(options.where))
    image, text = torch.from_numpy(features.image), torch.from_numpy(features.text)
    torch.manual_seed(options.seed)
    classes = 1 + max((number for row in features.labels or [] for number in row), default=-1)
    shape = Shape(options.bits, image.shape[1], text.shape[1], classes)
    method = create(options.method, shape, options.settings)
    labels = torch.from_numpy(label_matrix(features.labels or [], classes)) if classes else None
    world = current_world()
    source = Resident(image, text, labels, method.settings.batch_size, options.seed, world)
    last: dict[str, float] = {}

    def keep(epoch: int, terms: dict[str, float]) -> None:
        last.update(terms)
        on_epoch(epoch, terms)

    fit(method, source, world, options.seed, keep)
    return Outcome(
        facts_of(options.method, method),
        weights_of(method),
        last,
        code_health(method, image, text),
        len(image),
    )


def spread(options: Train, out: str, progress: Progress) -> Outcome:
    """Runs `learn` on the workers of a TorchTrainer and returns what rank 0 handed in."""
    filesystem, path = places.arrow_filesystem(places.join(out, RUN_FOLDER))
    with delivered(lambda terms: say_epoch(progress, terms.pop("epoch"), terms)) as mailbox:
        trainer = TorchTrainer(
            worker,
            train_loop_config={
                "options": asdict(options),
                "threads": cluster.threads_for(options.workers),
                "mailbox": mailbox,
            },
            scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=cluster.gpus() >= options.workers),
            run_config=RunConfig(
                name=f"{options.method}-{options.bits}-{new_run()}",
                storage_path=path,
                storage_filesystem=filesystem,
            ),
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


def worker(config: dict[str, Any]) -> None:
    """The function that Ray Train runs on each worker.

    Epochs are told through the mailbox: `ray.train.report` is a barrier that waits for the controller's next poll,
    over a second each, and is used once, for the weights.
    """
    torch.set_num_threads(config["threads"])
    is_first = ray.train.get_context().get_world_rank() == 0

    def on_epoch(epoch: int, terms: dict[str, float]) -> None:
        if is_first:
            config["mailbox"].put.remote({"epoch": epoch, **terms})

    outcome = learn(Train(**config["options"]), on_epoch)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if is_first:
            safetensors.numpy.save_file(contiguous(outcome.weights), Path(folder) / WEIGHTS)
            rest = {name: value for name, value in vars(outcome).items() if name != "weights"}
            (Path(folder) / OUTCOME).write_text(json.dumps(rest))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({}, checkpoint=checkpoint)


def say_epoch(progress: Progress, epoch: int, terms: dict[str, float]) -> None:
    """One line for every tenth of the epochs."""
    progress.done = epoch + 1
    if progress.done % max(1, progress.total // 10) == 0 or progress.done == progress.total:
        detail = ", ".join(f"{name} {value:.4f}" for name, value in terms.items() if name != "pairs_per_s")
        progress.say(f"epoch {progress.done} of {progress.total}: {detail}, {terms['pairs_per_s']:,.0f} pairs/s")


def training_error(error: TrainingFailedError) -> XhashError:
    """The worker's own error where there is one, the last line of the failure otherwise."""
    causes = list(getattr(error, "worker_failures", {}).values())
    for cause in causes:
        for known in (cause, getattr(cause, "cause", None), cause.__cause__):
            if isinstance(known, XhashError):
                return known
    lines = [line for line in str(causes[0] if causes else error).splitlines() if line.strip()]
    return XhashError("training", lines[-1].strip()[:300], "See the run folder for the workers' logs")


def finish(options: Train, out: str, found: FeatureSet, outcome: Outcome, progress: Progress) -> dict[str, Any]:
    """Writes the model folder and sums up."""
    training = {
        "pairs": outcome.pairs,
        "features": places.normalise(options.features),
        "where": options.where,
        "seed": options.seed,
        "workers": options.workers,
        "seconds": round(progress.seconds, 1),
        "terms": {name: round(value, 5) for name, value in outcome.terms.items()},
        "codes": outcome.codes,
        "versions": {"torch": torch.__version__, "xhash_ray": __version__},
    }
    facts = {**outcome.facts, "encoder": found.encoder, "training": training}
    artefact = write_artefact(out, facts, contiguous(outcome.weights), model_card(facts))
    return {
        "out": out,
        "method": options.method,
        "bits": options.bits,
        "fingerprint": artefact.fingerprint,
        "pairs": outcome.pairs,
        "seconds": round(progress.seconds, 2),
        "pairs_per_s": round(outcome.terms["pairs_per_s"], 1),
        "loss": round(outcome.terms["loss"], 5),
        "codes": outcome.codes,
    }


def contiguous(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights as safetensors wants them."""
    return {name: np.ascontiguousarray(value) for name, value in weights.items()}
