"""DGCPN: deep graph-neighbour coherence preserving network (Yu, Zhou, Zhan, Tao; AAAI 2021).

Paper        https://doi.org/10.1609/aaai.v35i5.16592
Author code  github.com/Atmegal/DGCPN (no licence: read for the loss and its constants, not copied)

Two pairs that share their neighbours are alike even where their features are not. A graph over the whole training set
keeps each pair's nearest neighbours; the coherence of two pairs is how much their neighbours overlap. Codes reproduce a
mixture of plain similarity and coherence. Each batch is stepped three times: on relaxed codes of both modalities, then
on relaxed codes of one against the signs of the other ("half-real and half-binary"): little is lost in rounding.

Symbols      A_I, A_T      affinities of features in one modality, from 0 to 1;  A = (1 - a1) A_I + a1 A_T
             P             A without all but each row's k nearest pairs and without itself, rows brought to sum 1
             C             coherence, scale k P P'
             S             2 ((1 - a2) A + a2 C) - 1 off the diagonal, 0 on it
             B_I, B_T      tanh(h) or its sign, rows normalised to length 1
             M_II          B_I B_I', M_TT, M_IT, M_TI likewise;  M^0 the same with 0 on the diagonal
Loss         L = |diag(M_IT) - target|^2 + alpha (|M_TT^0 - S|^2 + |M_IT^0 - S|^2 + |M_II^0 - S|^2)
                 + beta (|M_IT - M_II|^2 + |M_IT - M_TT|^2 + |M_II - M_TT|^2 + |M_IT - M_TI|^2)
             with |.|^2 the mean over all entries; the same L in the phases "joint", "image" (B_T = sign) and "text"

Where we differ, and why
 1. The authors keep 2,000 of 5,000 neighbours and multiply P P' by 4,000. Ours are shares: k = neighbours n, scale 2.
 2. P is kept, n^2 numbers (100 MB for 5,000 pairs, 1.6 GB for 20,000; no more than 30,000), and C computed batch by
    batch: the whole of it costs n^3. Affinities are taken in float32 in blocks, so nothing else grows with n^2.
 3. Signed features are centred and A_I = (1 + cosine) / 2; others have the paper's plain cosine.
 4. The text step sees the image net after its step, and each phase has a momentum of its own.
 5. Features are given (the authors' are VGG19's fc7), centred and scaled before the nets.
 6. Outputs are centred by a running mean (`centre`): without, 2 and 3 of 16 bits are stuck on wiki, 3 and 3 on fashion.
 7. Half of A is text; the authors' 0.01 leaves it to the images, and held-out pairs were found worse. Narrower
    nets, less dropout, larger batches and fewer epochs; the last epoch is kept, without early stopping.
"""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from xhash_ray.config import option
from xhash_ray.errors import BadInput
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World
from xhash_ray.methods.blocks import DropoutNet, RunningCentre, cosine, present

LARGEST = 30_000
BLOCK = 1_000
AUTHORS = "authors' code, MIRFlickr-25K"


@dataclasses.dataclass(frozen=True)
class Settings:
    """DGCPN's settings."""

    a1: float = option("share of the texts in A", 0.5, source="ours: measured on held-out pairs; authors' 0.01")
    a2: float = option("share of the coherence in S", 0.3, source=AUTHORS)
    neighbours: float = option("share of the training set that a pair keeps as neighbours", 0.4, source=AUTHORS)
    scale: float = option("of the coherence: 1 is two pairs with half their neighbours in common", 2.0, source=AUTHORS)
    target: float = option("what the cosine of a pair's two codes is drawn to", 1.5, source=AUTHORS)
    alpha: float = option("weight of the terms that reproduce S", 1.0, source=AUTHORS)
    beta: float = option("weight of the consistency between modalities", 1.0, source=AUTHORS)
    dropout: float = option(
        "share of hidden units dropped", 0.2, source="ours: measured on held-out pairs; authors' 0.5"
    )
    centre: bool = option("centre outputs by a running mean", True, source="ours, against collapse")
    hidden: int = option("units of either net's hidden layer", 1024, source="ours, for time; authors' 4096")
    epochs: int = option("passes over the training set", 20, source="ours, for time; authors' 100, stopped early")
    batch_size: int = option("pairs in a global batch", 64, source="ours, for time; authors' 32")
    learning_rate: float = option("of SGD, both nets", 0.005, source=AUTHORS)
    momentum: float = option("of SGD", 0.9, source=AUTHORS)
    weight_decay: float = option("of SGD", 5e-4, source=AUTHORS)


def affinity(X: Float[Tensor, "n d"], Y: Float[Tensor, "m d"], signed: bool) -> Float[Tensor, "n m"]:
    """A_I or A_T: the cosine, or for signed features (1 + cosine) / 2."""
    return (1 + cosine(X, Y)) / 2 if signed else cosine(X, Y)


def neighbours(A: Float[Tensor, "n m"], own: Int[Tensor, " n"], k: int) -> Float[Tensor, "n m"]:
    """Rows of P: the k - 1 largest of each row but its own entry, brought to sum 1."""
    A = A.index_put((torch.arange(len(A)), own), A.new_tensor(-torch.inf))
    values, columns = A.topk(k - 1, dim=1)
    values = values.clamp(min=0)
    return torch.zeros_like(A).scatter_(1, columns, values / values.sum(dim=1, keepdim=True).clamp(min=1e-12))


