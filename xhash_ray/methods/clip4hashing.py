"""CLIP4Hashing: one hash net over CLIP features of both modalities (Zhuo, Li, Hsiao, Ho, Li; ICMR 2022).

Paper        https://doi.org/10.1145/3512527.3531381 (video-text retrieval)
Author code  none found; read: github.com/Karte0/CLIP4Hashing, a re-implementation without licence (not copied)

CLIP's spaces are one already: the similarity wanted of the codes is the direct cosine between images and texts, pairs
counted as 1, and weighted by how far an entry lies from the batch's mean (dynamic weighting). One net hashes both
modalities. A bit is decided by whether an output is nearer to the largest or to the smallest (min-max hashing).

Symbols      F_I, F_T      features of a batch, n x d
             S_IT          cosine of image i with text j, its diagonal set to 1
             S_C           (S_IT + S_IT') / 2
             S             S_C exp(-(m - S_C) / (2 (m - lowest)) - 1/2) below the mean m, and
                           S_C exp((S_C - m) / (2 (highest - m)) - 1/2) above it, kept within [-1, 1]
             H_I, H_T      outputs, rows normalised to length 1
Loss         L = intra (|H_I H_I' - S|^2 + |H_T H_T' - S|^2) + inter (|H_I H_T' - S|^2 + |H_T H_I' - S|^2)
                 + consistency |H_I - H_T|^2
             with |.|^2 the mean square over all entries

Where we differ, and why
 1. Features are centred, then cosines taken: the gap between the modalities' means would otherwise decide them.
 2. Min-max hashing as published decides by the extremes of the batch that is encoded, so that a code depends on its
    neighbours. Ours decides by the middle between the extremes of training batches (a running mean, one per modality
    and bit), stored with the weights. It also keeps short codes from collapsing: every bit has ones and zeros.
 3. Modalities of different lengths have no direct cosine: S_IT is then the cosine between row i of the image
    similarities and row j of the text similarities (JDSH's S_C), and each modality has a first layer of its own. The
    paper does not foresee this.
 4. One hidden layer where the re-implementation has two, and batches larger than its 3: an eighth of the time.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from xhash_ray.config import option
from xhash_ray.methods.base import Batch, Method, Shape, World
from xhash_ray.methods.blocks import cosine

READ = "re-implementation, read"
MOMENTUM = 0.05  # of the running extremes


@dataclasses.dataclass(frozen=True)
class Settings:
    """CLIP4Hashing's settings."""

    intra: float = option("weight of the terms inside one modality", 0.1, source=READ)
    inter: float = option("weight of the terms between modalities", 1.0, source=READ)
    consistency: float = option("weight of the distance between a pair's outputs", 2.0, source=READ)
    min_max: bool = option("decide bits by the middle between the extremes, else by the sign", True, source="paper")
    hidden: int = option("units of the hidden layer", 4096, source=READ)
    epochs: int = option("passes over the training set", 40, source="ours; the re-implementation takes 200")
    batch_size: int = option("pairs in a global batch", 64, source="ours; the re-implementation takes 3")
    learning_rate: float = option("of SGD", 0.01, source=READ)
    momentum: float = option("of SGD", 0.9, source=READ)
    weight_decay: float = option("of SGD", 5e-4, source=READ)


def cross_affinity(X: Float[Tensor, "n d_I"], Y: Float[Tensor, "n d_T"]) -> Float[Tensor, "n n"]:
    """S_C of centred features; by neighbourhoods where the two spaces have different lengths."""
    S_IT = cosine(X, Y) if X.shape[1] == Y.shape[1] else cosine(cosine(X, X), cosine(Y, Y))
    S_IT = S_IT.fill_diagonal_(1.0)
    return (S_IT + S_IT.T) / 2


def dynamic_weighting(S: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Entries far from the mean keep their size, those near it shrink by up to exp(-1/2)."""
    mean, low, high = S.mean(), S.min(), S.max()
    below = torch.exp(-0.5 * (mean - S) / (mean - low).clamp(min=1e-12) - 0.5)
    above = torch.exp(0.5 * (S - mean) / (high - mean).clamp(min=1e-12) - 0.5)
    return (torch.where(mean >= S, below, above) * S).clamp(-1, 1)


class CLIP4Hashing(Method):
    """One hidden layer for each length of features, one hash layer for both modalities."""

    paper = "Zhuo et al., CLIP4Hashing: Unsupervised Deep Hashing for Cross-Modal Video-Text Retrieval, ICMR 2022"
    year = 2022
    against_collapse = "bits are decided by the middle between an output's extremes, so none is constant"
    settings_type = Settings
    settings: Settings
    image_middle: Tensor
    text_middle: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.image_layer = nn.Linear(shape.image_length, settings.hidden)
        shared = shape.image_length == shape.text_length
        self.text_layer = self.image_layer if shared else nn.Linear(shape.text_length, settings.hidden)
        self.hash_layer = nn.Linear(settings.hidden, shape.bits)
        for name in ("image_middle", "text_middle"):
            self.register_buffer(name, torch.zeros(shape.bits))

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """SGD over everything."""
        s = self.settings
        return torch.optim.SGD(
            self.parameters(), lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay, fused=True
        )

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of L over this worker's rows and all columns."""
        with torch.no_grad():
            F_I, F_T = world.gather(batch.image), world.gather(batch.text)
            S = dynamic_weighting(cross_affinity(F_I - self.scale_image.mean, F_T - self.scale_text.mean))
            S = world.own(S)
        h_I, h_T = self.image_hidden(batch.image), self.text_hidden(batch.text)
        all_I, all_T = world.gather(h_I), world.gather(h_T)
        if self.training:
            self.follow(all_I, all_T)
        H_I, H_T, all_I, all_T = (normalize(h) for h in (h_I, h_T, all_I, all_T))
        s = self.settings
        return {
            "intra_image": s.intra * mse_loss(H_I @ all_I.T, S),
            "intra_text": s.intra * mse_loss(H_T @ all_T.T, S),
            "inter_image_text": s.inter * mse_loss(H_I @ all_T.T, S),
            "inter_text_image": s.inter * mse_loss(H_T @ all_I.T, S),
            "consistency": s.consistency * mse_loss(H_I, H_T),
        }

    @torch.no_grad()
    def follow(self, all_I: Float[Tensor, "n bits"], all_T: Float[Tensor, "n bits"]) -> None:
        """Moves the middles towards those of this batch."""
        for middle, h in ((self.image_middle, all_I), (self.text_middle, all_T)):
            middle.lerp_((h.amax(dim=0) + h.amin(dim=0)).to(middle.dtype) / 2, MOMENTUM)

    def image_hidden(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """h of images, before any decision."""
        found: Tensor = self.hash_layer(torch.relu(self.image_layer(self.scale_image(image))))
        return found

    def text_hidden(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """h of texts, before any decision."""
        found: Tensor = self.hash_layer(torch.relu(self.text_layer(self.scale_text(text))))
        return found

    def image_outputs(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """h of images less the middles."""
        return self.image_hidden(image) - self.image_middle * self.settings.min_max

    def text_outputs(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """h of texts less the middles."""
        return self.text_hidden(text) - self.text_middle * self.settings.min_max


METHOD = CLIP4Hashing
