"""JDSH: joint-modal distribution-based similarity hashing (Liu, Qian, Guan, Zhan, Ying; SIGIR 2020).

Paper        https://doi.org/10.1145/3397271.3401086
Author code  github.com/KaiserLew/JDSH (no licence: read for its constants, not copied)

Two hash functions learn codes whose inner products reproduce a similarity S made from both modalities'
features, without labels. S mixes the similarity inside images, inside texts, and of each pair's neighbourhoods
(joint-modal similarity); then pairs that are clearly apart or clearly alike are weighted up, where "clearly" is
read off the distribution of S itself (DSDW, distribution-based similarity decision and weighting).

Symbols      F_I, F_T      features of a batch, n x d_I and n x d_T
             S_I, S_T      2 cos - 1 within one modality, n x n
             S_C           cosine of row i of S_I with row j of S_T, symmetrised
             S             alpha S_I + beta S_T + lambda S_C, weighted, times mu
             B_I, B_T      relaxed codes tanh(a h), rows normalised to length 1;  a = sqrt(epoch + 1)
Loss         L = intra (|B_I B_I' - S|^2 + |B_T B_T' - S|^2) + |B_I B_T' - S|^2 + |B_T B_I' - S|^2 - pairs <B_I, B_T>
             with |.|^2 the mean square over the n x n entries and <.,.> the mean over the n pairs

Where we differ, and why
 1. Features are given (CLIP, CNN, bag of words); the paper's image net is AlexNet's frozen fc7 and one linear
    layer, ours is that layer. Its dropout and image augmentation stay behind with it.
 2. The hash functions see centred and scaled features (scaling.py). As delivered they cost up to 0.13 MAP.
    S is made from the features as they are when none is negative, as in the paper (ReLU outputs, word counts: zero
    means absence). Features with negative values (CLIP) are centred first and S_I = cos: their raw cosines lie so
    close together that every pair counts as similar and all codes collapse into one.
 3. DSDW's thresholds are fitted to the features at hand, from batches as large as those trained on (up to 512 pairs): a
    normal left of the histogram's peak, a Laplace right of it. The authors ship the numbers of two data sets and no
    estimator; `thresholds = "mirflickr" | "nuswide"` selects those.
 4. In a batch shared by several workers, each computes its rows of S against all columns.
 5. The weight of <B_I, B_T> is a setting; 1 is the authors'. It is what carries short codes: at 16 bits, without it,
    MAP on fashion fell from .59 to .25 (validation pairs, 25 epochs, 512 hidden units) though no bit was stuck.

 6. The text net's hidden layer has 1024 units where the authors' has 4096: MAP .670 for .660 on validation pairs of
    fashion at 64 bits and .580 for .566 at 16, .281 for .285 and .251 for .261 on Wikipedia (one seed), in a third of
    the time.

Faster       batch_size = 256, learning_rate = 0.05: twice the pairs/s of the defaults at equal MAP at 64 bits on
             fashion. It costs MAP at 16 bits and on Wikipedia (jobs/RESULTS.md).
"""

import dataclasses
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from xhash_ray.config import option
from xhash_ray.methods.base import Batch, Shape, TrainingPairs, World
from xhash_ray.methods.blocks import modal_similarity, neighbourhood_similarity, two_layers
from xhash_ray.methods.nets import TwoNets

HISTOGRAM_BINS = 200
FITTING_BATCHES, FITTING_ROWS = 32, 512  # 8 million similarities tell a distribution
AUTHORS = "authors' code, MIRFlickr-25K"


class Thresholds(NamedTuple):
    """Where S is decided: dissimilar below `left`, similar above `right`; `lowest` and `highest` anchor weights."""

    left: float
    right: float
    lowest: float
    highest: float


