"""One training from options to a model folder, wherever it runs: what the driver plans, what every worker does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from xhash_ray import __version__
from xhash_ray.errors import BadInput
from xhash_ray.learning.checkpoint import Checkpoints
from xhash_ray.learning.data import Pairs, TrainingData, open_training_data, resident_source
from xhash_ray.learning.loop import Loop, OnEpoch, OnStep, schedule
from xhash_ray.learning.sources import Resident, Source, check_batches
from xhash_ray.learning.streaming import Streamed, WindowReader
from xhash_ray.learning.validation import Examination
from xhash_ray.methods import create, load, settings_of
from xhash_ray.methods.artefacts import code_health, facts_of, model_card, weights_of
from xhash_ray.methods.base import Method, Shape, World
from xhash_ray.options import Train
from xhash_ray.storage import uri as places
from xhash_ray.storage.artefact import Artefact, read_facts, write_artefact

RUN_FOLDER = "run"  # checkpoints, epochs.csv, TensorBoard, Ray Train's own records
HEALTH_ROWS = 20_000


@dataclass(frozen=True)
class Plan:
    """A training that was checked and can start.

    Attributes:
        options: As given.
        data: The features, opened and counted.
        shape: What the method is built for.
        settings: The method's settings, defaults filled in.
        streamed: Whether pairs are read while training.
        out: Normal name of the model folder.
    """

    options: Train
    data: TrainingData
    shape: Shape
    settings: Any
    streamed: bool
    out: str

    @property
    def run_folder(self) -> str:
        """Where checkpoints and reports lie."""
        return places.join(self.out, RUN_FOLDER)

    @property
    def worker_counts(self) -> range:
        """Numbers of workers the training may have."""
        most = max(self.options.workers, self.options.max_workers or 0)
        return range(max(1, self.options.workers), max(1, most) + 1)

    @property
    def every_pair(self) -> bool:
        """Whether a pass gives every pair, be the last batch as small as it may."""
        return bool(load(self.options.method).gradient_free) and not self.streamed

    @property
    def pairs_per_pass(self) -> int:
        """Pairs of a pass over the data: whole batches, and about as many where they are streamed."""
        if self.every_pair:
            return self.data.pairs
        return int(self.data.pairs // self.settings.batch_size * self.settings.batch_size)

    def method(self) -> Method:
        """The method with its first weights, the same for everyone."""
        torch.manual_seed(self.options.seed)
        return create(self.options.method, self.shape, self.options.settings)

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must belong to, as plain JSON values."""
        return {
            "method": self.options.method,
            **self.shape._asdict(),
            "settings": settings_of(create(self.options.method, self.shape, self.options.settings)),
            "seed": self.options.seed,
            "where": self.options.where,
            "validation": self.options.validation,
            "select": self.options.select,
            "streamed": self.streamed,
            "lanes": self.lanes,
            "precision": self.options.precision,
            "features": self.data.digest,
        }

    @property
    def lanes(self) -> int:
        """Equal parts a streamed batch takes from; 0 in memory."""
        return self.data.plan(self.settings.batch_size, 0, self.worker_counts).lanes if self.streamed else 0

    def checkpoints(self, world: World) -> Checkpoints:
        """The run's checkpoints as one worker sees them."""
        return Checkpoints(self.run_folder, self.identity(), world, self.options.checkpoint_s)


def plan_training(options: Train) -> Plan:
    """Checks everything that can be checked before any worker starts.

    Raises:
        BadInput: for features, a method or settings that cannot be used, or a model that is there already.
    """
    out = places.normalise(options.out)
    if read_facts(out) is not None and not options.overwrite:
        raise BadInput(f"writing a model to {out}", "a model is there", "Name another folder or give --overwrite")
    load(options.method)
    data = open_training_data(places.normalise(options.features), options.where, options.validation, options.zeros)
    shape = Shape(options.bits, data.found.image_length, data.found.text_length, data.classes)
    method = create(options.method, shape, options.settings)
    plan = Plan(options, data, shape, method.settings, is_streamed(options, data, method), out)
    if schedule(method) and not plan.every_pair:
        for count in plan.worker_counts:
            check_batches(data.pairs, method.settings.batch_size, count)
        check_streams(plan)
    check_selection(options, data)
    return plan


def is_streamed(options: Train, data: TrainingData, method: Method) -> bool:
    """Whether pairs are read while training.

    Raises:
        BadInput: when they should be, and the method must see all of them at once.
    """
    too_many = data.pairs * data.row_bytes > options.memory_mb * 2**20
    wanted = options.stream == "always" or (options.stream == "auto" and too_many)
    if wanted and method.needs_all_rows:
        found = f"{data.pairs:,} pairs ({data.pairs * data.row_bytes / 2**20:,.0f} MB) to be streamed"
        do = "Train on fewer pairs (--where id%10=0), raise --memory-mb, or choose another method (`xhash methods`)"
        raise BadInput(f"{options.method}, which needs all pairs at once", found, do)
    return wanted


