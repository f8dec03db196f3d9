"""AGCH: aggregation-based graph convolutional hashing (Zhang, Li, Luo, Huang, Xu; IEEE TMM 24, 2022).

Paper        https://doi.org/10.1109/TMM.2021.3053766
Author code  none found; read: notes and code of github.com/natsuki221/AGCH-Impl (Apache-2.0), made from the paper

Direction and distance together tell more than either: the similarity is a cosine times a kernel of the distance. Graph
convolutions over it spread what a batch knows of its neighbourhoods; a fused code of both modalities joins them.

Symbols      Z             [gamma_v unit image features, gamma_t unit text features], n x (d_I + d_T), rows of length 1
             C, D          Z Z'  and  exp(-sqrt(|z_i - z_j|) / rho), eq. (12) of the notes
             A             C o D, entry by entry;  S = 2 A - 1
             B_v, B_t      relaxed codes of either modality, tanh of their nets, rows of length 1
             B_h           fused code tanh(f [h_v, h_t]), rows of length 1
             G_v, G_t      graph codes: two layers relu(Q^-1/2 A Q^-1/2 H W), then a linear one; Q the degrees
Loss         L = alpha L1 + delta L2 + lambda L3
             L1 = |S - B_v B_t'|^2 + beta (|S - B_v B_v'|^2 + |S - B_t B_t'|^2)     codes reconstruct S
             L2 = |S - G_v G_t'|^2 + |G_v - B_v|^2 + |G_t - B_t|^2                  graph codes do, and agree with codes
             L3 = |B_v - B_h|^2 + |B_t - B_h|^2                                    both agree with the fused code
             with |.|^2 the mean square over all entries

Where we differ, and why
 1. The paper itself could not be read: which sum carries alpha, beta and lambda is inferred from the notes.
 2. All nets move together; the notes alternate. Given features; the image net is one linear layer, graph layers read
    the features and have a sixteenth of its width (they serve training alone, and cost most of its time).
 3. Signed features are centred; their affinity is (1 + cosine) / 2, so that A is never negative.
 4. Short codes: outputs are centred by a running mean (`centre`), as nothing else keeps a bit from being constant.
 5. A code comes from its own modality's net: neither fused nor graph codes, which need the pair or the batch, are used.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from xhash_ray.config import option
from xhash_ray.methods.base import Batch, Shape, World
from xhash_ray.methods.blocks import two_layers
from xhash_ray.methods.nets import TwoNets

PAPER = "paper, MIRFlickr-25K (from notes)"


@dataclasses.dataclass(frozen=True)
class Settings:
    """AGCH's settings."""

    alpha: float = option("weight of L1", 1.0, source=PAPER)
    beta: float = option("weight of the terms inside one modality", 1.0, source=PAPER)
    lambda_: float = option("weight of L3", 10.0, source=PAPER)
    delta: float = option("weight of L2", 0.01, source=PAPER)
    rho: float = option("width of the distance kernel", 4.0, source=PAPER)
    gamma_v: float = option("weight of the image features in Z", 2.0, source=PAPER)
    gamma_t: float = option("weight of the text features in Z", 0.3, source=PAPER)
    centre: bool = option("centre outputs by a running mean", True, source="ours, against collapse")
    hidden: int = option("units of the text net's hidden layer; graph layers a sixteenth", 4096, source=PAPER)
    epochs: int = option("passes over the training set", 40, source=PAPER)
    batch_size: int = option("pairs in a global batch", 64, source="ours; paper 32")
    learning_rate: float = option("of SGD, all nets", 0.01, source="paper, text and fusion nets (from notes)")
    momentum: float = option("of SGD", 0.9, source=PAPER)
    weight_decay: float = option("of SGD", 5e-4, source=PAPER)


