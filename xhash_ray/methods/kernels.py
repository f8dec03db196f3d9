"""Kernel ridge regression on landmarks, as sums over rows: any number of rows, in any order, on any worker.

kappa(u, v) = exp(-|u - v|^2 / s) with s the median of |u - v|^2 among landmarks U, rows drawn from the training pairs.
f(u) = kappa(u, U) C, where C = argmin |kappa(X, U) C - F|^2 + lambda tr C' kappa(U, U) C needs of the rows X and their
targets F only the sums  kappa(X, U)' kappa(X, U)  and  kappa(X, U)' F.

Source: Williams, Seeger: Using the Nystrom Method to Speed Up Kernel Machines, NIPS 2000 (subset of regressors).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

MEASURED = 1024  # landmarks that the width is measured among, at most
JITTER = 1e-6  # added to the normal equations: landmarks may be equal


class KernelFunction(nn.Module):
    """f of one modality; its number of landmarks is that of the weights it is given."""

    U: Tensor
    s: Tensor
    C: Tensor

    def __init__(self, length: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("U", torch.zeros(0, length))
        self.register_buffer("s", torch.ones(()))
        self.register_buffer("C", torch.zeros(0, outputs))

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Makes room for as many landmarks as the weights have."""
        for name in ("U", "C"):
            if prefix + name in state:
                setattr(self, name, torch.zeros_like(state[prefix + name]))
        super()._load_from_state_dict(state, prefix, *rest)

    def place(self, rows: Float[Tensor, "n d"], landmarks: int, generator: torch.Generator) -> None:
        """Puts landmarks on rows drawn at random, at most so many, and sets s; C is 0."""
        self.U = rows[torch.randperm(len(rows), generator=generator)[:landmarks]]
        squares = torch.cdist(self.U[:MEASURED], self.U[:MEASURED]).square()
        self.s.fill_(float(squares[squares > 1e-6].median()) if (squares > 1e-6).any() else 1.0)
        self.C = torch.zeros(len(self.U), self.C.shape[1])

    def kappa(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """Kernel with every landmark."""
        of_U, of_u = (-rows.square().sum(dim=1) / self.s for rows in (self.U, u))
        exponent = torch.addmm(of_U, u * (2 / self.s), self.U.T)  # three passes over n m numbers: they take the time
        return exponent.add_(of_u[:, None]).exp_()

    def sums(self, u: Float[Tensor, "n d"], F: Float[Tensor, "n c"]) -> Float[Tensor, "m m_and_c"]:
        """kappa' [kappa, F] of some rows, in float64."""
        K = self.kappa(u).double()
        return K.T @ torch.cat([K, F.double()], dim=1)

    def solved(self, sums: Float[Tensor, "m m_and_c"], lambda_: float) -> Float[Tensor, "m c"]:
        """C, from the sums over all rows."""
        m = len(self.U)
        ridge = lambda_ * self.kappa(self.U).double() + JITTER * torch.eye(m, device=sums.device)
        return torch.linalg.solve(sums[:, :m] + ridge, sums[:, m:])

    def forward(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """f."""
        return self.kappa(u) @ self.C
