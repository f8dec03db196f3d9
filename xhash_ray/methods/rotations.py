"""Directions of rows, and rotations that make their signs good codes.

Source: Gong et al.: Iterative Quantization, TPAMI 2013, section 3.2, eqs. (2) and (3); there of rows cut to as many
principal directions as bits. Without the cut the same two steps climb sum |V R| over all orthonormal R: among the
directions that long rows agree on, those whose signs lose least.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from xhash_ray.methods.cca_itq import itq


def principal(rows: Float[Tensor, "n d"], count: int) -> Float[Tensor, "d c"]:
    """The strongest directions of rows about 0, at most `count`, the strongest first."""
    return torch.linalg.eigh(rows.T @ rows / len(rows)).eigenvectors.flip(1)[:, :count]


def rotation(V: Float[Tensor, "n c"], K: int, rounds: int, seed: int) -> Float[Tensor, "c K"]:
    """Bits and R in turns, from a random start; where there are fewer directions than bits, they are spread."""
    c = V.shape[1]
    square = torch.randn(max(c, K), max(c, K), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return itq(V, torch.linalg.qr(square).Q[:c, :K].to(V.device), rounds)
