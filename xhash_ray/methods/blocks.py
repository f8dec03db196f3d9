"""What several papers share: similarities, networks, dropout and batch normalisation over a global batch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from xhash_ray.methods.base import World


def cosine(X: Float[Tensor, "n d"], Y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Cosine of every row of X with every row of Y; 0 where a row is zero."""
    return normalize(X) @ normalize(Y).T


def modal_similarity(F: Float[Tensor, "n d"], signed: bool) -> Float[Tensor, "n n"]:
    """S_I or S_T: 2a - 1 with an affinity a in [0, 1], the cosine, or (1 + cosine) / 2 of centred, signed features."""
    S = cosine(F, F)
    return S if signed else 2 * S - 1


def neighbourhood_similarity(
    F_I: Float[Tensor, "n d_I"], F_T: Float[Tensor, "n d_T"], signed: tuple[bool, bool]
) -> Float[Tensor, "n n"]:
    """S_C of JDSH and CFRH: cosine of row i of S_I with row j of S_T.

    In batches larger than the features are long, S_I and S_T are taken apart: with X unit rows, S = a X X' - b, and
    products of two such matrices need no n x n x n multiplication (n^2 d instead; the same numbers).
    """
    if len(F_I) <= max(F_I.shape[1], F_T.shape[1]):
        return cosine(modal_similarity(F_I, signed[0]), modal_similarity(F_T, signed[1]))
    (X, a, b), (Y, c, e) = taken_apart(F_I, signed[0]), taken_apart(F_T, signed[1])
    x, y = X @ X.sum(dim=0), Y @ Y.sum(dim=0)  # sums of the rows of X X' and Y Y'
    product = a * c * (X @ (X.T @ Y)) @ Y.T - a * e * x[:, None] - b * c * y + b * e * len(X)
    norms_I = (a * a * ((X @ (X.T @ X)) * X).sum(dim=1) - 2 * a * b * x + b * b * len(X)).clamp(min=1e-12).sqrt()
    norms_T = (c * c * ((Y @ (Y.T @ Y)) * Y).sum(dim=1) - 2 * c * e * y + e * e * len(Y)).clamp(min=1e-12).sqrt()
    return product / (norms_I[:, None] * norms_T)


def taken_apart(F: Float[Tensor, "n d"], signed: bool) -> tuple[Float[Tensor, "n d"], float, float]:
    """X, a, b of modal_similarity(F) = a X X' - b."""
    return (normalize(F), 1.0, 0.0) if signed else (normalize(F), 2.0, 1.0)


def share_a_label(L: Float[Tensor, "n c"], M: Float[Tensor, "m c"]) -> Float[Tensor, "n m"]:
    """1 where two rows of zeros and ones have a one in common, else 0."""
    return (L @ M.T > 0).to(L.dtype)


def present(rows: Tensor | None) -> Tensor:
    """Labels or row numbers of a batch, which the training of a method that needs them always has."""
    assert rows is not None
    return rows


def two_layers(length: int, hidden: int, bits: int, bias: bool = True) -> nn.Sequential:
    """Linear, ReLU, Linear: the text net of the DJSRH line, and most nets after it."""
    return nn.Sequential(nn.Linear(length, hidden), nn.ReLU(), nn.Linear(hidden, bits, bias=bias))


def dropout(X: Float[Tensor, "n d"], share: float, training: bool, world: World) -> Float[Tensor, "n d"]:
    """Dropout whose mask is drawn for the whole global batch, so that the number of workers changes nothing."""
    if not training or share == 0:
        return X
    kept = torch.rand(world.size * X.shape[0], X.shape[1], device=X.device) >= share
    return X * world.own(kept) / (1 - share)


class DropoutNet(nn.Module):
    """Linear, ReLU, dropout over the global batch, Linear."""

    def __init__(self, length: int, hidden: int, bits: int, share: float, bias: bool = True) -> None:
        super().__init__()
        self.hidden, self.last, self.share = nn.Linear(length, hidden), nn.Linear(hidden, bits, bias=bias), share

    def forward(self, X: Float[Tensor, "n d"], world: World | None = None) -> Float[Tensor, "n bits"]:
        """Outputs; `world` is needed while training."""
        Z = torch.relu(self.hidden(X))
        outputs: Tensor = self.last(Z if world is None else dropout(Z, self.share, self.training, world))
        return outputs