def check_streams(plan: Plan) -> None:
    """Raises BadInput unless the lanes of a streamed training divide its batches."""
    if plan.streamed and plan.settings.batch_size % plan.lanes:
        counts = f"{plan.worker_counts.start} to {plan.worker_counts.stop - 1}"
        found = f"batches of {plan.settings.batch_size} pairs for {counts} workers"
        raise BadInput("streaming", found, f"Make settings.batch_size a multiple of {plan.lanes}")


def check_selection(options: Train, data: TrainingData) -> None:
    """Raises BadInput when the best epoch is wanted and nothing can tell which it is."""
    if options.select == "best" and not (options.validation and data.classes):
        lacking = "--validation" if not options.validation else "labels"
        raise BadInput("--select best", f"no {lacking}", "Set labelled pairs aside: --validation id%10=0")


@dataclass(frozen=True)
class Outcome:
    """What a training hands in.

    Attributes:
        facts: Method, code length, feature lengths, settings.
        weights: Arrays by name.
        terms: Report of the last epoch.
        codes: Bit health by modality.
        chosen: How the weights were chosen, in words.
    """

    facts: dict[str, Any]
    weights: dict[str, np.ndarray]
    terms: dict[str, float]
    codes: dict[str, dict[str, Any]]
    chosen: str


def learn(
    plan: Plan,
    world: World,
    pairs: Pairs | None,
    on_epoch: OnEpoch,
    on_step: OnStep = lambda *_: None,
    reader: WindowReader | None = None,
    device: str = "cpu",
) -> Outcome:
    """What every worker does. All arrive at the same weights.

    Args:
        plan: The training.
        world: Who shares the batches.
        pairs: All training pairs, None when they are streamed.
        on_epoch: Called with every epoch's report.
        on_step: Called after every batch.
        reader: Gives the windows of a stream; a thread of this process by default.
        device: Where to train.
    """
    source: Source = source_of(plan, world, pairs, reader)
    known = pairs or Pairs(*source.known()[:3])
    options = plan.options
    validation = plan.data.validation_pairs() if world.rank == 0 else None
    examine = Examination(known, validation, options.validate_every, plan.settings.epochs - 1, device)
    keeper = plan.checkpoints(world)
    method = plan.method()
    loop = Loop(
        method,
        source,
        world,
        options.seed,
        on_epoch,
        on_step=on_step,
        examine=examine,
        keeper=keeper,
        device=device,
        precision=options.precision,
        keep_best=options.select == "best",
    )
    training = loop.run()
    method.cpu()
    seen = known.first(HEALTH_ROWS)
    health = code_health(method, seen.image, seen.text)
    terms = training.reports[-1] if training.reports else {}
    return Outcome(facts_of(options.method, method), weights_of(method), terms, health, chosen(plan, training.best))


def source_of(plan: Plan, world: World, pairs: Pairs | None, reader: WindowReader | None) -> Source:
    """Pairs in memory, or the stream of them."""
    if pairs is not None:
        size = min(plan.settings.batch_size, len(pairs))
        if not plan.method().phases:  # nothing is drawn in batches
            return resident_source(pairs, size, plan.options.seed, World())
        if plan.every_pair:
            return Resident(pairs.image, pairs.text, pairs.labels, size, plan.options.seed, world, whole=True)
        return resident_source(pairs, plan.settings.batch_size, plan.options.seed, world)
    stream = plan.data.plan(plan.settings.batch_size, plan.options.seed, plan.worker_counts)
    return Streamed(stream, world, reader)


def chosen(plan: Plan, best: tuple[int, float] | None) -> str:
    """How the weights were chosen, for the model card."""
    if best is None:
        return "No labels and no queries were used to choose this model: it is the last epoch."
    epoch, score = best
    return (
        f"Chosen among the validated epochs: epoch {epoch + 1}, with a validation MAP of {score:.4f} "
        f"(pairs with {plan.options.validation}, never trained on; queries took no part)."
    )


def hand_in(plan: Plan, outcome: Outcome, seconds: float) -> Artefact:
    """Writes the model folder and removes the checkpoints it makes superfluous."""
    options = plan.options
    training = {
        "pairs": plan.data.pairs,
        "features": places.normalise(options.features),
        "where": options.where,
        "validation": options.validation,
        "chosen": outcome.chosen,
        "seed": options.seed,
        "workers": options.workers,
        "streamed": plan.streamed,
        "seconds": round(seconds, 1),
        "terms": {name: round(value, 5) for name, value in outcome.terms.items()},
        "codes": outcome.codes,
        "versions": {"torch": torch.__version__, "xhash_ray": __version__},
    }
    facts = {**outcome.facts, "encoder": plan.data.found.encoder, "training": training}
    weights = {name: np.ascontiguousarray(value) for name, value in outcome.weights.items()}
    artefact = write_artefact(plan.out, facts, weights, model_card(facts))
    plan.checkpoints(World()).clear()
    return artefact
