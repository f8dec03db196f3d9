"""DUCH: deep unsupervised contrastive hashing (Mikriukov, Ravanbakhsh, Demir; 2022).

Paper        https://arxiv.org/abs/2201.08125 and ICASSP 2022 (abstracts at hand, equations not)
Author code  github.com/comrados/duch at 2ddd9d4 (MIT; read for networks, terms, constants; not copied). NT-Xent read
             in the first author's next project, github.com/comrados/noisy_captions at 6ddd652

Two views of every image and of every text are hashed. Codes of a pair, and of two views, are told from all others of
the batch (contrastive learning); a discriminator learns to tell codes of texts from codes of images, and the image net
learns to deceive it; binarisation terms draw codes to signs and balance them.

Symbols      v = 1, 2      an image or text as it is, and its augmented view
             I^v, T^v      codes tanh(h), n x bits
             D             discriminator's logit of the belief that a code is a text's
             X(U, V)       mean_i of l(u_i, v_i) + l(v_i, u_i), where l(u, v) is -log of exp(cos(u, v) / tau) over its
                           sum for u with all 2n codes of U and V but u itself (NT-Xent)
             B             sign(I^1 + I^2 + T^1 + T^2)
Loss         nets:  L = inter X(I^1, T^1) + intra_image X(I^1, I^2) + intra_text X(T^1, T^2)
                      + alpha sum_v mean(-log sigmoid(D(I^v)))
                      + beta  sum_v mean(|B - I^v|^2 + |B - T^v|^2)
                      + gamma sum_v (R(I^v) + R(T^v)),   R the balance
             D:     sum_v mean(-log sigmoid(D(T^v)) - log(1 - sigmoid(D(I^v))) + penalty (|D'(x)| - 1)^2)
                    with x between T^v and I^v, mixed bit by bit at random

Where we differ, and why
 1. Features are given, so that images cannot be cropped nor sentences rewritten: the second view is the scaled
    feature with some numbers at random replaced by their training mean (dropout of centred features).
 2. In the released code `txt2 = txt1`: its text views are the texts themselves. Ours differ.
 3. In the released code the nets' adversarial term asks D to take texts for texts, which it does anyway: no gradient
    reaches the image net, and texts are driven further from images. Ours deceives: D is to take images for texts.
 4. Sums over the batch are means here; the weights stay in proportion, as NT-Xent is a sum there, too.
 5. R is the squared sum of the bits within a code, mean over the batch, as in the released code: as many ones as zeros
    in every code, which a bit that is always on does not disturb. `balance = "bits"` is R as bits times the squared
    mean of each bit over the batch, summed: each bit is on for half of the pairs. No bit was stuck with either.
 6. B is of the codes at hand. The released code takes the previous epoch's, in the first epoch random signs.
 7. The discriminator has no batch normalisation: with it, the gradient at one code depends on the others.
 8. Both views pass the nets' batch normalisation together, so that its running values are those trained with. The
    layer before it has no bias, which would be taken out again.
"""

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, softplus

from xhash_ray.config import option
from xhash_ray.methods.base import Batch, Method, Shape, World
from xhash_ray.methods.blocks import GlobalBatchNorm, dropout

AUTHORS = "authors' code"


@dataclasses.dataclass(frozen=True)
class Settings:
    """DUCH's settings."""

    inter: float = option("weight of X between images and texts", 1.0, source=AUTHORS)
    intra_image: float = option("weight of X between two views of images", 1.0, source=AUTHORS)
    intra_text: float = option("weight of X between two views of texts", 1.0, source=AUTHORS)
    alpha: float = option("weight of deceiving the discriminator", 0.01, source=AUTHORS)
    beta: float = option("weight of the quantisation term", 0.001, source=AUTHORS)
    gamma: float = option("weight of the balance term", 0.01, source=AUTHORS)
    balance: str = option(
        "what is balanced: each bit over the batch, or the bits of each code",
        "codes",
        choices=("bits", "codes"),
        source="authors' code; 'bits': ours",
    )
    temperature: float = option("tau, of NT-Xent", 1.0, source="authors' next code")
    dropped: float = option(
        "share of numbers that a second view lacks", 0.2, source="ours: no augmentation of features"
    )
    penalty: float = option("weight of the discriminator's gradient penalty", 10.0, source=AUTHORS)
    hidden: int = option(
        "units of the nets' hidden layer", 1024, source="ours: a quarter of the time; authors' code 4096"
    )
    epochs: int = option("passes over the training set", 20, source="ours: at the rate below; authors' code 100")
    batch_size: int = option("pairs in a global batch", 256, source=AUTHORS)
    learning_rate: float = option("of Adam, nets and discriminator", 1e-3, source="ours: measured; authors' code 1e-4")
    weight_decay: float = option("of Adam, nets; the discriminator's is a fifth", 5e-4, source=AUTHORS)


class Net(nn.Module):
    """Linear, batch normalisation, ReLU, linear."""

    def __init__(self, length: int, hidden: int, bits: int) -> None:
        super().__init__()
        self.first = nn.Linear(length, hidden, bias=False)
        self.norm, self.last = GlobalBatchNorm(hidden), nn.Linear(hidden, bits)

    def forward(self, X: Float[Tensor, "n d"], world: World) -> Float[Tensor, "n bits"]:
        """h, the code before its tanh."""
        h: Tensor = self.last(torch.relu(self.norm(self.first(X), world)))
        return h


