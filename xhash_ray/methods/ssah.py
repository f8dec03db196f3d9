"""SSAH: self-supervised adversarial hashing networks (Li, Deng, Li, Liu, Gao, Tao; CVPR 2018).

Paper        https://arxiv.org/abs/1804.01223v1 (its abstract was at hand; formulas marked * are recalled, not seen)
Author code  github.com/lelan-li/SSAH at f5e404f (no licence: read for networks, schedule, constants; not copied)

A label net turns the labels of a pair into a semantic feature and a code, taught by nothing but the labels
themselves. It then guides an image net and a text net: their features and codes must stand to those of all training
labels as the labels stand to each other. Two discriminators learn to tell features of images, and of texts, from
features of labels; the image net and the text net learn to deceive them.

Symbols      L             labels of a batch, n x c;  N training pairs in all
             S             1 where two pairs share a label, else 0; n x N
             F^m, H^m      semantic feature (ReLU) and code (tanh) of m = l, v, t (label, image, text); those of all N
                           pairs are kept in memory as they were last seen
             B             sign(H^v + H^t + H^l)
             Delta, Gamma  F^m_i . F^l_j / 2  and  H^m_i . H^l_j / 2, with i in the batch and j any of the N
             C^m           class scores: a linear layer on F^m, sigmoid
             D^v, D^t      discriminators' belief that a feature comes from a label
Loss         of m = l, v, t, divided by n N:
             L^m = alpha sum(log(1 + e^Delta) - S Delta) + gamma sum(log(1 + e^Gamma) - S Gamma)
                   + eta |H^m - B|^2 + beta |C^m - L|^2                                                            *
             v and t in addition, to deceive:  delta mean(-log D^m(F^m))
             D^v and D^t:  mean(-log D^m(F^l) - log(1 - D^m(F^m))), summed over m = v, t, halved

Where we differ, and why
 1. Features are given. The image net is CNN-F up to fc7 and two layers in the paper, here two layers; nothing is
    fine-tuned. The local response normalisations are left out: with their constants they divide by 2^0.75.
 2. In the released code no gradient of the discriminators reaches the image and text nets: they are fed copies of the
    features, and label and image features even pass through different weights. Here it does, through one
    discriminator per modality. delta = 0 gives the released behaviour.
 3. `loss = "released"` selects the released code's terms: half the squared difference of S Delta and log(1 + e^Delta)
    with S = 0.999 for similar pairs, all weights 1, B = sign of the net's own code.
 4. Rounds and decaying rates follow the released code (round r of an outer epoch has 1 / (r + 1) of the passes; rates
    fall by a factor of 10^0.5 with every outer epoch and every round) without its early stops, in one outer epoch. The
    first rates are others: its own belong to the fine-tuning of a CNN.
 5. Text: five average poolings with windows of 50, 30, 15, 10, 5 numbers, weighted by one number each, ReLU, resized
    and put beside the input. Windows are clipped to the text's length. They suppose that neighbouring numbers belong
    together, as words in order of frequency may. Topics and CLIP embeddings have no such order: `fusion = "none"`
    leaves the poolings out. The weights start at 1, not near 0, where half of them never wake up.
 6. The memories start with what the untrained nets say of a pair when it is first drawn, not with random numbers.
    Memory: N (256 + 3 bits + classes) numbers; time grows with N^2.
 7. `balance`: of 5,000 products 7 pairs in 100 share a label, and the terms as published are served best by codes far
    from most others: 31 and 45 of 64 image bits repeated others in two trials. Similar and dissimilar pairs weigh the
    same here.
 8. `thresholds`: an image net unsure of the class says nearly the same of all images, and the signs lose what little
    differs. Codes change sign at each bit's median over the training pairs.
 9. The discriminators' last layers have no bias: features of either kind are equally many.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, binary_cross_entropy_with_logits, interpolate, softplus

from xhash_ray.config import option
from xhash_ray.errors import BadInput
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World
from xhash_ray.methods.blocks import Memory, pair_likelihood, present, share_a_label, similar_share

WINDOWS = (50, 30, 15, 10, 5)
ROUNDS = {"label": 2, "discriminator": 2, "image": 3, "text": 3}
CLOSE_TO_ONE = 1 - 1e-6
LARGEST = 200_000  # a batch of 128 against so many is 100 MB a matrix
RELEASED = "authors' code"
RECALLED = "paper, recalled"


@dataclasses.dataclass(frozen=True)
class Settings:
    """SSAH's settings."""

    loss: str = option(
        "pairwise loss, weights and B: the paper's or those of the released code",
        "paper",
        choices=("paper", "released"),
        source="paper, recalled; 'released': authors' code",
    )
    fusion: str = option(
        "text poolings in front of the text net", "multiscale", choices=("multiscale", "none"), source=RELEASED
    )
    balance: bool = option(
        "similar and dissimilar pairs weigh the same in the paper's pairwise terms",
        True,
        source="ours: measured on two sets; the paper: false",
    )
    thresholds: str = option(
        "where codes change sign: at each bit's median over the training pairs, or at zero",
        "median",
        choices=("median", "zero"),
        source="ours: measured on two sets; the paper: zero",
    )
    alpha: float = option("weight of the features' pairwise term", 1.0, source=RECALLED)
    gamma: float = option("weight of the codes' pairwise term", 1.0, source=RECALLED)
    eta: float = option("weight of |H - B|^2", 1e-4, source=RECALLED)
    beta: float = option("weight of |C - L|^2", 1e-4, source=RECALLED)
    delta: float = option("weight of deceiving the discriminators", 0.1, source="ours: measured; authors' code 1")
    semantic: int = option("length of semantic features", 256, source="ours: half the time; authors' code 512")
    hidden: int = option("units of the label and text nets' hidden layer", 512, source="ours; authors' code 4096")
    epochs: int = option("outer epochs", 1, source="ours; authors' code 500, at a standstill after some ten")
    label_passes: int = option("passes of the label net's first round", 12, source="ours; authors' code at most 10")
    image_passes: int = option("passes of the image net's first round", 12, source="ours; authors' code at most 15")
    text_passes: int = option("passes of the text net's first round", 12, source="ours; authors' code at most 15")
    batch_size: int = option("pairs in a global batch", 128, source=RELEASED)
    label_rate: float = option("of Adam, label net, first round", 1e-3, source="ours; authors' code 10^-2")
    discriminator_rate: float = option("of Adam, discriminators, first round", 1e-3, source=RELEASED)
    image_rate: float = option("of Adam, image net, first round", 3e-3, source="ours; authors' code 10^-4.5")
    text_rate: float = option("of Adam, text net, first round", 3e-3, source="ours; authors' code 10^-3.5")


