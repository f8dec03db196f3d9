"""UCCH: unsupervised contrastive cross-modal hashing (Hu, Zhu, Lin, Peng, Zhao, Peng; TPAMI 2023).

Paper        https://doi.org/10.1109/TPAMI.2022.3177356 (its abstract and figure 1 were at hand, its equations were not)
Author code  github.com/penghu-cs/UCCH at 0c20e62 (no licence: read for its formulas and constants, not copied)

Each pair has a binary code of its own, kept in a memory. Both networks' outputs are drawn towards the code of
their pair and away from the codes of others (contrastive hashing), and the codes follow the outputs with momentum: no
continuous relaxation of codes is compared with another. A ranking loss over the batch brings the modalities together;
it looks at all negatives, not at the hardest, because some of those are of the same class.

Symbols      o^I, o^T      outputs tanh(h), rows of length 1
             m             memory: a row of length 1 for each of the N training pairs;  b = sign(m) its code
             T             temperature times sqrt(bits)
             K             negatives, rows of the memory drawn for a batch; those of the first epoch are the batch's own
                           codes sign(o^I + o^T)
             s_ij          <o^I_i, o^T_j>, less `shift` where it lies below s_ii by more than `margin`
Loss         L = beta L_c + (1 - beta) L_r
             L_c = sum over o = o^I, o^T of  mean_i -log( exp(<o_i, b_i> / T) / mean_k exp(<o_i, b_k> / T) )
                   with k the pair i itself and its negatives
             L_r = mean_i( log sum_j exp(s_ij) - s_ii + margin ), and the same from texts to images
             after each step:  m_i = momentum m_i + (1 - momentum) (o^I_i + o^T_i) / 2, each sum brought to length 1

Where we differ, and why
 1. Features are given, as in the authors' feature runs. The networks see centred and scaled features (scaling.py).
 2. One set of negatives is drawn for a batch; the code draws one for every row, a gather of n K rows. A row's own pair
    is left out of its negatives; the code may draw it. The denominator is a mean where the code has a sum: a constant
    without gradient, but epochs with more and with fewer negatives report losses that can be compared.
 3. The memory's first signs are evenly distributed. The code shifts a normal draw as if it were a uniform one, so that
    69 in 100 bits are -1; the first epoch overwrites them.
 4. `hidden`: networks of 8192 units take 25 s an epoch of 5,000 pairs. Ours are smaller and learn faster.
 5. The last, incomplete batch of an epoch takes no part, so that some pairs keep random codes for an epoch.
Memory: N times bits numbers, 256 MB for a million pairs of 64 bits.
"""

import dataclasses
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from xhash_ray.config import option
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World
from xhash_ray.methods.blocks import present, two_layers

AUTHORS = "authors' code, MIRFlickr-25K"


@dataclasses.dataclass(frozen=True)
class Settings:
    """UCCH's settings; defaults are the authors' for MIRFlickr-25K unless said otherwise."""

    beta: float = option("share of the contrastive loss L_c", 0.7, source=AUTHORS)
    temperature: float = option("T in units of sqrt(bits)", 0.9, source="authors' code")
    negatives: int = option("K, memory rows that a batch is compared with", 4096, source="authors' code")
    memory_momentum: float = option("share of its old row that a memory row keeps", 0.4, source="authors' code")
    warmup: int = option("epochs whose negatives are the batch's own codes", 1, source="authors' code")
    margin: float = option("of the ranking loss", 0.2, source=AUTHORS)
    shift: float = option("taken from similarities below the margin", 0.1, source=AUTHORS)
    hidden: int = option(
        "units of hidden layers: two for images, one for texts", 1024, source="ours: measured; authors' code 8192"
    )
    epochs: int = option("passes over the training set", 20, source=AUTHORS)
    batch_size: int = option("pairs in a global batch", 256, source=AUTHORS)
    learning_rate: float = option("of Adam, both nets", 3e-4, source="ours: measured; authors' code 1e-4")
    weight_decay: float = option("of Adam", 1e-6, source="authors' code")
    clip: float = option("largest norm of a step's gradient", 1.0, source="authors' code")


def signs(X: Float[Tensor, "n bits"]) -> Float[Tensor, "n bits"]:
    """1 or -1; a code has no zeros."""
    return torch.where(X >= 0, 1.0, -1.0).to(X.dtype)


def contrastive(
    o: Float[Tensor, "n bits"],
    own: Float[Tensor, "n bits"],
    others: Float[Tensor, "K bits"],
    excluded: Bool[Tensor, "n K"],
    T: float,
) -> Float[Tensor, ""]:
    """L_c of one modality: the pair's own code against it and the others that are not excluded."""
    positive = (o * own).sum(dim=1, keepdim=True) / T
    negative = (o @ others.T / T).masked_fill(excluded, -torch.inf)
    compared = 1 + (~excluded).sum(dim=1).to(o.dtype)
    return (torch.cat([positive, negative], dim=1).logsumexp(dim=1) - compared.log() - positive[:, 0]).mean()


