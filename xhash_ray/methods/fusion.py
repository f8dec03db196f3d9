"""Two feature spaces, and how far they are one: what held-out pairs say, without labels.

By canonical projections the halves of a pair find each other in any two spaces that have something in common; by their
features as they are only where both spaces are one, as one CLIP's are.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from xhash_ray.methods.cca_itq import directions
from xhash_ray.methods.scaling import unit

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
CANONICAL = 64  # projections at most
HELD_OUT = 1000  # pairs at most


def reciprocal_rank(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> float:
    """Mean over both directions of 1 / the rank at which a row finds its partner."""
    S = a @ b.T
    own = S.diagonal()
    ranks = 1 + torch.cat([(own[:, None] < S).sum(dim=1), (own < S).sum(dim=0)])
    return float((1 / ranks.double()).mean())


def compared(x: Float[Tensor, "n d_I"], y: Float[Tensor, "n d_T"], seed: int) -> tuple[float, float, float]:
    """The ridge of CCA by which held-out pairs find each other best, r_c with it, and r_d."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    held, rest = order.tensor_split([min(HELD_OUT, -(-len(x) // 5))])
    found = []
    for ridge in RIDGES:
        A, B = (M.float() for M in directions(x[rest].double(), y[rest].double(), CANONICAL, ridge))
        found.append((reciprocal_rank(unit(x[held] @ A), unit(y[held] @ B)), ridge))
    r_c, ridge = max(found)
    return ridge, r_c, reciprocal_rank(x[held], y[held]) if x.shape[1] == y.shape[1] else 0.0
