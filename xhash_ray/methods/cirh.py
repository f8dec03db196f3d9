"""CIRH: correlation-identity reconstruction hashing (Zhu, Wu, Li, Zhang, Guan, Shen; TKDE 2023).

Paper        https://doi.org/10.1109/TKDE.2022.3218656 ("Work Together", first online in 2022)
Author code  github.com/XizeWu/CIRH (no licence: read for the loss, nets and constants, not copied)

Codes are first found for pairs, then functions for modalities. Stage one ("fuse") is an autoencoder with graph
convolutions: image, text and a graph that joins both are fused into one code per pair, from which similarities and both
features are reconstructed. In stage two ("hash") each modality learns to say, from its own features alone, the code
that stage one gave the pair.

Symbols      F_I, F_T      scaled features; X_I, X_T the same, mixed with two neighbours of the batch: .7, .2, .1
             S             similarity of training pairs: S1 = a1 cos(F_I) + (1 - a1) cos(F_T), zero but for each row's
                           largest;  S2 = 2 sigmoid(S1) - 1 + I, symmetrised;  S = a2 S1 + (1 - a2) S2
             H_I, H_T, H   outputs of both branches, and the fused tanh code; stage one's B = sign(H)
             D_I, D_T      features decoded from H + tanh(H_I) and H + tanh(H_T)
             B_I, B_T      tanh codes of the two hash functions
             M(Y)          cosines between all rows of Y
Loss         fuse   lambda1 (|D_I - X_I|^2 + |D_T - X_T|^2) + |H - B|^2
                        + lambda2 (|M(H_I) - S|^2 + |M(H_T) - S|^2 + |M(H) - S|^2)
             hash   |B_I - B|^2 + |B_T - B|^2 + |B_I - B_T|^2
                        + beta (|cos(B_I, B_T) - S|^2 + |M(B_I) - S|^2 + |M(B_T) - S|^2)
             with |.|^2 the mean over all entries

Where we differ, and why
 1. The stages follow each other; the authors take one pass of each in every epoch, so that functions chase codes which
    still change. The last epoch of stage one is the first of stage two.
 2. Hash functions and codes meet the rows of S that are theirs. (The authors' step pairs shuffled rows with the
    unshuffled block of S.)
 3. S is not stored: a threshold per pair is (the authors zero 3,000 of 5,000 entries; ours is a share), and S is
    computed for each batch. Memory grows with n, not n^2. Signed features are centred before the cosine.
 4. Hash functions see centred and scaled features, not rows of length 1, and have the usual first weights; both have
    `hidden` units, where the authors' text net has as many as features.
 5. Batch normalisation spans the workers. A pair that stage one never met (its last batches are partial) has no code
    and no part in |B_I - B|^2 and |B_T - B|^2.
 6. Fewer hidden units, smaller batches and fewer epochs by default; the last epoch is kept, where the authors take the
    best one on the test queries.
"""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from xhash_ray.config import option
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World
from xhash_ray.methods.blocks import DropoutNet, GlobalBatchNorm, Memory, cosine, present

BLOCK = 1_000
MIXTURE = (0.7, 0.0, 0.2, 0.1)  # of a pair, its nearest neighbour, the second and the third
AUTHORS = "authors' code, MIRFlickr-25K"


