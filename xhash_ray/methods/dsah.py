"""DSAH: deep semantic-alignment hashing (Yang, Wu, Zhang, Zhang, Li, Wang; ICMR 2020).

Paper        https://doi.org/10.1145/3372278.3390673
Author code  github.com/idejie/DSAH (read for its constants, not copied)

Codes reconstruct a similarity made from both modalities; what text and image say of each other is aligned in three
ways: a pair's two codes agree, the two cross-modal similarity matrices are each other's transpose, and a code can be
decoded into the other modality's features.

Symbols      F_I, F_T      features;  S_I, S_T their similarities within one modality (2 cos - 1)
             S             scale (beta S_I + (1 - beta) S_T)
             B_I, B_T      tanh(a h), rows normalised to length 1;  a = sqrt(epoch + 1)
             D_I, D_T      linear decoders of codes into image and text features (unit rows)
Loss         L = |B_I B_I' - S|^2 + |B_I B_T' - S|^2 + |B_T B_T' - S|^2 + |diag(B_I B_T') - scale|^2
                 + decode (|D_I B_T - F_I|^2 + |D_T B_I - F_T|^2) + symmetry |B_I B_T' - (B_I B_T')'|^2
                 + modal (|B_I B_I' - scale S_I|^2 + |B_T B_T' - scale S_T|^2)
             with |.|^2 the mean square over all entries

Where we differ, and why
 1. Decoders read the relaxed codes, not their signs: through a sign no gradient reaches the hash functions, and the
    decoders would learn for themselves alone.
 2. Decoded features have unit length, so that this term weighs the same for every unit of the input.
 3. Given features; the image net is one linear layer. Signed features are centred, S_I = cos (see JDSH).
 4. Short codes: outputs are centred by a running mean (`centre`), as nothing else keeps a bit from being constant.
 5. Larger batches and fewer epochs; the last epoch, where the authors take the best one on the test queries.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from xhash_ray.config import option
from xhash_ray.methods.base import Batch, Shape, World
from xhash_ray.methods.blocks import two_layers
from xhash_ray.methods.nets import TwoNets

AUTHORS = "authors' code"


@dataclasses.dataclass(frozen=True)
class Settings:
    """DSAH's settings."""

    scale: float = option("of S, and what a pair's codes are drawn to", 1.5, source=AUTHORS)
    beta: float = option("share of the images in S", 0.9, source=AUTHORS)
    decode: float = option("weight of decoding the other modality", 1.0, source=AUTHORS)
    symmetry: float = option("weight of the symmetry of the cross-modal matrix", 2.0, source=AUTHORS)
    modal: float = option("weight of each modality's own similarity", 0.1, source=AUTHORS)
    centre: bool = option("centre outputs by a running mean", True, source="ours, against collapse")
    hidden: int = option("units of the text net's hidden layer", 4096, source=AUTHORS)
    epochs: int = option("passes over the training set", 40, source="ours; the authors take 200")
    batch_size: int = option("pairs in a global batch", 64, source="ours; the authors take 32")
    learning_rate: float = option("of SGD, all nets", 0.005, source=AUTHORS)
    momentum: float = option("of SGD, Nesterov's", 0.7, source=AUTHORS)
    weight_decay: float = option("of SGD", 5e-4, source="the line's usual")


class DSAH(TwoNets):
    """A linear layer for images, one hidden layer for texts, two decoders."""

    paper = "Yang et al., Deep Semantic-Alignment Hashing for Unsupervised Cross-Modal Retrieval, ICMR 2020"
    year = 2020
    training_only = ("image_decoder", "text_decoder")
    against_collapse = "outputs are centred by a running mean; decoding asks a code to tell pairs apart"
    settings_type = Settings
    settings: Settings

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.image_net = nn.Linear(shape.image_length, shape.bits, bias=not settings.centre)
        self.text_net = two_layers(shape.text_length, settings.hidden, shape.bits, not settings.centre)
        self.image_decoder = nn.Linear(shape.bits, shape.image_length)
        self.text_decoder = nn.Linear(shape.bits, shape.text_length)
        self.centre(shape.bits, settings.centre)

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """SGD with Nesterov's momentum over everything."""
        s = self.settings
        return torch.optim.SGD(
            self.parameters(), lr=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay, nesterov=True
        )

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of L over this worker's rows and all columns."""
        s = self.settings
        with torch.no_grad():
            modal = self.modal_similarities(world.gather(batch.image), world.gather(batch.text))
            S_I, S_T = (s.scale * world.own(S) for S in modal)
            S = s.beta * S_I + (1 - s.beta) * S_T
            F_I, F_T = normalize(self.scale_image(batch.image)), normalize(self.scale_text(batch.text))
        B_I = self.relaxed(self.image_outputs(batch.image, world))
        B_T = self.relaxed(self.text_outputs(batch.text, world))
        all_I, all_T = world.gather(B_I), world.gather(B_T)
        II, TT, IT, TI = B_I @ all_I.T, B_T @ all_T.T, B_I @ all_T.T, B_T @ all_I.T
        pairs = (B_I * B_T).sum(dim=1)
        return {
            "intra_image": mse_loss(II, S),
            "inter": mse_loss(IT, S),
            "intra_text": mse_loss(TT, S),
            "pairs": (pairs - s.scale).square().mean(),
            "decode_image": s.decode * mse_loss(self.image_decoder(B_T), F_I),
            "decode_text": s.decode * mse_loss(self.text_decoder(B_I), F_T),
            "symmetry": s.symmetry * mse_loss(IT, TI),
            "modal_image": s.modal * mse_loss(II, S_I),
            "modal_text": s.modal * mse_loss(TT, S_T),
        }


METHOD = DSAH
