"""What every hashing method is: terms whose sum is minimised, and two functions that give codes.

A method is one file in this folder, found by its name, with `METHOD = ItsClass`. It declares its settings (a
frozen dataclass), its phases, what each phase moves, the named terms of its loss, and how it encodes each modality.
The training loop (learning/) knows none of them by name, and a method knows nothing of the cluster: what it needs
from other workers comes through `World.gather`.

    prepare        once, from (a sample of) the training pairs: scales, thresholds, graphs; methods without
                   gradients are finished here
    epoch          passes over the data, start_epoch before each: `passes(epoch)` names the steps taken on every
                   batch of each pass
    step           terms = forward(batch, phase, world); their sum goes backwards; the optimiser of the phase moves what
                   the phase moves; after_step writes down what later steps need
    end            end_epoch

Random numbers: the loop seeds torch before every batch, equally on every worker. A method draws for the whole global
batch and takes its own part (`World.own`); then any number of workers takes the steps of one process.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from xhash_ray.core import bits as packed
from xhash_ray.errors import BadInput
from xhash_ray.methods.scaling import FeatureScaling


class Batch(NamedTuple):
    """One worker's rows of a global batch.

    Attributes:
        image: float32 [n, d_i].
        text: float32 [n, d_t].
        labels: float32 [n, classes] of zeros and ones; None for unlabelled pairs.
        rows: int64 [n], the number of each pair within the training set.
    """

    image: Tensor
    text: Tensor
    labels: Tensor | None = None
    rows: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same rows on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        rows = None if self.rows is None else self.rows.to(device)
        return Batch(self.image.to(device), self.text.to(device), labels, rows)


class TrainingPairs(NamedTuple):
    """What a method sees before its first step: all training pairs, or a seeded sample where there are very many.

    Attributes:
        image: float32 [n, d_i].
        text: float32 [n, d_t].
        labels: float32 [n, classes] of zeros and ones; None for unlabelled pairs.
        total: Pairs in the training set; row numbers are below it. More than n where this is a sample.
    """

    image: Tensor
    text: Tensor
    labels: Tensor | None
    total: int


class World:
    """The workers that share a global batch; this one is the world of a single process.

    Attributes:
        rank: This worker's number.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def gather(self, rows: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "all_n ..."]:
        """Every worker's rows, in the order of ranks, with gradients to all of them (where the rows have any)."""
        return rows

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces every gradient by its mean over the workers."""

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The mean of numbers that every worker has its own of."""
        return values

    def own(self, everything: Shaped[Tensor, "all_n ..."]) -> Shaped[Tensor, "n ..."]:
        """This worker's part of something that has a row for every pair of the global batch."""
        return everything.tensor_split(self.size)[self.rank]


class Shape(NamedTuple):
    """What a method is built for: code length in bits, lengths of the two features, number of label classes."""

    bits: int
    image_length: int
    text_length: int
    classes: int = 0


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings every gradient method has; a method's own dataclass extends or replaces the defaults.

    Every field is made with `config.option(meaning, default, source=...)`: the source is the paper, the authors' code,
    or what was measured.
    """

    epochs: int = 60
    batch_size: int = 32


class Method(nn.Module):
    """A pair of hash functions in training.

    Attributes:
        paper: Citation in one line.
        year: Of the publication.
        supervised: Whether training needs labels.
        needs_all_rows: Whether `prepare` must see every training pair (no sample, no streaming).
        phases: Names of the steps; empty for methods without gradients.
        gradient_free: Phases that take no gradient step: `forward` adds a batch to sums in buffers, on all workers
            alike, and `end_epoch` solves. Every pair counts: where pairs are in memory, the last batch may be smaller.
        adversaries: Phases that work against the others; their terms are no part of the reported loss.
        training_only: First parts of the names of weights that encoding does not use; models are stored without them.
        against_collapse: What the method does against stuck and duplicate bits, in one sentence.
        settings_type: The dataclass of its settings.
    """

    paper: ClassVar[str]
    year: ClassVar[int]
    supervised: ClassVar[bool] = False
    needs_all_rows: ClassVar[bool] = False
    phases: ClassVar[Sequence[str]] = ("joint",)
    gradient_free: ClassVar[frozenset[str]] = frozenset()
    adversaries: ClassVar[frozenset[str]] = frozenset()
    training_only: ClassVar[tuple[str, ...]] = ()
    against_collapse: ClassVar[str]
    settings_type: ClassVar[type[Any]] = Settings

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__()
        packed.check_bits(shape.bits)
        self.shape, self.settings = shape, settings
        if self.supervised and not shape.classes:
            do = "Give features with a `labels` column, or choose an unsupervised method (`xhash methods`)"
            raise BadInput(f"training {type(self).__name__}", "no labels, and the method is supervised", do)
        self.scale_image = FeatureScaling(shape.image_length, "image")
        self.scale_text = FeatureScaling(shape.text_length, "text")

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits whatever is estimated from the training features before the first step (here: their scale).

        Every worker is given the same pairs and seed, so that all arrive at the same numbers. What is kept for later
        steps goes into buffers (`register_buffer(..., persistent=False)` for what encoding does not need): they move
        to the device and into checkpoints.
        """
        self.scale_image.fit(pairs.image)
        self.scale_text.fit(pairs.text)

    def findings(self) -> Sequence[str]:
        """What `prepare` found in the data and decided by itself, in sentences for those who train."""
        return ()

    def passes(self, epoch: int) -> Sequence[Sequence[str]]:
        """The passes over the data of an epoch: each names the steps taken, in order, on every batch."""
        return (self.phases,) if self.phases else ()

    def start_epoch(self, epoch: int) -> None:
        """Called before each pass of an epoch, counted from 0, and again when a training is continued within one.

        For schedules: a function of the number alone. What accumulates belongs into `end_epoch`.
        """

    def end_epoch(self, epoch: int, world: World) -> None:
        """Called after the last pass of each epoch."""

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """The optimiser that moves what a phase moves."""
        raise NotImplementedError

    def learning_rates(self, epoch: int, number: int) -> Mapping[str, float]:
        """Learning rates by phase for a pass of an epoch (both counted from 0); phases left out keep theirs."""
        return {}

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The weighted terms of the loss, by the paper's names: means over this worker's rows.

        The loss is their sum; the mean over workers is the loss of the global batch.
        """
        raise NotImplementedError

    def after_step(self, batch: Batch, phase: str, world: World) -> None:
        """Called without gradients after each step, for memories of past outputs: gather, then write on all workers."""

    def image_outputs(self, image: Float[Tensor, "n d_i"]) -> Float[Tensor, "n bits"]:
        """Real outputs of the image hash function; their signs are the code."""
        raise NotImplementedError

    def text_outputs(self, text: Float[Tensor, "n d_t"]) -> Float[Tensor, "n bits"]:
        """Real outputs of the text hash function; their signs are the code."""
        raise NotImplementedError

    def outputs(self, modality: str, features: Float[Tensor, "n d"]) -> Float[Tensor, "n bits"]:
        """`image_outputs` or `text_outputs`."""
        return self.image_outputs(features) if modality == "image" else self.text_outputs(features)

    @torch.inference_mode()
    def encode(self, modality: str, features: Float[Tensor, "n d"]) -> UInt8[Any, "n bytes"]:
        """Packed codes of one modality, from that modality alone: uint8 [n, bits / 8]."""
        return packed.pack(self.outputs(modality, features).float().cpu().numpy())