PUBLISHED = {  # left = location - 2 scale_left, right = location + 4 scale_right, from the authors' config files
    "mirflickr": Thresholds(-0.49 - 2 * 0.019, -0.49 + 4 * 0.088, -0.52, 0.68),
    "nuswide": Thresholds(-0.62 - 2 * 0.0128, -0.62 + 4 * 0.086, -0.64, 0.75),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """JDSH's settings; defaults are the authors' for MIRFlickr-25K unless said otherwise."""

    alpha: float = option("weight of S_I", 0.5, source=AUTHORS)
    beta: float = option("weight of S_T", 0.1, source=AUTHORS)
    lambda_: float = option("weight of S_C", 0.4, source=AUTHORS)
    mu: float = option("scale of S", 1.4, source=AUTHORS)
    intra: float = option("weight of the terms inside one modality", 0.1, source=AUTHORS)
    pairs: float = option("weight of the agreement of a pair's codes", 1.0, source=AUTHORS)
    weight_left: float = option("L1, strength of the weighting of dissimilar pairs", 0.1, source=AUTHORS)
    weight_right: float = option("L2, strength of the weighting of similar pairs", 0.2, source=AUTHORS)
    thresholds: str = option(
        "DSDW thresholds",
        "fitted",
        choices=("fitted", "mirflickr", "nuswide"),
        source="ours: fitted to the features at hand; the authors ship constants",
    )
    hidden: int = option("units of the text net's hidden layer", 1024, source="ours, validation; authors' code 4096")
    epochs: int = option("passes over the training set", 60, source="measured: later epochs change little; paper 300")
    batch_size: int = option("pairs in a global batch", 32, source=AUTHORS)
    learning_rate: float = option("of SGD, both nets", 0.01, source=AUTHORS)
    momentum: float = option("of SGD", 0.9, source=AUTHORS)
    weight_decay: float = option("of SGD", 5e-4, source=AUTHORS)


def joint_similarity(
    F_I: Float[Tensor, "n d_I"],
    F_T: Float[Tensor, "n d_T"],
    settings: Settings,
    signed: tuple[bool, bool] = (False, False),
) -> Float[Tensor, "n n"]:
    """Joint-modal similarity, section 3.2: alpha S_I + beta S_T + lambda S_C."""
    S_I, S_T = modal_similarity(F_I, signed[0]), modal_similarity(F_T, signed[1])
    S_C = neighbourhood_similarity(F_I, F_T, signed)
    return settings.alpha * S_I + settings.beta * S_T + settings.lambda_ * (S_C + S_C.T) / 2


def fit_thresholds(values: Float[Tensor, " m"]) -> Thresholds:
    """DSDW's thresholds from a sample of off-diagonal similarities, section 3.3.

    The peak of the histogram is the location of both halves. Left of it a normal distribution: the root mean
    square distance is its scale. Right of it a Laplace distribution: the mean distance is its scale.
    """
    low, high = float(values.min()), float(values.max())
    counts = torch.histc(values, HISTOGRAM_BINS, low, high)
    peak = low + (float(counts.argmax()) + 0.5) * (high - low) / HISTOGRAM_BINS
    below, above = values[values <= peak], values[values > peak]
    scale_left = float((below - peak).square().mean().sqrt()) if len(below) else 0.0
    scale_right = float((above - peak).mean()) if len(above) else 0.0
    return Thresholds(peak - 2 * scale_left, peak + 4 * scale_right, low, high)


def weighted(S: Float[Tensor, "n n"], t: Thresholds, settings: Settings) -> Float[Tensor, "n n"]:
    """DSDW, section 3.3: pairs decided dissimilar or similar are multiplied by more than one."""
    apart = 1 + settings.weight_left * torch.exp(-(S - t.lowest))
    alike = 1 + settings.weight_right * torch.exp(S - t.highest)
    return torch.where(t.left > S, apart * S, torch.where(t.right < S, alike * S, S))


class JDSH(TwoNets):
    """The two hash functions: one linear layer for images, one hidden layer for texts."""

    paper = "Liu et al., Joint-modal Distribution-based Similarity Hashing, SIGIR 2020"
    year = 2020
    against_collapse = "a pair's two codes are drawn together (`pairs`); inputs are centred"
    settings_type = Settings
    settings: Settings
    thresholds: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.image_net = nn.Linear(shape.image_length, shape.bits)
        self.text_net = two_layers(shape.text_length, settings.hidden, shape.bits)
        self.register_buffer("thresholds", torch.tensor(PUBLISHED["mirflickr"]))

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits the feature scales, and DSDW's thresholds on batches drawn like those of the training."""
        super().prepare(pairs, seed)
        image, text = pairs.image, pairs.text
        if self.settings.thresholds != "fitted":
            self.thresholds.copy_(torch.tensor(PUBLISHED[self.settings.thresholds]))
            return
        n = min(self.settings.batch_size, FITTING_ROWS, len(image))
        generator = torch.Generator().manual_seed(seed)
        off_diagonal = ~torch.eye(n, dtype=torch.bool)
        samples = []
        for _ in range(FITTING_BATCHES):
            rows = torch.randperm(len(image), generator=generator)[:n]
            samples.append(self.joint_similarity(image[rows], text[rows])[off_diagonal])
        self.thresholds.copy_(torch.tensor(fit_thresholds(torch.cat(samples))))

    def joint_similarity(self, F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"]) -> Float[Tensor, "n n"]:
        """Joint-modal similarity of features as they arrive: signed ones are centred first."""
        signed = bool(self.scale_image.signed), bool(self.scale_text.signed)
        F_I, F_T = self.scale_image.for_similarity(F_I), self.scale_text.for_similarity(F_T)
        return joint_similarity(F_I, F_T, self.settings, signed)

    def similarity(self, F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"]) -> Float[Tensor, "n n"]:
        """S, the similarity wanted of the codes, for a whole global batch."""
        S = self.joint_similarity(F_I, F_T)
        return self.settings.mu * weighted(S, Thresholds(*self.thresholds.tolist()), self.settings)

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of L over this worker's rows and all columns."""
        with torch.no_grad():
            S = world.own(self.similarity(world.gather(batch.image), world.gather(batch.text)))
        B_I = self.relaxed(self.image_outputs(batch.image))
        B_T = self.relaxed(self.text_outputs(batch.text))
        all_I, all_T = world.gather(B_I), world.gather(B_T)
        return {
            "intra_image": self.settings.intra * mse_loss(B_I @ all_I.T, S),
            "intra_text": self.settings.intra * mse_loss(B_T @ all_T.T, S),
            "inter_image_text": mse_loss(B_I @ all_T.T, S),
            "inter_text_image": mse_loss(B_T @ all_I.T, S),
            "pairs": -self.settings.pairs * (B_I * B_T).sum(dim=1).mean(),
        }


METHOD = JDSH
