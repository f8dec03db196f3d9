"""DCMH: deep cross-modal hashing (Jiang, Li; CVPR 2017).

Paper        https://arxiv.org/abs/1602.02255 (its text was not at hand; formulas as in the authors' code)
Author code  github.com/jiangqy/DCMH-CVPR2017 at d6061de, Matlab and TensorFlow (no licence: read, not copied)

Two nets learn outputs whose inner products tell whether an image and a text share a label, by the likelihood of the
similarity matrix of the whole training set. The outputs of all pairs are kept; the image net is taught against the
texts' outputs in memory, then the text net against the images'.

Symbols      S        1 where two pairs share a label, else 0; n batch, N training pairs in all
             F, G     outputs for images and texts, N x bits; the rows of the batch are fresh, the others from memory
             B        common codes sign(gamma (F + G)), renewed after every epoch
             Theta    F_i . G_j / 2
Loss         of the image net (of the text net likewise, with F and G exchanged), divided by n N:
             L = sum_ij (log(1 + e^Theta_ij) - S_ij Theta_ij), i in the batch, j any pair
               + gamma |F - B|^2 over the batch + eta |sum of F's rows|^2 over all pairs

Where we differ, and why
 1. Features are given. The image net is CNN-F, fine-tuned, and one linear layer in the paper; a hidden layer takes the
    place of the fine-tuning here. The text net is the paper's, with fewer units.
 2. Adam in place of gradient descent, with a rate that falls linearly from epoch to epoch as in the authors' code.
    `optimizer = "sgd"` with learning_rate 0.03 and 500 epochs is theirs.
 3. F and G start with what the untrained nets say of a pair when it is first drawn, not with random numbers.
 4. `balance`: few pairs share a label (7 in 100 of products), and the likelihood as published is served best by
    outputs far from most others. Similar and dissimilar pairs weigh the same here.
 5. `thresholds`: codes change sign at each bit's median over the training pairs, not at zero.
 6. eta is 0.001, not 1: the sum over all pairs follows the net with a delay of an epoch, and at 1 a pass overshoots.
    The thresholds balance the bits.
 7. A pass draws every pair once; the authors draw each batch anew from all pairs.
    Memory: N (3 bits + classes) numbers; time grows with N^2.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from xhash_ray.config import option
from xhash_ray.errors import BadInput
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World
from xhash_ray.methods.blocks import Memory, pair_likelihood, present, share_a_label, similar_share, two_layers

LARGEST = 200_000  # a batch of 128 against so many is 100 MB a matrix
AUTHORS = "authors' code"


@dataclasses.dataclass(frozen=True)
class Settings:
    """DCMH's settings."""

    gamma: float = option("weight of |F - B|^2", 1.0, source=AUTHORS)
    eta: float = option("weight of |sum of rows|^2", 1e-3, source="ours: measured; authors' code 1")
    balance: bool = option(
        "similar and dissimilar pairs weigh the same in the likelihood", True, source="ours: measured; the paper: false"
    )
    thresholds: str = option(
        "where codes change sign: at each bit's median over the training pairs, or at zero",
        "median",
        choices=("median", "zero"),
        source="ours: measured; the paper: zero",
    )
    hidden: int = option("units of the nets' hidden layers", 512, source="ours; authors' code 8192 for texts")
    epochs: int = option("passes of each net", 40, source="ours; authors' code 500")
    batch_size: int = option("pairs in a global batch", 128, source=AUTHORS)
    optimizer: str = option("adam or sgd", "adam", choices=("adam", "sgd"), source="ours: measured; authors' code sgd")
    learning_rate: float = option("of the first epoch", 1e-3, source="ours; authors' code 10^-1.5 of sgd")
    last_rate: float = option("of the last epoch", 1e-6, source=AUTHORS)