def aggregated(C: Float[Tensor, "n n"], rho: float) -> Float[Tensor, "n n"]:
    """A: the affinity C times the kernel of the distance between unit rows, |z_i - z_j|^2 = 2 - 2 C."""
    distance = (2 - 2 * C).clamp(min=0).sqrt().fill_diagonal_(0)  # rounding would show: the root is taken twice
    return C * torch.exp(-distance.sqrt() / rho)


class GraphNet(nn.Module):
    """Two graph convolutions and a linear layer."""

    def __init__(self, length: int, hidden: int, bits: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(length, hidden, bias=False), nn.Linear(hidden, hidden, bias=False)
        self.last = nn.Linear(hidden, bits)

    def forward(self, X: Float[Tensor, "n d"], P: Float[Tensor, "n all_n"], world: World) -> Float[Tensor, "n bits"]:
        """Outputs of this worker's rows; P holds its rows of the normalised affinity."""
        H = torch.relu(P @ world.gather(self.first(X)))
        H = torch.relu(P @ world.gather(self.second(H)))
        out: Tensor = self.last(H)
        return out


class AGCH(TwoNets):
    """A linear layer for images, one hidden layer for texts; fusion and graph nets for training."""

    paper = (
        "Zhang et al., Aggregation-based Graph Convolutional Hashing for Unsupervised Cross-modal Retrieval, TMM 2022"
    )
    year = 2022
    training_only = ("fusion", "image_graph", "text_graph")
    against_collapse = "outputs are centred by a running mean"
    continuation = False
    settings_type = Settings
    settings: Settings

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        bits, narrow = shape.bits, max(1, settings.hidden // 16)
        self.image_net = nn.Linear(shape.image_length, bits, bias=not settings.centre)
        self.text_net = two_layers(shape.text_length, settings.hidden, bits, not settings.centre)
        self.fusion = nn.Linear(2 * bits, bits)
        self.image_graph = GraphNet(shape.image_length, narrow, bits)
        self.text_graph = GraphNet(shape.text_length, narrow, bits)
        self.centre(bits, settings.centre)

    def affinity(self, F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"]) -> Float[Tensor, "n n"]:
        """A of a global batch."""
        s = self.settings
        C_I, C_T = ((S + 1) / 2 for S in self.modal_similarities(F_I, F_T))
        C = (s.gamma_v**2 * C_I + s.gamma_t**2 * C_T) / (s.gamma_v**2 + s.gamma_t**2)
        return aggregated(C, s.rho)

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of L over this worker's rows and all columns."""
        s = self.settings
        X, Y = self.scale_image(batch.image), self.scale_text(batch.text)
        with torch.no_grad():
            A = self.affinity(world.gather(batch.image), world.gather(batch.text))
            degree = A.sum(dim=1).clamp(min=1e-6).rsqrt()
            P = world.own(degree[:, None] * A * degree)
            S = 2 * world.own(A) - 1
        h_v, h_t = self.image_outputs(batch.image, world), self.text_outputs(batch.text, world)
        B_v, B_t = self.relaxed(h_v), self.relaxed(h_t)
        B_h = self.relaxed(self.fusion(torch.cat([h_v, h_t], dim=1)))
        G_v = self.relaxed(self.image_graph(X, P, world))
        G_t = self.relaxed(self.text_graph(Y, P, world))
        all_v, all_t, all_G = world.gather(B_v), world.gather(B_t), world.gather(G_t)
        return {
            "inter": s.alpha * mse_loss(B_v @ all_t.T, S),
            "intra_image": s.alpha * s.beta * mse_loss(B_v @ all_v.T, S),
            "intra_text": s.alpha * s.beta * mse_loss(B_t @ all_t.T, S),
            "graph": s.delta * mse_loss(G_v @ all_G.T, S),
            "graph_agrees": s.delta * (mse_loss(G_v, B_v) + mse_loss(G_t, B_t)),
            "fused": s.lambda_ * (mse_loss(B_v, B_h) + mse_loss(B_t, B_h)),
        }


METHOD = AGCH
