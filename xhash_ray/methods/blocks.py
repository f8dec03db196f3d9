"""What several papers share: similarities, networks, dropout and batch normalisation over a global batch."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from xhash_ray.methods.base import World


def cosine(X: Float[Tensor, "n d"], Y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Cosine of every row of X with every row of Y; 0 where a row is zero."""
    return normalize(X) @ normalize(Y).T


def modal_similarity(F: Float[Tensor, "n d"], signed: bool) -> Float[Tensor, "n n"]:
    """S_I or S_T: 2a - 1 with an affinity a in [0, 1], the cosine, or (1 + cosine) / 2 of centred, signed features."""
    S = cosine(F, F)
    return S if signed else 2 * S - 1


def share_a_label(L: Float[Tensor, "n c"], M: Float[Tensor, "m c"]) -> Float[Tensor, "n m"]:
    """1 where two rows of zeros and ones have a one in common, else 0."""
    return (L @ M.T > 0).to(L.dtype)


def two_layers(length: int, hidden: int, bits: int) -> nn.Sequential:
    """Linear, ReLU, Linear: the text net of the DJSRH line, and most nets after it."""
    return nn.Sequential(nn.Linear(length, hidden), nn.ReLU(), nn.Linear(hidden, bits))


def dropout(X: Float[Tensor, "n d"], share: float, training: bool, world: World) -> Float[Tensor, "n d"]:
    """Dropout whose mask is drawn for the whole global batch, so that the number of workers changes nothing."""
    if not training or share == 0:
        return X
    kept = torch.rand(world.size * X.shape[0], X.shape[1], device=X.device) >= share
    return X * world.own(kept) / (1 - share)


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
                self.mean.lerp_(mean, self.momentum)
                self.variance.lerp_(variance * n / max(n - 1, 1), self.momentum)
        return (X - mean) / (variance + self.epsilon).sqrt() * self.weight + self.bias