class MultiScale(nn.Module):
    """A text vector beside five coarser views of itself."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.windows = [min(window, length) for window in WINDOWS]
        self.weights = nn.Parameter(torch.ones(len(WINDOWS)))

    def forward(self, text: Float[Tensor, "n d"]) -> Float[Tensor, "n six_d"]:
        """[text, its poolings weighted, rectified and stretched to length d again]."""
        views = [text]
        for window, weight in zip(self.windows, self.weights, strict=True):
            coarse = torch.relu(weight * avg_pool1d(text[:, None], window))
            views.append(interpolate(coarse, text.shape[1], mode="linear")[:, 0])
        return torch.cat(views, dim=1)


class Net(nn.Module):
    """Layers up to the semantic feature, and the code made from it."""

    def __init__(self, body: nn.Module, semantic: int, bits: int) -> None:
        super().__init__()
        self.body = body
        self.code = nn.Linear(semantic, bits)

    def forward(self, features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n semantic"], Float[Tensor, "n bits"]]:
        """F and the code before its tanh."""
        F = torch.relu(self.body(features))
        return F, self.code(F)


def discriminator(length: int) -> nn.Sequential:
    """Logit of the belief that a semantic feature comes from labels."""
    half = max(length // 2, 1)
    return nn.Sequential(
        nn.Linear(length, length),
        nn.ReLU(),
        nn.Linear(length, half),
        nn.ReLU(),
        nn.Linear(half, 1, bias=False),
        nn.Flatten(0),
    )


def released_pairs(theta: Float[Tensor, "n m"], S: Float[Tensor, "n m"]) -> Float[Tensor, ""]:
    """The released code's pairwise term: half the mean square of S theta - log(1 + exp theta)."""
    return (0.999 * S * theta - softplus(theta)).square().mean() / 2