@dataclasses.dataclass(frozen=True)
class Settings:
    """CIRH's settings."""

    a1: float = option("share of the images in S1", 0.6, source=AUTHORS)
    a2: float = option("share of S1 in S", 0.6, source=AUTHORS)
    kept: float = option("share of a row of S1 that is not zeroed", 0.4, source=AUTHORS)
    lambda1: float = option("weight of the reconstructed features", 10.0, source=AUTHORS)
    lambda2: float = option("weight of the reconstructed similarities", 1.0, source=AUTHORS)
    beta: float = option("weight of the similarities in stage two", 0.01, source=AUTHORS)
    dropout: float = option("share of hidden units dropped in stage two", 0.3, source=AUTHORS)
    hidden: int = option("units of the hash functions' hidden layers", 1024, source="ours, for time; authors' 4096")
    graph_hidden: int = option("units of the layers of stage one", 512, source=AUTHORS)
    fusing: float = option("share of the epochs that are stage one", 0.5, source="ours")
    epochs: int = option("passes over the training set", 40, source="ours, for time; authors' 60 of both stages")
    batch_size: int = option("pairs in a global batch", 128, source="ours: measured on held-out pairs; authors' 512")
    fusion_rate: float = option("learning rate of Adam, stage one", 1e-3, source=AUTHORS)
    learning_rate: float = option("of Adam, stage two", 1e-3, source="ours; authors' 1e-4 needs their first weights")


def batch_norm(width: int) -> GlobalBatchNorm:
    """Batch normalisation without running values: stage one never encodes."""
    return GlobalBatchNorm(width, momentum=0.0)


class NormalisedLinear(nn.Module):
    """Linear, then batch normalisation over the global batch."""

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(length, width, bias=False), batch_norm(width)

    def forward(self, X: Float[Tensor, "n d"], world: World) -> Float[Tensor, "n width"]:
        """The normalised outputs."""
        normalised: Tensor = self.norm(self.linear(X), world)
        return normalised


class Decoder(nn.Module):
    """Features from a code: two normalised layers."""

    def __init__(self, bits: int, width: int, length: int) -> None:
        super().__init__()
        self.first, self.last = NormalisedLinear(bits, width), NormalisedLinear(width, length)

    def forward(self, H: Float[Tensor, "n bits"], world: World) -> Float[Tensor, "n d"]:
        """D_I or D_T."""
        decoded: Tensor = self.last(torch.relu(self.first(H, world)), world)
        return decoded


class Fusion(nn.Module):
    """Stage one: from the features of pairs and their similarities to H_I, H_T and H."""

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.image, self.text = NormalisedLinear(shape.image_length, width), NormalisedLinear(shape.text_length, width)
        self.image_graph, self.text_graph, self.joint_graph = (nn.Linear(width, width) for _ in range(3))
        self.image_norm, self.text_norm, self.joint_norm = (batch_norm(width) for _ in range(3))
        self.image_head, self.text_head = (NormalisedLinear(2 * width, shape.bits) for _ in range(2))
        self.joint_head = NormalisedLinear(width, shape.bits)
        self.joint_head.norm.bias.requires_grad_(False)  # the next normalisation takes it away again
        self.code = NormalisedLinear(3 * shape.bits, shape.bits)
        self.image_decoder = Decoder(shape.bits, width, shape.image_length)
        self.text_decoder = Decoder(shape.bits, width, shape.text_length)

    def forward(
        self,
        X_I: Float[Tensor, "n d_I"],
        X_T: Float[Tensor, "n d_T"],
        S: Float[Tensor, "n all_n"],
        world: World,
    ) -> tuple[Float[Tensor, "n bits"], Float[Tensor, "n bits"], Float[Tensor, "n bits"]]:
        """H_I, H_T and H of this worker's pairs."""
        V_I = normalize(torch.relu(self.image(X_I, world)))
        V_T = normalize(torch.relu(self.text(X_T, world)))
        each = self.image_graph(V_I), self.text_graph(V_T), self.joint_graph(V_I), self.joint_graph(V_T)
        G_I, G_T, J_I, J_T = (S @ world.gather(torch.cat(each, dim=1))).chunk(4, dim=1)
        G_I, G_T = torch.relu(self.image_norm(G_I, world)), torch.relu(self.text_norm(G_T, world))
        # In the joint graph each image is also its text's neighbour, and the other way round.
        joint = self.joint_norm(torch.cat([J_I + each[3], J_T + each[2]]), world)
        J = torch.relu(joint[: len(X_I)] + joint[len(X_I) :])
        H_I = self.image_head(torch.cat([G_I, J], dim=1), world)
        H_T = self.text_head(torch.cat([J, G_T], dim=1), world)
        H_J = self.joint_head(J, world)
        return H_I, H_T, torch.tanh(self.code(torch.cat([H_I, H_J, H_T], dim=1), world))


