"""HNH: high-order nonlocal hashing (Zhang, Luo, Huang, Xu, Song; World Wide Web 24, 2021).

Paper        https://doi.org/10.1007/s11280-020-00859-y
Author code  none found; read: github.com/youonly-once/HNH, a re-implementation without licence (not copied)

Two items are alike when they are alike themselves and like the same others: the affinity is multiplied with its own
second order. A representation U that both modalities share is found in closed form and both are drawn to it.

Symbols      A_I, A_T      cosines within one modality, n x n, brought to [0, 1]
             S_I, S_T      k (A o (A A' / n)) - 1, o entry by entry
             S             gamma S_I + (1 - gamma) S_T
             B_I, B_T      tanh(h), rows normalised to length 1
             U             the minimiser, given B_I and B_T, of the first two sums below:
                           (I + r S) (B_I + B_T) (2 I + r (B_I'B_I + B_T'B_T))^-1,  r = beta bits / (alpha n)
Loss         L = alpha (|U - B_I|^2 + |U - B_T|^2) + beta (|S - U B_I'|^2 + |S - U B_T'|^2) + lambda |S - B_I B_T'|^2
             with |.|^2 the mean square over all entries

Where we differ, and why
 1. A A' is divided by n, so that S stays within [-1, 1] whatever the batch. The re-implementation does not divide,
    and wants cosines of up to 2 n - 1; the paper could not be read.
 2. r counts the entries of both sums: U then minimises the means that the loss is made of. (The re-implementation's r
    is that of plain sums.)
 3. Codes are normalised row by row. The re-implementation normalises over the batch, bit by bit.
 4. U is held fixed while B_I and B_T move. At a minimum of the sums the gradient through U is zero: nothing is lost.
 5. Text net with one hidden layer instead of 8192 and 4096; the image net is one linear layer on given features. Signed
    features are centred, their affinity is (1 + cosine) / 2.
 6. Short codes: outputs are centred by a running mean (`centre`), as nothing else keeps a bit from being constant.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from xhash_ray.config import option
from xhash_ray.methods.base import Batch, Shape, World
from xhash_ray.methods.blocks import modal_similarity, two_layers
from xhash_ray.methods.nets import TwoNets

READ = "re-implementation's configuration, read"


@dataclasses.dataclass(frozen=True)
class Settings:
    """HNH's settings."""

    alpha: float = option("weight of the distance to U", 40.0, source=READ)
    beta: float = option("weight of the affinity between U and the codes", 1.0, source=READ)
    lambda_: float = option("weight of the affinity between the modalities", 1.0, source=READ)
    gamma: float = option("share of the images in S", 0.9, source=READ)
    order: float = option("k, scale of the second order", 2.0, source=READ)
    centre: bool = option("centre outputs by a running mean", True, source="ours, against collapse")
    hidden: int = option("units of the text net's hidden layer", 4096, source="ours; read: 8192, then 4096")
    epochs: int = option("passes over the training set", 40, source="ours; read: 80")
    batch_size: int = option("pairs in a global batch", 64, source="ours; read: 32")
    learning_rate: float = option("of SGD, both nets", 0.01, source="configuration for Wikipedia, read")
    momentum: float = option("of SGD", 0.9, source=READ)
    weight_decay: float = option("of SGD", 5e-4, source="configuration for Wikipedia, read")


def nonlocal_affinity(F: Float[Tensor, "n d"], signed: bool, order: float) -> Float[Tensor, "n n"]:
    """S_I or S_T: k (A o (A A' / n)) - 1."""
    A = (modal_similarity(F, signed) + 1) / 2
    return order * A * (A @ A.T / len(A)) - 1


def common_representation(
    B_I: Float[Tensor, "n bits"], B_T: Float[Tensor, "n bits"], S: Float[Tensor, "n n"], ratio: float
) -> Float[Tensor, "n bits"]:
    """U, the minimiser of the first two sums of L."""
    identity = torch.eye(B_I.shape[1], dtype=B_I.dtype, device=B_I.device)
    M = 2 * identity + ratio * (B_I.T @ B_I + B_T.T @ B_T)
    both = B_I + B_T
    return torch.linalg.solve(M, (both + ratio * S @ both).T).T


class HNH(TwoNets):
    """A linear layer for images, one hidden layer for texts."""

    paper = "Zhang et al., High-order Nonlocal Hashing for Unsupervised Cross-modal Retrieval, World Wide Web 2021"
    year = 2021
    against_collapse = "outputs are centred by a running mean"
    continuation = False
    settings_type = Settings
    settings: Settings

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.image_net = nn.Linear(shape.image_length, shape.bits, bias=not settings.centre)
        self.text_net = two_layers(shape.text_length, settings.hidden, shape.bits, not settings.centre)
        self.centre(shape.bits, settings.centre)

    def similarity(self, F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"]) -> Float[Tensor, "n n"]:
        """S of a global batch."""
        s = self.settings
        S_I, S_T = (
            nonlocal_affinity(scale.for_similarity(F), bool(scale.signed), s.order)
            for scale, F in ((self.scale_image, F_I), (self.scale_text, F_T))
        )
        return s.gamma * S_I + (1 - s.gamma) * S_T

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of L over this worker's rows and all columns."""
        s = self.settings
        B_I = self.relaxed(self.image_outputs(batch.image, world))
        B_T = self.relaxed(self.text_outputs(batch.text, world))
        all_I, all_T = world.gather(B_I), world.gather(B_T)
        with torch.no_grad():
            S = self.similarity(world.gather(batch.image), world.gather(batch.text))
            ratio = s.beta * self.shape.bits / (s.alpha * len(S))
            U = common_representation(all_I, all_T, S, ratio)
            own_U, own_S = world.own(U), world.own(S)
        return {
            "common_image": s.alpha * mse_loss(B_I, own_U),
            "common_text": s.alpha * mse_loss(B_T, own_U),
            "affinity_image": s.beta * mse_loss(B_I @ U.T, own_S),
            "affinity_text": s.beta * mse_loss(B_T @ U.T, own_S),
            "inter": s.lambda_ * mse_loss(B_I @ all_T.T, own_S),
        }


METHOD = HNH