class SSAH(Method):
    """Label net, image net, text net, and a discriminator for each of the latter."""

    paper = "Li et al., Self-Supervised Adversarial Hashing Networks for Cross-Modal Retrieval, CVPR 2018"
    year = 2018
    supervised = True
    phases = ("label", "discriminator", "image", "text")
    adversaries = frozenset({"discriminator"})
    training_only = ("label_net", "classes", "discriminators", "memory")
    against_collapse = "the likelihood pushes codes of pairs without a common label apart, so that bits must differ"
    settings_type = Settings
    settings: Settings
    share: Tensor
    image_threshold: Tensor
    text_threshold: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        semantic, hidden = settings.semantic, settings.hidden
        text: list[nn.Module] = [MultiScale(shape.text_length)] if settings.fusion == "multiscale" else []
        views = 1 + len(text) * len(WINDOWS)
        text += [nn.Linear(views * shape.text_length, hidden), nn.ReLU(), nn.Linear(hidden, semantic)]
        label = nn.Sequential(nn.Linear(shape.classes, hidden), nn.ReLU(), nn.Linear(hidden, semantic))
        self.label_net = Net(label, semantic, shape.bits)
        self.image_net = Net(nn.Linear(shape.image_length, semantic), semantic, shape.bits)
        self.text_net = Net(nn.Sequential(*text), semantic, shape.bits)
        self.classes = nn.ModuleDict({name: nn.Linear(semantic, shape.classes) for name in ("label", "image", "text")})
        self.discriminators = nn.ModuleDict({name: discriminator(semantic) for name in ("image", "text")})
        codes = {name: shape.bits for name in ("H_label", "H_image", "H_text")}
        self.memory = Memory(L=shape.classes, F_label=semantic, **codes)
        self.register_buffer("share", torch.tensor(0.5), persistent=False)
        self.register_buffer("image_threshold", torch.zeros(shape.bits))
        self.register_buffer("text_threshold", torch.zeros(shape.bits))

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits the feature scales and makes room for the memories.

        Raises:
            BadInput: when there are too many pairs to hold each batch against all of them.
        """
        super().prepare(pairs, seed)
        if pairs.total > LARGEST:
            do = f"Train on {LARGEST:,} pairs or fewer (--where id%10=0), or choose another method"
            raise BadInput("ssah, which compares every batch with all pairs", f"{pairs.total:,} pairs", do)
        self.memory.resize(pairs.total)
        self.share.copy_(similar_share(present(pairs.labels)))

    def rounds(self) -> list[tuple[str, int]]:
        """Phase and round of every pass of an outer epoch."""
        s = self.settings
        first = {"label": s.label_passes, "discriminator": 1, "image": s.image_passes, "text": s.text_passes}
        return [
            (phase, r)
            for phase, count in ROUNDS.items()
            for r in range(count)
            for _ in range(first[phase] if phase == "discriminator" else max(first[phase] // (r + 1), 1))
        ]

    def passes(self, epoch: int) -> Sequence[Sequence[str]]:
        """Label net, discriminators, image net, text net: each some passes of its own."""
        return [(phase,) for phase, _ in self.rounds()]

    def learning_rates(self, epoch: int, number: int) -> Mapping[str, float]:
        """First rate of the phase times 10^(-(epoch + round) / 2)."""
        phase, r = self.rounds()[number]
        first: float = getattr(self.settings, f"{phase}_rate")
        return {phase: first * 10 ** (-(epoch + r) / 2)}

    def optimizer_of(self, phase: str) -> torch.optim.Optimizer:
        """Adam over the discriminators, or over one net and its class scores."""
        if phase == "discriminator":
            return torch.optim.Adam(self.discriminators.parameters(), lr=self.settings.discriminator_rate)
        moved = [*self.get_submodule(f"{phase}_net").parameters(), *self.classes[phase].parameters()]
        return torch.optim.Adam(moved, lr=getattr(self.settings, f"{phase}_rate"))

    def outputs_of(self, name: str, batch: Batch) -> tuple[Float[Tensor, "n semantic"], Float[Tensor, "n bits"]]:
        """F and H of one net."""
        if name == "label":
            F, code = self.label_net(batch.labels)
        elif name == "image":
            F, code = self.image_net(self.scale_image(batch.image))
        else:
            F, code = self.text_net(self.scale_text(batch.text))
        return F, torch.tanh(code)

    @torch.no_grad()
    def meet(self, batch: Batch, world: World) -> None:
        """Writes down what all nets say of pairs that were never drawn before."""
        if bool(self.memory.known.all()):
            return
        F, H = self.outputs_of("label", batch)
        codes = {f"H_{name}": self.outputs_of(name, batch)[1] for name in ("image", "text")}
        self.memory.meet(present(batch.rows), world, L=present(batch.labels), F_label=F, H_label=H, **codes)

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """The terms of one net's loss, or of the discriminators'."""
        if phase == "discriminator":
            return {f"tell_{name}": self.telling(name, batch) / 2 for name in self.discriminators}
        self.meet(batch, world)
        F, H = self.outputs_of(phase, batch)
        written = {"F_label": F, "H_label": H} if phase == "label" else {f"H_{phase}": H}
        self.memory.write(present(batch.rows), world, **written)
        terms = self.guidance(batch, phase, F, H)
        if phase != "label" and self.settings.delta:
            believed = self.discriminators[phase](F)
            deceived = binary_cross_entropy_with_logits(believed, torch.ones_like(believed))
            terms["deceive"] = self.settings.delta * deceived
        return terms

    def guidance(
        self, batch: Batch, phase: str, F: Float[Tensor, "n semantic"], H: Float[Tensor, "n bits"]
    ) -> dict[str, Tensor]:
        """The terms of L^m without the adversarial one, over this worker's rows and all known columns."""
        s, N = self.settings, len(self.memory.known)
        released = s.loss == "released"
        balance = self.share if s.balance else None
        alpha, gamma, eta, beta = (1.0, 1.0, 0.5, 0.5) if released else (s.alpha, s.gamma, s.eta, s.beta)
        labels = present(batch.labels)
        S = share_a_label(labels, self.memory.read("L"))
        B = torch.where((H if released else self.codes(batch)) >= 0, 1.0, -1.0).to(H.dtype)
        C = torch.sigmoid(self.classes[phase](F))
        Delta, Gamma = F @ self.memory.read("F_label").T / 2, H @ self.memory.read("H_label").T / 2
        of_F, of_H = (released_pairs(x, S) if released else pair_likelihood(x, S, balance) for x in (Delta, Gamma))
        return {
            "pairs_features": alpha * of_F,
            "pairs_codes": gamma * of_H,
            "quantisation": eta * (H - B).square().sum(dim=1).mean() / N,
            "classes": beta * (C - labels).square().sum(dim=1).mean() / N,
        }

    def codes(self, batch: Batch) -> Float[Tensor, "n bits"]:
        """H^v + H^t + H^l of the batch's pairs as they were last seen."""
        voices = [self.memory.get_buffer(f"H_{name}")[batch.rows] for name in ("image", "text", "label")]
        return torch.stack(voices).sum(dim=0)

    def end_epoch(self, epoch: int, world: World) -> None:
        """Puts the thresholds at the medians of the codes in memory."""
        if self.settings.thresholds == "median":
            for name, threshold in (("H_image", self.image_threshold), ("H_text", self.text_threshold)):
                median = self.memory.read(name).median(dim=0).values
                threshold.copy_(median.clamp(-CLOSE_TO_ONE, CLOSE_TO_ONE).atanh())

    def telling(self, name: str, batch: Batch) -> Float[Tensor, ""]:
        """-log D(F^l) - log(1 - D(F^m)), mean over the rows; the features are no concern of the discriminator."""
        with torch.no_grad():
            F_l, F_m = self.outputs_of("label", batch)[0], self.outputs_of(name, batch)[0]
        D = self.discriminators[name]
        return softplus(-D(F_l)).mean() + softplus(D(F_m)).mean()

    def image_outputs(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """The image code before its tanh, less the bits' thresholds."""
        outputs: Tensor = self.image_net(self.scale_image(image))[1] - self.image_threshold
        return outputs

    def text_outputs(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """The text code before its tanh, less the bits' thresholds."""
        outputs: Tensor = self.text_net(self.scale_text(text))[1] - self.text_threshold
        return outputs


METHOD = SSAH
