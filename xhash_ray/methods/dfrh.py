"""DFRH: diffused fusion, regressed and rotated. Our own method: no labels, no gradients, minutes.

Paper        none; this page is it. What it owes: kernel CCA's fusion, diffusion maps (Coifman, Lafon; ACHA 2006),
             Nystrom's landmarks (Williams, Seeger; NIPS 2000), ITQ's rotation (cca_itq.py)

Problem      Pairs of two unrelated feature spaces, of one space (both from one CLIP), or of anything between. A code
             comes from one modality alone, means the same in both, and must hold for pairs that training never saw.

Symbols      x, y          prepared rows: what has no negative values is square-rooted, what is sparse weighted by
                           idf; then unit rows, the training mean taken off, unit rows again
             a, b          unit rows of canonical projections of x and y, weighted by correlation;  z = (a + b) / 2
             r_c, r_d      mean reciprocal ranks at which the halves of held-out pairs find each other: by a'b, and by
                           x'y as they are (0 where lengths differ)
             beta          how far the two spaces are one:  r_d^2 / (r_d^2 + r_c^2), nothing below .05
             S             similarity of pairs;  W: of the k = neighbours sqrt(n) nearest, symmetrised;  D: its sums
             nu_j, v_j     strongest eigenpairs of D^-1/2 W D^-1/2, the constant one left out
             F             target: where a pair lies once S has diffused
             f_I, f_T      kernel regressions of F on x alone, on y alone, with landmarks U
             R             the rotation;  code = sign(R' f)
Formulas     S    = (1 - beta) [(1 - w) zz' + w (xx' + yy') / 2] + beta (x + y)(x + y)' / 4                        (1)
             F_j  = (1 - alpha nu_j)^-q (D^-1/2 v)_j                                                              (2)
             f(u) = kappa(u, U) C,   kappa(u, v) = exp(-|u - v|^2 / s),   s the median of |u - v|^2              (3)
             C    = argmin |kappa(X, U) C - F|^2 + lambda tr C' kappa(U, U) C                                    (4)
             h    = R' [sqrt(1 - beta) f(u); sqrt(beta) P'u],   P the principal directions of a shared space     (5)
             R    : principal directions of h over F, f_I(x) and f_T(y) together, then ITQ
Loss         none; (4) is solved, ITQ alternates

What each part buys and where it loses: jobs/RESULTS.md, "A method of our own".

Where we differ, and why
 1. Bounds in place of a graph of everything: at most `graph_pairs` pairs make the graph, a seeded sample. Further ones
    get F from their neighbours in it, F_j(p) = (W F)_j(p) / (nu_j D(p)), which holds exactly on the graph itself.
 2. At most `landmarks` centres, so that encoding costs landmarks (d + bits) products however many pairs trained it. A
    function with a centre on every training pair remembers those pairs, which published protocols reward.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from xhash_ray.config import option
from xhash_ray.errors import BadInput
from xhash_ray.methods.base import Method, Shape, TrainingPairs
from xhash_ray.methods.cca_itq import directions, itq

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
CANONICAL = 64  # projections at most
HELD_OUT = 1000  # pairs at most
BLOCK = 2048  # rows at a time: bounds memory
LEAST = 3  # pairs a graph is made of
WEAKEST = 0.05  # eigenvalue that an extension divides by, at least; and share below which beta is nothing


@dataclasses.dataclass(frozen=True)
class Settings:
    """DFRH's settings."""

    landmarks: int = option("centres of each function, at most", 1024, source="encoding within twice JDSH's products")
    graph_pairs: int = option("pairs of the graph, at most", 8192, source="ours, RESULTS")
    neighbours: float = option("k of the graph in units of sqrt(n)", 1.4, source="ours, RESULTS")
    dimensions: int = option("eigenpairs, at most", 128, source="ours, RESULTS")
    alpha: float = option("share of similarity passed on by diffusion", 0.97, source="ours, RESULTS")
    q: float = option("power of the diffusion", 0.75, source="ours, RESULTS")
    w: float = option("share of each modality's own similarity in S", 1 / 3, source="ours, RESULTS")
    lambda_: float = option("ridge of the regressions", 0.1, source="ours, RESULTS")
    beta: float = option("how far the two spaces are one, 0 to 1; -1: as held-out pairs say", -1.0, source="ours")
    rounds: int = option("alternations of ITQ", 50, source="Gong et al., TPAMI 2013, section 3.2")
    epochs: int = option("not used: there are no gradients", 1, source="none")
    batch_size: int = option("not used: all pairs are seen at once", 1, source="none")