def ranking(
    o: Float[Tensor, "n bits"],
    own: Float[Tensor, "n bits"],
    everyone: Float[Tensor, "all_n bits"],
    margin: float,
    shift: float,
) -> Float[Tensor, ""]:
    """L_r in one direction: o of one modality, its partners in the other, and all rows of the other."""
    s, s_ii = o @ everyone.T, (o * own).sum(dim=1, keepdim=True)
    s = torch.where(s >= s_ii - margin, s, s - shift)
    return (s.logsumexp(dim=1) - s_ii[:, 0] + margin).mean()


class UCCH(Method):
    """Image net of two hidden layers, text net of one, and the memory of codes."""

    paper = "Hu et al., Unsupervised Contrastive Cross-Modal Hashing, TPAMI 2023"
    year = 2023
    training_only = ("memory",)
    against_collapse = "outputs are pushed away from the binary codes of other pairs, so that bits must differ"
    settings_type = Settings
    settings: Settings
    memory: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        deep = two_layers(settings.hidden, settings.hidden, shape.bits)
        self.image_net = nn.Sequential(nn.Linear(shape.image_length, settings.hidden), nn.ReLU(), *deep)
        self.text_net = two_layers(shape.text_length, settings.hidden, shape.bits)
        self.register_buffer("memory", torch.zeros(0, shape.bits), persistent=False)
        self.warming = False

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits the feature scales and draws a code for every training pair."""
        super().prepare(pairs, seed)
        generator = torch.Generator().manual_seed(seed)
        self.memory = normalize(signs(torch.randn(pairs.total, self.shape.bits, generator=generator)))

    def start_epoch(self, epoch: int) -> None:
        """The first epochs do without the memory, which says nothing yet."""
        self.warming = epoch < self.settings.warmup

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """Adam over both nets, with the gradient's norm clipped."""
        s, moved = self.settings, list(self.parameters())

        def clip(*_: Any) -> None:
            nn.utils.clip_grad_norm_(moved, s.clip)

        adam = torch.optim.Adam(moved, lr=s.learning_rate, weight_decay=s.weight_decay)
        adam.register_step_pre_hook(clip)
        return adam

    def negatives(self) -> Int[Tensor, " K"]:
        """Rows of the memory for a whole global batch: all of a small one, else drawn with replacement."""
        total = len(self.memory)
        if total <= self.settings.negatives:
            return torch.arange(total, device=self.memory.device)
        return torch.randint(total, (self.settings.negatives,), device=self.memory.device)

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of L over this worker's rows; a training step also moves the memory."""
        s, rows = self.settings, present(batch.rows)
        o_I = normalize(torch.tanh(self.image_outputs(batch.image)))
        o_T = normalize(torch.tanh(self.text_outputs(batch.text)))
        all_I, all_T, all_rows = world.gather(o_I), world.gather(o_T), world.gather(rows)
        with torch.no_grad():
            said = (all_I + all_T) / 2
            drawn = all_rows if self.warming else self.negatives()
            others = signs(said if self.warming else self.memory[drawn])
            own = world.own(others) if self.warming else signs(self.memory[rows])
            excluded = rows[:, None] == drawn
            if self.training:
                self.remember(all_rows, said)
        T = s.temperature * self.shape.bits**0.5
        return {
            "contrast_image": s.beta * contrastive(o_I, own, others, excluded, T),
            "contrast_text": s.beta * contrastive(o_T, own, others, excluded, T),
            "rank_image_text": (1 - s.beta) * ranking(o_I, o_T, all_T, s.margin, s.shift),
            "rank_text_image": (1 - s.beta) * ranking(o_T, o_I, all_I, s.margin, s.shift),
        }

    def remember(self, rows: Int[Tensor, " n"], said: Float[Tensor, "n bits"]) -> None:
        """Moves the memory's rows towards what the nets said of their pairs."""
        kept = 0.0 if self.warming else self.settings.memory_momentum
        moved = kept * self.memory[rows] + (1 - kept) * normalize(said)
        self.memory[rows] = normalize(moved).to(self.memory.dtype)

    def image_outputs(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """h of images."""
        outputs: Tensor = self.image_net(self.scale_image(image))
        return outputs

    def text_outputs(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """h of texts."""
        outputs: Tensor = self.text_net(self.scale_text(text))
        return outputs


METHOD = UCCH