class GlobalBatchNorm(nn.Module):
    """Batch normalisation over the rows of all workers (Ioffe and Szegedy 2015, algorithms 1 and 2).

    Attributes:
        mean: float32 [d] buffer, running mean used when not training.
        variance: float32 [d] buffer, running variance used when not training.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, length: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.epsilon = momentum, epsilon
        self.weight = nn.Parameter(torch.ones(length))
        self.bias = nn.Parameter(torch.zeros(length))
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("variance", torch.ones(length))

    def forward(self, X: Float[Tensor, "n d"], world: World) -> Float[Tensor, "n d"]:
        """Normalised by the global batch while training, by the running values otherwise."""
        if not self.training:
            mean, variance = self.mean, self.variance
        else:
            mean = world.gather(X.mean(dim=0, keepdim=True)).mean(dim=0)
            variance = world.gather((X - mean).square().mean(dim=0, keepdim=True)).mean(dim=0)
            with torch.no_grad():
                n = X.shape[0] * world.size
                self.mean.lerp_(mean.to(self.mean.dtype), self.momentum)
                self.variance.lerp_(variance.to(self.variance.dtype) * n / max(n - 1, 1), self.momentum)
        return (X - mean) / (variance + self.epsilon).sqrt() * self.weight + self.bias


def pair_likelihood(
    theta: Float[Tensor, "n m"], S: Float[Tensor, "n m"], share: Float[Tensor, ""] | None = None
) -> Float[Tensor, ""]:
    """Mean over all pairs of -log p(S | theta) with p(1 | theta) = sigmoid(theta), written so that it cannot overflow.

    The term -(S theta - log(1 + exp theta)) of DCMH, SSAH and others. With `share`, the share of similar pairs among
    all, pairs are weighted 1 / (2 share) or 1 / (2 - 2 share): similar and dissimilar ones then weigh the same.
    """
    each = softplus(theta) - S * theta
    if share is None:
        return each.mean()
    return (each * torch.where(S > 0, 0.5 / share, 0.5 / (1 - share))).mean()


def similar_share(L: Float[Tensor, "n c"], rows: int = 1000) -> Float[Tensor, ""]:
    """The share of pairs with a common label, estimated from evenly spaced rows against all; within (0, 1)."""
    S = share_a_label(L[:: max(len(L) // rows, 1)], L)
    return S.mean().clamp(1 / L.shape[0] ** 2, 1 - 1 / L.shape[0] ** 2)


class Memory(nn.Module):
    """What nets last said of every training pair, the same on all workers; rows are unknown until first written.

    Attributes:
        known: bool [total] buffer, which rows were written.
    """

    known: Tensor

    def __init__(self, **lengths: int) -> None:
        super().__init__()
        self.lengths = lengths
        self.resize(0)

    def resize(self, total: int) -> None:
        """Forgets everything and makes room for so many pairs."""
        self.register_buffer("known", torch.zeros(total, dtype=torch.bool), persistent=False)
        for name, length in self.lengths.items():
            self.register_buffer(name, torch.zeros(total, length), persistent=False)

    @torch.no_grad()
    def write(self, rows: Int[Tensor, " n"], world: World, **values: Float[Tensor, "n _"]) -> None:
        """Writes some kinds of every worker's rows: one exchange, then the same writes everywhere."""
        everything = world.gather(torch.cat([value.detach() for value in values.values()], dim=1))
        everywhere = world.gather(rows)
        self.known[everywhere] = True
        for name, part in zip(values, everything.split([self.lengths[name] for name in values], dim=1), strict=True):
            buffer = self.get_buffer(name)
            buffer[everywhere] = part.to(buffer.dtype)

    def meet(self, rows: Int[Tensor, " n"], world: World, **values: Float[Tensor, "n _"]) -> None:
        """Writes all kinds, but only of rows that were never written."""
        known = self.known[rows, None]
        kept = {name: self.get_buffer(name)[rows] for name in values}
        self.write(rows, world, **{name: torch.where(known, kept[name], value) for name, value in values.items()})

    def read(self, name: str) -> Float[Tensor, "known d"]:
        """All known rows of one kind, in the order of their numbers."""
        values = self.get_buffer(name)
        return values if bool(self.known.all()) else values[self.known]


class RunningCentre(nn.Module):
    """Outputs less their mean: over the global batch while training, a running mean afterwards.

    A remedy against bits that are constant: nothing in a loss on cosines keeps an output from drifting to one side. It
    is batch normalisation without scale and shift; a layer before it needs no bias.

    Attributes:
        mean: float32 [bits] buffer.
    """

    mean: Tensor

    def __init__(self, bits: int, enabled: bool = True, momentum: float = 0.1) -> None:
        super().__init__()
        self.enabled, self.momentum = enabled, momentum
        self.register_buffer("mean", torch.zeros(bits))

    def forward(self, h: Float[Tensor, "n bits"], world: World | None = None) -> Float[Tensor, "n bits"]:
        """The centred outputs; `world` is needed while training."""
        if not self.enabled:
            return h
        if not self.training or world is None:
            return h - self.mean
        mean = world.gather(h.mean(dim=0, keepdim=True)).mean(dim=0)
        with torch.no_grad():
            self.mean.lerp_(mean.to(self.mean.dtype), self.momentum)
        return h - mean