class DCMH(Method):
    """Two nets of one hidden layer, and a memory of what they said."""

    paper = "Jiang and Li, Deep Cross-Modal Hashing, CVPR 2017"
    year = 2017
    supervised = True
    phases = ("image", "text")
    against_collapse = (
        "the sum of each bit over all training pairs is pressed to zero; codes are cut at the bits' medians"
    )
    settings_type = Settings
    settings: Settings
    share: Tensor
    image_threshold: Tensor
    text_threshold: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.image_net = two_layers(shape.image_length, settings.hidden, shape.bits)
        self.text_net = two_layers(shape.text_length, settings.hidden, shape.bits)
        self.memory = Memory(L=shape.classes, image=shape.bits, text=shape.bits, B=shape.bits)
        self.register_buffer("share", torch.tensor(0.5), persistent=False)
        self.register_buffer("image_threshold", torch.zeros(shape.bits))
        self.register_buffer("text_threshold", torch.zeros(shape.bits))

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits the feature scales and makes room for F, G and B.

        Raises:
            BadInput: when there are too many pairs to hold each batch against all of them.
        """
        super().prepare(pairs, seed)
        if pairs.total > LARGEST:
            do = f"Train on {LARGEST:,} pairs or fewer (--where id%10=0), or choose another method"
            raise BadInput("dcmh, which compares every batch with all pairs", f"{pairs.total:,} pairs", do)
        self.memory.resize(pairs.total)
        self.share.copy_(similar_share(present(pairs.labels)))

    def passes(self, epoch: int) -> Sequence[Sequence[str]]:
        """A pass of the image net, then one of the text net."""
        return (("image",), ("text",))

    def learning_rates(self, epoch: int, number: int) -> Mapping[str, float]:
        """Linear from the first epoch's rate to the last one's."""
        s = self.settings
        done = epoch / max(s.epochs - 1, 1)
        return {self.phases[number]: s.learning_rate + done * (s.last_rate - s.learning_rate)}

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """The optimiser of one net."""
        weights, rate = self.get_submodule(f"{phase}_net").parameters(), self.settings.learning_rate
        if self.settings.optimizer == "sgd":
            return torch.optim.SGD(weights, lr=rate)
        return torch.optim.Adam(weights, lr=rate)

    def said(self, phase: str, batch: Batch) -> Float[Tensor, "n bits"]:
        """F or G of a batch."""
        scaled = self.scale_image(batch.image) if phase == "image" else self.scale_text(batch.text)
        outputs: Tensor = self.get_submodule(f"{phase}_net")(scaled)
        return outputs

    @torch.no_grad()
    def meet(self, batch: Batch, world: World) -> None:
        """Writes down what both nets say of pairs that were never drawn before."""
        if not bool(self.memory.known.all()):
            F, G = self.said("image", batch), self.said("text", batch)
            self.memory.meet(present(batch.rows), world, L=present(batch.labels), image=F, text=G, B=common_codes(F, G))

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of one net's loss over this worker's rows and all known columns."""
        self.meet(batch, world)
        rows, N = present(batch.rows), len(self.memory.known)
        F = self.said(phase, batch)
        self.memory.write(rows, world, **{phase: F})
        Theta = F @ self.memory.read("text" if phase == "image" else "image").T / 2
        S = share_a_label(present(batch.labels), self.memory.read("L"))
        B = self.memory.get_buffer("B")[rows]
        fresh = world.gather(F)
        sums = self.memory.get_buffer(phase).sum(dim=0) + (fresh - fresh.detach()).sum(dim=0)
        return {
            "pairs": pair_likelihood(Theta, S, self.share if self.settings.balance else None),
            "quantisation": self.settings.gamma * (F - B).square().sum(dim=1).mean() / N,
            "balance": self.settings.eta * sums.square().sum() / (len(fresh) * N),
        }

    def end_epoch(self, epoch: int, world: World) -> None:
        """Renews B, and puts the thresholds at the medians of F and G."""
        F, G = self.memory.get_buffer("image"), self.memory.get_buffer("text")
        self.memory.get_buffer("B").copy_(common_codes(F, G))
        if self.settings.thresholds == "median":
            self.image_threshold.copy_(self.memory.read("image").median(dim=0).values)
            self.text_threshold.copy_(self.memory.read("text").median(dim=0).values)

    def image_outputs(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """F less the bits' thresholds."""
        outputs: Tensor = self.image_net(self.scale_image(image)) - self.image_threshold
        return outputs

    def text_outputs(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """G less the bits' thresholds."""
        outputs: Tensor = self.text_net(self.scale_text(text)) - self.text_threshold
        return outputs


def common_codes(F: Float[Tensor, "n bits"], G: Float[Tensor, "n bits"]) -> Float[Tensor, "n bits"]:
    """B = sign(gamma (F + G)), for any gamma above 0; sign(0) = 1."""
    return torch.where(F + G >= 0, 1.0, -1.0).to(F.dtype)


METHOD = DCMH