def nt_xent(
    U: Float[Tensor, "n bits"],
    V: Float[Tensor, "n bits"],
    all_U: Float[Tensor, "all_n bits"],
    all_V: Float[Tensor, "all_n bits"],
    places: Int[Tensor, " n"],
    tau: float,
) -> Float[Tensor, ""]:
    """X(U, V) over this worker's rows, whose places among all are given."""
    U, V, all_U, all_V = (normalize(codes) for codes in (U, V, all_U, all_V))
    loss = torch.zeros((), dtype=U.dtype, device=U.device)
    for anchors, same, other in ((U, all_U, all_V), (V, all_V, all_U)):
        itself = torch.arange(len(same), device=places.device) == places[:, None]
        logits = torch.cat([(anchors @ same.T).masked_fill(itself, -torch.inf), anchors @ other.T], dim=1)
        loss = loss + cross_entropy(logits / tau, len(same) + places)
    return loss


class DUCH(Method):
    """Two nets of one hidden layer, and a discriminator of codes."""

    paper = "Mikriukov et al., Deep Unsupervised Contrastive Hashing for Cross-Modal Text-Image Retrieval, 2022"
    year = 2022
    phases = ("discriminator", "hash")
    adversaries = frozenset({"discriminator"})
    training_only = ("discriminator",)
    against_collapse = "codes of other pairs are pushed away, so that bits must differ; ones and zeros are balanced"
    settings_type = Settings
    settings: Settings

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.image_net = Net(shape.image_length, settings.hidden, shape.bits)
        self.text_net = Net(shape.text_length, settings.hidden, shape.bits)
        self.discriminator = nn.Sequential(
            nn.Linear(shape.bits, 2 * shape.bits), nn.ReLU(), nn.Linear(2 * shape.bits, 1), nn.Flatten(0)
        )

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """Adam over the discriminator, or over both nets."""
        s = self.settings
        if phase == "discriminator":
            moved = self.discriminator.parameters()
            return torch.optim.Adam(moved, lr=s.learning_rate, betas=(0.5, 0.9), weight_decay=s.weight_decay / 5)
        nets = [*self.image_net.parameters(), *self.text_net.parameters()]
        return torch.optim.Adam(nets, lr=s.learning_rate, weight_decay=s.weight_decay)

    def codes(self, batch: Batch, world: World) -> list[Float[Tensor, "n bits"]]:
        """I^1, I^2, T^1, T^2."""
        found: list[Tensor] = []
        for net, X in ((self.image_net, self.scale_image(batch.image)), (self.text_net, self.scale_text(batch.text))):
            view = dropout(X, self.settings.dropped, self.training, world)
            found += torch.tanh(net(torch.cat([X, view]), world)).chunk(2)
        return found

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of the nets' loss over this worker's rows and all columns, or of the discriminator's."""
        if phase == "discriminator":
            with torch.no_grad():
                I_1, I_2, T_1, T_2 = self.codes(batch, world)
            return self.telling("plain", T_1, I_1, world) | self.telling("view", T_2, I_2, world)
        s, H = self.settings, self.codes(batch, world)
        everyone = world.gather(torch.cat(H, dim=1)).chunk(4, dim=1)
        places = world.own(torch.arange(len(everyone[0]), device=batch.image.device))
        i_1, i_2, t_1, t_2 = range(4)

        def contrast(u: int, v: int) -> Tensor:
            return nt_xent(H[u], H[v], everyone[u], everyone[v], places, s.temperature)

        return {
            "inter": s.inter * contrast(i_1, t_1),
            "intra_image": s.intra_image * contrast(i_1, i_2),
            "intra_text": s.intra_text * contrast(t_1, t_2),
            "deceive": s.alpha * sum((softplus(-self.discriminator(H[v])).mean() for v in (i_1, i_2)), torch.zeros(())),
            "quantisation": s.beta * self.quantisation(torch.stack(H)),
            "balance": s.gamma * self.balance(torch.stack(H), torch.stack(everyone)),
        }

    def quantisation(self, H: Float[Tensor, "4 n bits"]) -> Float[Tensor, ""]:
        """|B - H|^2 summed over the four kinds of codes, mean over the rows."""
        B = torch.where(H.detach().sum(dim=0) >= 0, 1.0, -1.0).to(H.dtype)
        return (B - H).square().sum(dim=(0, 2)).mean()

    def balance(self, H: Float[Tensor, "4 n bits"], everyone: Float[Tensor, "4 all_n bits"]) -> Float[Tensor, ""]:
        """R summed over the four kinds of codes."""
        if self.settings.balance == "codes":
            return H.sum(dim=2).square().sum(dim=0).mean()
        return self.shape.bits * everyone.mean(dim=1).square().sum()

    def telling(
        self, name: str, of_T: Float[Tensor, "n bits"], of_I: Float[Tensor, "n bits"], world: World
    ) -> dict[str, Tensor]:
        """The discriminator's terms for one kind of view."""
        D = self.discriminator
        told = softplus(-D(of_T)).mean() + softplus(D(of_I)).mean()
        mix = torch.full_like(of_T, 0.5)
        if self.training:
            mix = world.own(torch.rand(world.size * len(of_T), of_T.shape[1], device=of_T.device)).to(of_T.dtype)
        x = (mix * of_T + (1 - mix) * of_I).requires_grad_()
        (slope,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
        steep = (slope.norm(dim=1) - 1).square().mean()
        return {f"tell_{name}": told, f"penalty_{name}": self.settings.penalty * steep}

    def image_outputs(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """h of images."""
        outputs: Tensor = self.image_net(self.scale_image(image), World())
        return outputs

    def text_outputs(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """h of texts."""
        outputs: Tensor = self.text_net(self.scale_text(text), World())
        return outputs


METHOD = DUCH
