"""What every hashing method is: terms whose sum is minimised, and two functions that give codes.

A method is one file in this folder, found by its name, with `METHOD = ItsClass`. It declares its settings (a
frozen dataclass), its phases, what each phase moves and the named terms of its loss. The training loop knows
none of them by name, and a method knows nothing of the cluster: what it needs from other workers comes
through `World.gather`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from xhash_ray.core import bits as packed
from xhash_ray.methods.scaling import FeatureScaling


class Batch(NamedTuple):
    """One worker's rows of a global batch.

    Attributes:
        image: float32 [n, d_i].
        text: float32 [n, d_t].
    """

    image: Tensor
    text: Tensor


class World:
    """The workers that share a global batch; this one is the world of a single process.

    Attributes:
        rank: This worker's number.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def gather(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "all_n d"]:
        """Every worker's rows, in the order of ranks, with gradients to all of them."""
        return rows

    def average_gradients(self, method: nn.Module) -> None:
        """Replaces every gradient by its mean over the workers."""

    def mean(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The mean of numbers that every worker has its own of."""
        return values

    def own(self, everything: Shaped[Tensor, "all_n ..."]) -> Shaped[Tensor, "n ..."]:
        """This worker's part of something that has a row for every pair of the global batch."""
        n = everything.shape[0] // self.size
        return everything[self.rank * n : (self.rank + 1) * n]


class Shape(NamedTuple):
    """What a method is built for: code length in bits and the lengths of the two features."""

    bits: int
    image_length: int
    text_length: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings every gradient method has; a method's own dataclass extends or replaces the defaults."""

    epochs: int = 60
    batch_size: int = 32


class Method(nn.Module):
    """A pair of hash functions in training.

    Attributes:
        paper: Citation in one line.
        phases: Names of the steps taken on each batch, in order; empty for methods without gradients.
        settings_type: The dataclass of its settings.
    """

    paper: ClassVar[str]
    phases: ClassVar[Sequence[str]] = ("joint",)
    settings_type: ClassVar[type[Any]] = Settings

    def __init__(self, shape: Shape, settings: Any) -> None:
        super().__init__()
        packed.check_bits(shape.bits)
        self.shape, self.settings = shape, settings
        self.scale_image = FeatureScaling(shape.image_length)
        self.scale_text = FeatureScaling(shape.text_length)

    def prepare(self, image: Float[Tensor, "n d_i"], text: Float[Tensor, "n d_t"], seed: int) -> None:
        """Fits whatever is estimated from the training features before the first step (here: their scale).

        Every worker is given the same rows and seed, so that all arrive at the same numbers.
        """
        self.scale_image.fit(image)
        self.scale_text.fit(text)

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 0; for schedules."""

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """The optimiser that moves what a phase moves."""
        raise NotImplementedError

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The weighted terms of the loss, by the paper's names: means over this worker's rows.

        The loss is their sum; the mean over workers is the loss of the global batch.
        """
        raise NotImplementedError

    def image_outputs(self, image: Float[Tensor, "n d_i"]) -> Float[Tensor, "n bits"]:
        """Real outputs of the image hash function; their signs are the code."""
        raise NotImplementedError

    def text_outputs(self, text: Float[Tensor, "n d_t"]) -> Float[Tensor, "n bits"]:
        """Real outputs of the text hash function; their signs are the code."""
        raise NotImplementedError

    @torch.inference_mode()
    def encode(self, modality: str, features: Float[Tensor, "n d"]) -> UInt8[Any, "n bytes"]:
        """Packed codes of one modality, from that modality alone: uint8 [n, bits / 8]."""
        outputs = self.image_outputs if modality == "image" else self.text_outputs
        return packed.pack(outputs(features).float().cpu().numpy())