class DGCPN(Method):
    """One hidden layer with dropout for either modality."""

    paper = (
        "Yu et al., Deep Graph-neighbor Coherence Preserving Network for Unsupervised Cross-modal Hashing, AAAI 2021"
    )
    year = 2021
    needs_all_rows = True
    phases = ("joint", "image", "text")
    against_collapse = "outputs are centred by a running mean"
    settings_type = Settings
    settings: Settings
    P: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        width, share, bias = settings.hidden, settings.dropout, not settings.centre
        self.image_net = DropoutNet(shape.image_length, width, shape.bits, share, bias)
        self.text_net = DropoutNet(shape.text_length, width, shape.bits, share, bias)
        self.image_centre = RunningCentre(shape.bits, settings.centre)
        self.text_centre = RunningCentre(shape.bits, settings.centre)
        self.register_buffer("P", torch.zeros(0, 0), persistent=False)

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits the feature scales and builds the graph, in blocks of rows.

        Raises:
            BadInput: for more pairs than an n x n matrix has room for.
        """
        super().prepare(pairs, seed)
        n = len(pairs.image)
        if n > LARGEST:
            raise BadInput("training dgcpn", f"{n} pairs; its graph has n x n entries", f"Give at most {LARGEST}")
        k = min(max(round(self.settings.neighbours * n), 2), n)
        P = pairs.image.new_empty(n, n)
        for rows in torch.arange(n).split(BLOCK):
            A = self.affinity(pairs.image[rows], pairs.text[rows], pairs.image, pairs.text)
            P[rows] = neighbours(A, rows, k)
        self.P, self.k = P, k

    def affinity(
        self,
        F_I: Float[Tensor, "n d_I"],
        F_T: Float[Tensor, "n d_T"],
        all_I: Float[Tensor, "m d_I"],
        all_T: Float[Tensor, "m d_T"],
    ) -> Float[Tensor, "n m"]:
        """A of some pairs with others."""
        image, text, a1 = self.scale_image, self.scale_text, self.settings.a1
        A_I = affinity(image.for_similarity(F_I), image.for_similarity(all_I), bool(image.signed))
        A_T = affinity(text.for_similarity(F_T), text.for_similarity(all_T), bool(text.signed))
        return (1 - a1) * A_I + a1 * A_T

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """SGD over both nets; a net whose codes are signs has no gradient and stays."""
        s = self.settings
        parts = [module for name, module in self.named_children() if phase == "joint" or name.startswith(phase)]
        moved = [parameter for part in parts for parameter in part.parameters()]
        return torch.optim.SGD(moved, lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay, fused=True)

    def similarity(self, batch: Batch, world: World) -> Float[Tensor, "n all_n"]:
        """S of this worker's rows, without the diagonal."""
        s, rows = self.settings, present(batch.rows)
        everywhere = world.gather(rows)
        A = self.affinity(batch.image, batch.text, world.gather(batch.image), world.gather(batch.text))
        C = s.scale * self.k * self.P[rows] @ self.P[everywhere].T
        return 2 * ((1 - s.a2) * A + s.a2 * C) - 1

    def codes(self, batch: Batch, phase: str, world: World) -> tuple[Float[Tensor, "n bits"], Float[Tensor, "n bits"]]:
        """B_I and B_T: relaxed, or signs of the modality that the phase does not move."""
        H_I, H_T = self.image_outputs(batch.image, world), self.text_outputs(batch.text, world)
        B_I = torch.tanh(H_I) if phase != "text" else torch.sign(H_I).detach()
        B_T = torch.tanh(H_T) if phase != "image" else torch.sign(H_T).detach()
        return normalize(B_I), normalize(B_T)

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of L over this worker's rows and all columns."""
        s = self.settings
        B_I, B_T = self.codes(batch, phase, world)
        all_I, all_T = world.gather(B_I), world.gather(B_T)
        with torch.no_grad():
            off = 1 - world.own(torch.eye(len(all_I), dtype=B_I.dtype, device=B_I.device))
            S = off * self.similarity(batch, world)
        M_II, M_TT, M_IT, M_TI = B_I @ all_I.T, B_T @ all_T.T, B_I @ all_T.T, B_T @ all_I.T
        across = mse_loss(M_IT, M_II) + mse_loss(M_IT, M_TT)
        return {
            "pairs": ((B_I * B_T).sum(dim=1) - s.target).square().mean(),
            "image": s.alpha * mse_loss(off * M_II, S),
            "text": s.alpha * mse_loss(off * M_TT, S),
            "inter": s.alpha * mse_loss(off * M_IT, S),
            "consistency": s.beta * (across + mse_loss(M_II, M_TT) + mse_loss(M_IT, M_TI)),
        }

    def image_outputs(self, image: Float[Tensor, "n d_I"], world: World | None = None) -> Float[Tensor, "n bits"]:
        """h of images; `world` while training."""
        return self.image_centre(self.image_net(self.scale_image(image), world), world)

    def text_outputs(self, text: Float[Tensor, "n d_T"], world: World | None = None) -> Float[Tensor, "n bits"]:
        """h of texts; `world` while training."""
        return self.text_centre(self.text_net(self.scale_text(text), world), world)


METHOD = DGCPN