def thresholds(S1: Float[Tensor, "n m"], k: int) -> Float[Tensor, " n"]:
    """What the k largest of each row reach and the others do not (but for ties): halfway, clear of rounding."""
    if k >= S1.shape[1]:
        return S1.new_full((len(S1),), -torch.inf)
    largest = S1.topk(k + 1, dim=1).values
    return torch.minimum((largest[:, k - 1] + largest[:, k]) / 2, largest[:, k - 1] - 1e-6)


class CIRH(Method):
    """The fusion net of stage one and the two hash functions of stage two."""

    paper = "Zhu et al., Work Together: Correlation-Identity Reconstruction Hashing, TKDE 2023"
    year = 2023
    needs_all_rows = True
    phases = ("fuse", "hash")
    training_only = ("fusion",)
    against_collapse = (
        "every bit of stage one's codes is balanced by batch normalisation, and features are decoded from them"
    )
    settings_type = Settings
    settings: Settings
    t: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.fusion = Fusion(shape, settings.graph_hidden)
        self.image_net = DropoutNet(shape.image_length, settings.hidden, shape.bits, settings.dropout)
        self.text_net = DropoutNet(shape.text_length, settings.hidden, shape.bits, settings.dropout)
        self.memory = Memory(B=shape.bits)
        self.register_buffer("t", torch.zeros(0), persistent=False)

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits the feature scales and, in blocks of rows, the thresholds of S1."""
        super().prepare(pairs, seed)
        n = len(pairs.image)
        k = min(max(round(self.settings.kept * n), 1), n)
        blocks = torch.arange(n).split(BLOCK)
        self.t = torch.cat([thresholds(self.cosines(pairs.image[b], pairs.text[b], pairs), k) for b in blocks])
        self.memory.resize(pairs.total)

    def passes(self, epoch: int) -> list[tuple[str]]:
        """Stage one, then stage two; its first pass follows stage one's last."""
        first = max(1, round(self.settings.fusing * self.settings.epochs))
        return [("fuse",)] * (epoch < first) + [("hash",)] * (epoch >= first - 1)

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """Adam over the fusion net, or over both hash functions."""
        if phase == "fuse":
            return torch.optim.Adam(self.fusion.parameters(), lr=self.settings.fusion_rate)
        moved = [*self.image_net.parameters(), *self.text_net.parameters()]
        return torch.optim.Adam(moved, lr=self.settings.learning_rate)

    def cosines(
        self, F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"], others: Batch | TrainingPairs
    ) -> Float[Tensor, "n m"]:
        """S1 of some pairs with others before anything is zeroed."""
        image, text, a1 = self.scale_image.for_similarity, self.scale_text.for_similarity, self.settings.a1
        return a1 * cosine(image(F_I), image(others.image)) + (1 - a1) * cosine(text(F_T), text(others.text))

    def similarity(self, batch: Batch, everything: Batch, world: World) -> Float[Tensor, "n all_n"]:
        """This worker's rows of S for the global batch."""
        S1, a2 = self.cosines(batch.image, batch.text, everything), self.settings.a2
        by_row = S1.where(S1.ge(self.t[present(batch.rows), None]), 0)
        by_column = S1.where(S1.ge(self.t[present(everything.rows)]), 0)
        I = world.own(torch.eye(S1.shape[1], dtype=S1.dtype, device=S1.device))  # noqa: E741
        S2 = torch.sigmoid(by_row) + torch.sigmoid(by_column) - 1 + I
        return a2 * by_row + (1 - a2) * S2

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of one stage over this worker's rows and all columns."""
        with torch.no_grad():
            rows = world.gather(present(batch.rows))
            everything = Batch(world.gather(batch.image), world.gather(batch.text), None, rows)
            S = self.similarity(batch, everything, world)
        return self.fuse(batch, everything, S, world) if phase == "fuse" else self.hash(batch, S, world)

    def fuse(self, batch: Batch, everything: Batch, S: Float[Tensor, "n all_n"], world: World) -> dict[str, Tensor]:
        """Stage one; remembers the codes it gives."""
        s = self.settings
        nearest = S.topk(min(len(MIXTURE), S.shape[1]), dim=1).indices
        X_I = mixed(self.scale_image(everything.image), nearest)
        X_T = mixed(self.scale_text(everything.text), nearest)
        H_I, H_T, H = self.fusion(X_I, X_T, S, world)
        if self.training:
            self.memory.write(present(batch.rows), world, B=sign(H))
        D_I = self.fusion.image_decoder(H + torch.tanh(H_I), world)
        D_T = self.fusion.text_decoder(H + torch.tanh(H_T), world)
        each = [normalize(Y) for Y in (H_I, H_T, H)]
        M = [Y @ all_Y.T for Y, all_Y in zip(each, world.gather(torch.stack(each, dim=1)).unbind(1), strict=True)]
        return {
            "image": s.lambda1 * mse_loss(D_I, X_I),
            "text": s.lambda1 * mse_loss(D_T, X_T),
            "correlation": s.lambda2 * (mse_loss(M[0], S) + mse_loss(M[1], S) + mse_loss(M[2], S)),
            "binary": mse_loss(H, sign(H).detach()),
        }

    def hash(self, batch: Batch, S: Float[Tensor, "n all_n"], world: World) -> dict[str, Tensor]:
        """Stage two."""
        B_I, B_T = torch.tanh(self.image_outputs(batch.image, world)), torch.tanh(self.text_outputs(batch.text, world))
        rows = present(batch.rows)
        B, known = self.memory.get_buffer("B")[rows], self.memory.known[rows, None]
        C_I, C_T = normalize(B_I), normalize(B_T)
        all_I, all_T = world.gather(torch.cat([C_I, C_T], dim=1)).chunk(2, dim=1)
        reproduced = mse_loss(C_I @ all_T.T, S) + mse_loss(C_I @ all_I.T, S) + mse_loss(C_T @ all_T.T, S)
        return {
            "image": ((B_I - B) * known).square().mean(),
            "text": ((B_T - B) * known).square().mean(),
            "pairs": mse_loss(B_I, B_T),
            "correlation": self.settings.beta * reproduced,
        }

    def image_outputs(self, image: Float[Tensor, "n d_I"], world: World | None = None) -> Float[Tensor, "n bits"]:
        """h of images; `world` while training."""
        outputs: Tensor = self.image_net(self.scale_image(image), world)
        return outputs

    def text_outputs(self, text: Float[Tensor, "n d_T"], world: World | None = None) -> Float[Tensor, "n bits"]:
        """h of texts; `world` while training."""
        outputs: Tensor = self.text_net(self.scale_text(text), world)
        return outputs


def mixed(F: Float[Tensor, "all_n d"], nearest: Int[Tensor, "n near"]) -> Float[Tensor, "n d"]:
    """X_I or X_T: each of some rows mixed with its neighbours; the first of these is the row itself."""
    weights = torch.tensor(MIXTURE[: nearest.shape[1]], dtype=F.dtype, device=F.device)
    return torch.einsum("k,nkd->nd", weights / weights.sum(), F[nearest])


def sign(H: Float[Tensor, "n bits"]) -> Float[Tensor, "n bits"]:
    """1 where H is at least 0, otherwise -1."""
    return torch.where(H >= 0, 1.0, -1.0).to(H.dtype)


METHOD = CIRH
