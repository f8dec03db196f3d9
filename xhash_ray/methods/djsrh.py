"""DJSRH: deep joint-semantics reconstructing hashing (Su, Zhong, Zhang; ICCV 2019).

Paper        https://doi.org/10.1109/ICCV.2019.00312
Author code  github.com/zs-zhong/DJSRH (MIT: read for its constants, not copied)

The first of a line (DSAH, JDSH, CFRH and others follow): the cosines of the codes of a batch are to reproduce a
similarity S made from the features of both modalities. S mixes the similarity inside images with that inside texts,
then adds how alike the two neighbourhoods are: pairs that resemble the same others are drawn closer.

Symbols      F_I, F_T            features of a batch, n x d_I and n x d_T
             S_I, S_T            2 cos - 1 within one modality, n x n
             S~                  beta S_I + (1 - beta) S_T
             S                   mu [(1 - eta) S~ + eta S~ S~' / n]
             B_I, B_T            relaxed codes tanh(a h), rows normalised to length 1;  a = sqrt(epoch + 1)
Loss         L = lambda_1 |B_I B_I' - S|^2 + |B_I B_T' - S|^2 + lambda_2 |B_T B_T' - S|^2
                 - pairs <B_I, B_T>   (ours, see 3)
             with |.|^2 the mean square over the n x n entries and <.,.> the mean over the n pairs

Where we differ, and why
 1. Features are given (CLIP, CNN, bag of words). The paper fine-tunes AlexNet against the features of a frozen copy;
    our image net is its last, linear layer, and both nets learn at the rate that the authors give their text net.
 2. The hash functions see centred and scaled features (scaling.py); S is made from the features as they are, and
    from centred ones with S_I = cos where some are negative. Both as in JDSH, for the same reasons.
 3. Short codes: a pair's own similarity is one of n entries in a row of S, and too little to bring its two codes
    together. `pairs` adds the agreement of a pair's codes, the term by which JDSH goes beyond this paper;
    pairs = 0 is the paper's loss.
 4. In a batch shared by several workers, each computes its rows of S against all columns.
 5. 1024 hidden units where the authors have 4096, as in JDSH.
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

AUTHORS = "authors' code"


@dataclasses.dataclass(frozen=True)
class Settings:
    """DJSRH's settings; defaults are the authors' unless said otherwise."""

    beta: float = option(
        "weight of S_I; S_T has the rest", 0.6, source="authors' code: MIRFlickr .9, NUS-WIDE .6, Wiki .3"
    )
    eta: float = option("weight of the neighbourhoods in S", 0.4, source=AUTHORS)
    mu: float = option("scale of S", 1.5, source=AUTHORS)
    lambda_1: float = option("weight of the images' own term", 0.1, source=AUTHORS)
    lambda_2: float = option("weight of the texts' own term", 0.1, source=AUTHORS)
    pairs: float = option("weight of the agreement of a pair's codes", 1.0, source="ours, see 3; 0 is the paper's")
    hidden: int = option("units of the text net's hidden layer", 1024, source="ours, validation; authors' code 4096")
    epochs: int = option("passes over the training set", 60, source="authors' code: 80; Wiki 200")
    batch_size: int = option("pairs in a global batch", 32, source=AUTHORS)
    learning_rate: float = option("of SGD, both nets", 0.01, source=AUTHORS)
    momentum: float = option("of SGD", 0.9, source=AUTHORS)
    weight_decay: float = option("of SGD", 5e-4, source=AUTHORS)


class DJSRH(TwoNets):
    """The two hash functions: one linear layer for images, one hidden layer for texts."""

    paper = "Su et al., Deep Joint-Semantics Reconstructing Hashing, ICCV 2019"
    year = 2019
    against_collapse = "a pair's two codes are drawn together (`pairs`), which the paper does not; inputs are centred"
    settings_type = Settings
    settings: Settings

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.image_net = nn.Linear(shape.image_length, shape.bits)
        self.text_net = two_layers(shape.text_length, settings.hidden, shape.bits)

    def joint_similarity(self, F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"]) -> Float[Tensor, "n n"]:
        """S~ of features as they arrive."""
        S_I, S_T = self.modal_similarities(F_I, F_T)
        return self.settings.beta * S_I + (1 - self.settings.beta) * S_T

    def similarity(self, F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"]) -> Float[Tensor, "n n"]:
        """S, the similarity wanted of the codes, for a whole global batch."""
        S = self.joint_similarity(F_I, F_T)
        eta, mu = self.settings.eta, self.settings.mu
        return mu * ((1 - eta) * S + eta * S @ S.T / len(S))

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of L over this worker's rows and all columns."""
        with torch.no_grad():
            S = world.own(self.similarity(world.gather(batch.image), world.gather(batch.text)))
        B_I = self.relaxed(self.image_outputs(batch.image))
        B_T = self.relaxed(self.text_outputs(batch.text))
        all_I, all_T = world.gather(B_I), world.gather(B_T)
        return {
            "intra_image": self.settings.lambda_1 * mse_loss(B_I @ all_I.T, S),
            "inter": mse_loss(B_I @ all_T.T, S),
            "intra_text": self.settings.lambda_2 * mse_loss(B_T @ all_T.T, S),
            "pairs": -self.settings.pairs * (B_I * B_T).sum(dim=1).mean(),
        }


METHOD = DJSRH
