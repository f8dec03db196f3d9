"""DCHMT: differentiable cross-modal hashing via multimodal transformers (Tu et al.; MM 2022).

Paper        https://doi.org/10.1145/3503161.3548187 (its text was not at hand; formulas as in the authors' code)
Author code  github.com/kalenforn/DCHMT and clip-based-cross-modal-hash at 264ee56 (read, not copied)

A bit is a choice between two: a softmax over two numbers, learned end to end without a sign function. All choices of a
code together are a vector of 2K probabilities; those of pairs with a common label are drawn together, all others are
pushed apart until a share of the bits differs.

Symbols      S        1 where two pairs of the batch share a label, else 0, n x n
             P_I, P_T probabilities of images and texts, n x 2K: for each bit those of 0 and of 1
             d        Euclidean distance of two rows;  two codes that differ in h bits: sqrt(2 h)
             m        margin sqrt(2 K vartheta), the distance of codes that differ in vartheta K bits
Loss         L = pos(P_I, P_T) + neg(P_I, P_T) + pos(P_I, P_I) + neg(P_I, P_I) + pos(P_T, P_T) + neg(P_T, P_T)
             pos(P, Q) = mean over all n x n entries of S d(P_i, Q_j)^2
             neg(P, Q) = mean over all n x n entries of (1 - S) max(m - d(P_i, Q_j), 0)^2

Where we differ, and why
 1. Features are given: of the whole, CLIP fine-tuned with a rate of 1e-5, the hash layers remain (ReLU units, then
    two numbers a bit), with 512 units for 128. The published MAP owes much to the fine-tuning.
 2. Adam with decoupled weight decay and a cosine schedule after a warm-up, in steps of epochs; the authors' BERT
    variant of Adam does not correct its moments and cuts gradients at norm 1.
 3. `balance`: similar and dissimilar entries weigh the same. In a batch of many classes few entries are similar.
 4. The authors call image against text "intra" and the others "inter"; the names here are the other way round. They
    report the best epoch on the queries; here it is the last.
 5. Distances have a floor of 1e-3 in the negative term, where the slope of the root is infinite.
"""

import dataclasses
import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xhash_ray.config import option
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World
from xhash_ray.methods.blocks import present, share_a_label, similar_share

AUTHORS = "authors' code"


@dataclasses.dataclass(frozen=True)
class Settings:
    """DCHMT's settings."""

    vartheta: float = option("share of bits in which dissimilar codes shall differ", 0.5, source=AUTHORS)
    balance: bool = option(
        "similar and dissimilar entries weigh the same", True, source="ours: measured; authors' code: false"
    )
    hidden: int = option(
        "units before the choices", 512, source="ours: measured; authors' code 128, on fine-tuned CLIP"
    )
    epochs: int = option("passes over the training set", 60, source="ours: measured; authors' code 100")
    batch_size: int = option("pairs in a global batch", 128, source="ours; authors' code 64")
    learning_rate: float = option("of AdamW, after the warm-up", 1e-3, source=AUTHORS)
    weight_decay: float = option("of AdamW", 0.2, source=AUTHORS)
    warm_up: float = option("share of the training in which the rate rises", 0.1, source=AUTHORS)


def select_layer(length: int, hidden: int, bits: int) -> nn.Sequential:
    """Two numbers for each bit."""
    return nn.Sequential(nn.Linear(length, hidden), nn.ReLU(), nn.Linear(hidden, 2 * bits), nn.Unflatten(1, (bits, 2)))


def squared_distances(P: Float[Tensor, "n d"], Q: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """|P_i - Q_j|^2, never negative."""
    return (P.square().sum(dim=1)[:, None] + Q.square().sum(dim=1) - 2 * P @ Q.T).clamp(min=0)


class DCHMT(Method):
    """A select layer for each modality."""

    paper = "Tu et al., Differentiable Cross-modal Hashing via Multimodal Transformers, MM 2022"
    year = 2022
    supervised = True
    against_collapse = "dissimilar pairs are pushed apart until half of the bits differ"
    settings_type = Settings
    settings: Settings
    share: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.image_net = select_layer(shape.image_length, settings.hidden, shape.bits)
        self.text_net = select_layer(shape.text_length, settings.hidden, shape.bits)
        self.register_buffer("share", torch.tensor(0.5), persistent=False)

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits the feature scales and the share of similar pairs."""
        super().prepare(pairs, seed)
        self.share.copy_(similar_share(present(pairs.labels)))

    def learning_rates(self, epoch: int, number: int) -> Mapping[str, float]:
        """Rises to the full rate, then falls along half a cosine; taken in the middle of the epoch."""
        done = (epoch + 0.5) / self.settings.epochs
        warm_up = self.settings.warm_up
        if done < warm_up:
            return {"joint": self.settings.learning_rate * done / warm_up}
        return {"joint": self.settings.learning_rate * (1 + math.cos(math.pi * done)) / 2}

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """AdamW over both layers."""
        s = self.settings
        return torch.optim.AdamW(
            self.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay, betas=(0.9, 0.98), eps=1e-6
        )

    def pos_and_neg(
        self, P: Float[Tensor, "n d"], Q: Float[Tensor, "m d"], S: Float[Tensor, "n m"]
    ) -> dict[str, Tensor]:
        """The positive and the negative term of two sets of codes."""
        alike, apart = (0.5 / self.share, 0.5 / (1 - self.share)) if self.settings.balance else (1.0, 1.0)
        margin = math.sqrt(2 * self.shape.bits * self.settings.vartheta)
        squared = squared_distances(P, Q)
        lacking = (margin - squared.clamp(min=1e-6).sqrt()).clamp(min=0)
        return {"pos": alike * (S * squared).mean(), "neg": apart * ((1 - S) * lacking.square()).mean()}

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of L over this worker's rows and all columns."""
        P_I = self.image_net(self.scale_image(batch.image)).softmax(dim=2).flatten(1)
        P_T = self.text_net(self.scale_text(batch.text)).softmax(dim=2).flatten(1)
        all_I, all_T = world.gather(torch.cat([P_I, P_T], dim=1)).chunk(2, dim=1)
        labels = present(batch.labels)
        S = share_a_label(labels, world.gather(labels))
        sets = {"inter": (P_I, all_T), "intra_image": (P_I, all_I), "intra_text": (P_T, all_T)}
        terms = {name: self.pos_and_neg(P, Q, S) for name, (P, Q) in sets.items()}
        return {f"{name}_{kind}": value for name, found in terms.items() for kind, value in found.items()}

    def image_outputs(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """How much more the second choice is preferred, bit by bit; the softmax does not change its sign."""
        chosen: Tensor = self.image_net(self.scale_image(image))
        return chosen[:, :, 1] - chosen[:, :, 0]

    def text_outputs(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """How much more the second choice is preferred, bit by bit; the softmax does not change its sign."""
        chosen: Tensor = self.text_net(self.scale_text(text))
        return chosen[:, :, 1] - chosen[:, :, 0]


METHOD = DCHMT
