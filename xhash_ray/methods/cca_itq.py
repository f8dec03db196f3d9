"""CCA-ITQ: canonical correlation analysis, then iterative quantisation (Gong, Lazebnik, Gordo, Perronnin; TPAMI 2013).

Paper        https://doi.org/10.1109/TPAMI.2012.193 (sections 3 and 5)

The baseline without gradients: linear maps that make the two views of a pair agree, then a rotation that brings the
projections close to the corners of the cube, so that their signs lose little. What a learned method does not beat, it
has not earned.

Symbols      X, Y          centred features, n x d_I and n x d_T
             C_XX, C_YY    covariances, with r times their mean variance added to the diagonal;  C_XY = X'Y / n
             A, B          directions: C_XX^-1/2 U and C_YY^-1/2 V of the singular value decomposition
                           C_XX^-1/2 C_XY C_YY^-1/2 = U diag(rho) V'
             V_x, V_y      projections X A diag(rho), Y B diag(rho): directions weighted by their correlation
             R             rotation, c x c;  Q = || sign(V R) - V R ||^2 is what ITQ lowers, eq. (2)
Loss         none; the steps of ITQ alternate  B = sign(V R)  and  R = the orthogonal Procrustes solution, eq. (3)

Where we differ, and why
 1. One rotation for both views, fitted to the stacked projections: a code must mean the same in either modality. (The
    paper uses CCA with labels as the second view and encodes images only.)
 2. Directions are weighted by their correlation, as the authors' later cross-modal work does (Gong et al., IJCV 2014).
 3. More bits than directions (codes longer than the shorter feature): the projections are first spread over all bits
    by a random matrix with orthonormal rows, which keeps their inner products.
"""

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from xhash_ray.config import option
from xhash_ray.methods.base import Method, Shape, TrainingPairs


@dataclasses.dataclass(frozen=True)
class Settings:
    """CCA-ITQ's settings."""

    ridge: float = option("r, added to the covariances in units of their mean variance", 0.1, source="ours")
    rounds: int = option("alternations of ITQ", 50, source="paper, section 3.2")
    epochs: int = option("not used: there are no gradients", 1, source="none")
    batch_size: int = option("not used: all pairs are seen at once", 1, source="none")


def inverse_root(C: Float[Tensor, "d d"], ridge: float) -> Float[Tensor, "d d"]:
    """(C + ridge times its mean variance)^-1/2, the inverse square root of a covariance."""
    values, vectors = torch.linalg.eigh(C + ridge * C.diagonal().mean() * torch.eye(len(C), dtype=C.dtype))
    return (vectors / values.clamp(min=1e-12).sqrt()) @ vectors.T


def directions(
    X: Float[Tensor, "n d_I"], Y: Float[Tensor, "n d_T"], count: int, ridge: float
) -> tuple[Float[Tensor, "d_I c"], Float[Tensor, "d_T c"]]:
    """A diag(rho) and B diag(rho), the strongest directions, at most `count`."""
    n = len(X)
    root_x, root_y = inverse_root(X.T @ X / n, ridge), inverse_root(Y.T @ Y / n, ridge)
    U, rho, V = torch.linalg.svd(root_x @ (X.T @ Y / n) @ root_y, full_matrices=False)
    c = min(count, len(rho))
    return root_x @ U[:, :c] * rho[:c], root_y @ V.T[:, :c] * rho[:c]


def itq(V: Float[Tensor, "n c"], R: Float[Tensor, "c K"], rounds: int) -> Float[Tensor, "c K"]:
    """The rotation, square or not, after some alternations from a first one, eqs. (2) and (3)."""
    for _ in range(rounds):
        B = torch.where(V @ R >= 0, 1.0, -1.0).to(V.dtype)
        S, _, T = torch.linalg.svd(B.T @ V, full_matrices=False)
        R = (S @ T).T
    return R


class CCAITQ(Method):
    """Two linear maps."""

    paper = "Gong et al., Iterative Quantization: A Procrustean Approach to Learning Binary Codes, TPAMI 2013"
    year = 2013
    phases = ()
    against_collapse = "the rotation spreads the variance over all bits"
    settings_type = Settings
    settings: Settings
    image_map: Tensor
    text_map: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.register_buffer("image_map", torch.zeros(shape.image_length, shape.bits))
        self.register_buffer("text_map", torch.zeros(shape.text_length, shape.bits))

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits both maps; all of the training."""
        super().prepare(pairs, seed)
        X, Y = self.scale_image(pairs.image).double(), self.scale_text(pairs.text).double()
        A, B = directions(X, Y, self.shape.bits, self.settings.ridge)
        generator = torch.Generator().manual_seed(seed)
        square = torch.randn(self.shape.bits, self.shape.bits, generator=generator, dtype=torch.float64)
        spread = torch.linalg.qr(square).Q[
            : A.shape[1]
        ]  # orthonormal rows: a first rotation, or a spread over more bits
        V = torch.cat([X @ A, Y @ B]) @ spread
        R = spread @ itq(V, torch.eye(self.shape.bits, dtype=torch.float64), self.settings.rounds)
        self.image_map.copy_(A @ R)
        self.text_map.copy_(B @ R)

    def image_outputs(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """X A R."""
        return self.scale_image(image) @ self.image_map

    def text_outputs(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """Y B R."""
        return self.scale_text(text) @ self.text_map


METHOD = CCAITQ