def unit(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of length 1; empty ones stay empty."""
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)


class Preparation(nn.Module):
    """Features to x or y, by statistics of the training pairs."""

    rooted: Tensor
    idf: Tensor
    mean: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("rooted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("idf", torch.ones(length))
        self.register_buffer("mean", torch.zeros(length))

    def fit(self, features: Float[Tensor, "n d"]) -> None:
        """Looks whether features have signs, are sparse, and where they lie."""
        self.rooted.fill_(bool((features >= 0).all()))
        if self.rooted and (features == 0).float().mean() > 0.8:
            self.idf.copy_(((1 + len(features)) / (1 + (features > 0).sum(dim=0))).log())
        self.mean.copy_(self.directions(features).mean(dim=0))

    def directions(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Rooted, weighted, of length 1."""
        return unit((features.clamp(min=0).sqrt() if self.rooted else features) * self.idf)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """x of images, y of texts."""
        return unit(self.directions(features) - self.mean)


class HashFunction(nn.Module):
    """h of one modality, eq. (5), the rotation folded into C and P."""

    U: Tensor
    s: Tensor
    C: Tensor
    P: Tensor

    def __init__(self, length: int, landmarks: int, bits: int) -> None:
        super().__init__()
        self.register_buffer("U", torch.zeros(landmarks, length))
        self.register_buffer("s", torch.ones(()))
        self.register_buffer("C", torch.zeros(landmarks, bits))
        self.register_buffer("P", torch.zeros(length, bits))

    def place(self, rows: Float[Tensor, "n d"], generator: torch.Generator) -> int:
        """Puts landmarks on rows drawn at random, and says how many; sets s."""
        drawn = rows[torch.randperm(len(rows), generator=generator)[: len(self.U)]]
        self.U[: len(drawn)] = drawn
        squares = torch.cdist(drawn, drawn).square()
        self.s.fill_(float(squares[squares > 1e-6].median()) if (squares > 1e-6).any() else 1.0)
        return len(drawn)

    def kappa(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
        """Kernel with every landmark, eq. (3)."""
        squares = u.square().sum(dim=1, keepdim=True) + self.U.square().sum(dim=1) - 2 * u @ self.U.T
        return (-squares / self.s).exp()

    def regress(
        self, rows: Float[Tensor, "n d"], F: Float[Tensor, "n c"], lambda_: float, placed: int
    ) -> Float[Tensor, "m c"]:
        """C of eq. (4), by its normal equations summed over blocks of rows."""
        left, right = torch.zeros(placed, placed).double(), torch.zeros(placed, F.shape[1]).double()
        for u, target in zip(rows.split(BLOCK), F.split(BLOCK), strict=True):
            K = self.kappa(u)[:, :placed].double()
            left, right = left + K.T @ K, right + K.T @ target.double()
        gram = self.kappa(self.U[:placed])[:, :placed].double()
        C = torch.linalg.solve(left + lambda_ * gram + 1e-6 * torch.eye(placed), right)
        return torch.cat([C.float(), torch.zeros(len(self.U) - placed, F.shape[1])])

    def forward(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n bits"]:
        """h."""
        return self.kappa(u) @ self.C + u @ self.P


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


def fused(
    x: Float[Tensor, "n d_I"], y: Float[Tensor, "n d_T"], ridge: float, beta: float, w: float
) -> Float[Tensor, "n d"]:
    """Rows whose inner products are S, eq. (1)."""
    A, B = (M.float() for M in directions(x.double(), y.double(), CANONICAL, ridge))
    z, alone = (unit(x @ A) + unit(y @ B)) / 2, math.sqrt((1 - beta) * w / 2)
    rows = [math.sqrt((1 - beta) * (1 - w)) * z, alone * x, alone * y]
    return torch.cat([*rows, math.sqrt(beta) / 2 * (x + y)] if beta else rows, dim=1)


def nearest(
    rows: Float[Tensor, "n d"], nodes: Float[Tensor, "m d"], k: int, first: int | None = None
) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """S of each row and its k nearest nodes, below 0 taken for 0; `first` is the rows' own place among nodes."""
    S = rows @ nodes.T
    if first is not None:
        S[torch.arange(len(rows)), torch.arange(first, first + len(rows))] = -math.inf
    found = S.topk(k, dim=1)
    return found.values.clamp(min=0), found.indices


def eigenpairs(
    nodes: Float[Tensor, "m d"], k: int, c: int, seed: int
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, "m c"]]:
    """nu and D^-1/2 v of the graph's k nearest neighbours, the strongest first."""
    m = len(nodes)
    blocks = [
        nearest(rows, nodes, k, first) for first, rows in zip(range(0, m, BLOCK), nodes.split(BLOCK), strict=True)
    ]
    values, columns = (torch.cat(part).numpy().ravel() for part in zip(*blocks, strict=True))
    W = scipy.sparse.csr_matrix((values.astype(np.float64), (np.repeat(np.arange(m), k), columns)), (m, m))
    W = W.maximum(W.T)
    root = scipy.sparse.diags((np.asarray(W.sum(axis=1)).ravel() + 1e-9) ** -0.5)
    start = np.random.default_rng(seed).standard_normal(m)
    nu, v = scipy.sparse.linalg.eigsh(root @ W @ root, k=c + 1, which="LA", v0=start)
    strongest = np.argsort(-nu)[1:]
    return nu[strongest], root @ v[:, strongest]


def diffused(rows: Float[Tensor, "n d"], settings: Settings, seed: int) -> Float[Tensor, "n c"]:
    """F of every pair, eq. (2), in units of its mean norm; beyond the graph as said above, 1."""
    n, m = len(rows), min(len(rows), settings.graph_pairs)
    nodes = rows[torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:m].sort().values]
    k = min(max(round(settings.neighbours * math.sqrt(m)), 10), m - 1)
    nu, v = eigenpairs(nodes, k, min(settings.dimensions, m - 2), seed)
    F = torch.from_numpy(v * (1 - settings.alpha * nu) ** -settings.q).float()
    F /= F.square().sum(dim=1).mean().sqrt()
    if m == n:
        return F
    parts = []
    for block in rows.split(BLOCK):
        W, columns = nearest(block, nodes, k)
        weights = W / W.sum(dim=1, keepdim=True).clamp(min=1e-9)
        parts.append(torch.einsum("nk,nkc->nc", weights, F[columns]) / torch.from_numpy(nu).float().clamp(min=WEAKEST))
    return torch.cat(parts)


def principal(rows: Float[Tensor, "n d"], count: int) -> Float[Tensor, "d c"]:
    """The strongest directions of rows about 0, at most `count`, the strongest first."""
    return torch.linalg.eigh(rows.T @ rows / len(rows)).eigenvectors.flip(1)[:, :count]


class DFRH(Method):
    """Two kernel functions fitted to one diffused target."""

    paper = "xhash-ray, DFRH: diffused fusion, regressed and rotated, 2026 (no paper: methods/dfrh.py)"
    year = 2026
    phases = ()
    against_collapse = "the rotation spreads the variance over all bits"
    settings_type = Settings
    settings: Settings
    beta: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.register_buffer("beta", torch.zeros(()))
        self.found: Sequence[str] = ()
        self.prepared_image, self.prepared_text = Preparation(shape.image_length), Preparation(shape.text_length)
        self.image = HashFunction(shape.image_length, settings.landmarks, shape.bits)
        self.text = HashFunction(shape.text_length, settings.landmarks, shape.bits)

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Fits both functions; all of the training."""
        super().prepare(pairs, seed)
        if len(pairs.image) < LEAST:
            raise BadInput(
                "training dfrh", f"{len(pairs.image)} pairs", f"Give {LEAST} or more: it makes a graph of them"
            )
        self.prepared_image.fit(pairs.image)
        self.prepared_text.fit(pairs.text)
        x, y = self.prepared_image(pairs.image), self.prepared_text(pairs.text)
        ridge, r_c, r_d = compared(x, y, seed)
        share = self.settings.beta if self.settings.beta >= 0 else r_d**2 / max(r_d**2 + r_c**2, 1e-12)
        beta = share if share >= WEAKEST and x.shape[1] == y.shape[1] else 0.0
        self.beta.fill_(beta)
        self.found = (f"direct cross-modal similarity used with weight {beta:.2f} (r_d {r_d:.3f}, r_c {r_c:.3f})",)
        self.fit(x, y, diffused(fused(x, y, ridge, beta, self.settings.w), self.settings, seed), beta, seed)

    def findings(self) -> Sequence[str]:
        """Whether the two spaces are one."""
        return self.found

    def fit(
        self, x: Float[Tensor, "n d_I"], y: Float[Tensor, "n d_T"], F: Float[Tensor, "n c"], beta: float, seed: int
    ) -> None:
        """Regresses F and rotates, eqs. (4) and (5)."""
        generator = torch.Generator().manual_seed(seed)
        functions = ((self.image, x), (self.text, y))
        C = [f.regress(u, F, self.settings.lambda_, f.place(u, generator)) for f, u in functions]
        fitted = [
            torch.cat([f.kappa(u) @ C_f for u in rows.split(BLOCK)])
            for (f, rows), C_f in zip(functions, C, strict=True)
        ]
        V = math.sqrt(1 - beta) * torch.cat([F, *fitted]).double()
        P = torch.zeros(x.shape[1], 0).double()
        if beta:
            both = torch.cat([(x + y) / 2, x, y]).double()
            P = principal(both, self.settings.dimensions)
            P = P * math.sqrt(beta) / (both @ P).square().sum(dim=1).mean().sqrt()
            V = torch.cat([V, both @ P], dim=1)
        R = self.rotation(V, seed)
        c = F.shape[1]
        for (f, _), C_f in zip(functions, C, strict=True):
            f.C.copy_(math.sqrt(1 - beta) * C_f.double() @ R[:c])
            if beta:
                f.P.copy_(P @ R[c:])

    def rotation(self, V: Float[Tensor, "n c"], seed: int) -> Float[Tensor, "c bits"]:
        """R: principal directions, spread over all bits where there are fewer, then ITQ."""
        K = self.shape.bits
        top = principal(V, K)
        generator = torch.Generator().manual_seed(seed)
        spread = torch.linalg.qr(torch.randn(K, K, generator=generator, dtype=torch.float64)).Q[: top.shape[1]]
        start = top @ spread
        return start @ itq(V @ start, torch.eye(K, dtype=torch.float64), self.settings.rounds)

    def image_outputs(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """h of images."""
        h: Tensor = self.image(self.prepared_image(image))
        return h

    def text_outputs(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """h of texts."""
        h: Tensor = self.text(self.prepared_text(text))
        return h


METHOD = DFRH
