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
             F             target: where a pair lies once S has diffused; those of several w side by side, each over
                           the root of their number; in units of its mean norm, as P x and P y are
             f_I, f_T      kernel regressions of F on x alone, on y alone, with landmarks U
             h             outputs of one modality;  code = sign(h)
Formulas     S    = (1 - beta) [(1 - w) zz' + w (xx' + yy') / 2] + beta (x + y)(x + y)' / 4                        (1)
             F_j  = (1 - alpha nu_j)^-q (D^-1/2 v)_j  of the graph's nodes; of any pair, a node or not, the mean of
                    its k nearest nodes' F_j, weighted by S (0 where it is negative) and divided by nu_j, or by
                    .05 where that is more                                                                       (2)
             f(u) = kappa(u, U) C,   kappa(u, v) = exp(-|u - v|^2 / s),   s the median of |u - v|^2              (3)
             C    = argmin |kappa(X, U) C - F|^2 + lambda tr C' kappa(U, U) C                                    (4)
             h    = R' [sqrt(1 - beta) f(u); sqrt(beta) P'u],   P the principal directions of a shared space     (5)
             R    = argmax sum |V R|,  R'R = 1, or RR' = 1 where bits outnumber directions:  of V, the rows of (5) for
                    F, f_I(x) and f_T(y) together, ITQ without truncation:                                       (6)
                    B = sign(V R) and R = ST' of V'B = S D T' in turns, from a random start
             C    : the regression (4) once more, onto what sign(h_I(x) + h_T(y)) leaves to P; the signs times level,
                    the mean of |V R|                                                                        (7)
Loss         none; a pass over all pairs (streamed: over all whole batches) sums what (4) needs, another what (7) needs

What each part buys and where it loses: jobs/RESULTS.md, "A method of our own".

Where we differ, and why
 1. Bounds in place of a graph of everything: at most `graph_pairs` pairs make the graph, a seeded sample, and R is
    fitted to these. CCA and statistics see `sample` pairs.
 2. At most `landmarks` centres, so that encoding costs landmarks (d + bits) products however many pairs trained it. A
    function with a centre on every training pair remembers those pairs, which published protocols reward.
"""

import dataclasses
import math
from collections.abc import Sequence

import scipy.sparse
import torch
from jaxtyping import Float
from torch import Tensor

from xhash_ray.config import option
from xhash_ray.errors import BadInput, BadOption
from xhash_ray.methods.base import Batch, Method, Shape, TrainingPairs, World
from xhash_ray.methods.cca_itq import directions
from xhash_ray.methods.fusion import CANONICAL, compared
from xhash_ray.methods.graphs import BLOCK, eigenpairs, extended, neighbour_graph
from xhash_ray.methods.kernels import KernelFunction
from xhash_ray.methods.rotations import principal, rotation
from xhash_ray.methods.scaling import Preparation, unit

SHARES = ("0.2", "0.33", "0.6")
LEAST = 3  # pairs a graph is made of
LEAST_NEIGHBOURS = 10
LEAST_BETA = 0.05  # below, the spaces are two
HIDDEN = 1024  # units of JDSH, whose encoding of a pair may take half of ours
COST = 1.85  # our products for one of JDSH's: with exponentials and the preparation of rows that is twice its time
MOST_LANDMARKS = 4096  # the normal equations grow with their square


@dataclasses.dataclass(frozen=True)
class Settings:
    """DFRH's settings."""

    landmarks: int = option(
        "centres of each function, at most; 0: by what encoding may cost", 0, source="landmarks_for"
    )
    graph_pairs: int = option("pairs of the graph, at most", 8192, source="ours, RESULTS")
    sample: int = option("pairs that statistics and CCA see, at most", 65_536, source="ours")
    neighbours: float = option("k of the graph in units of sqrt(n)", 0.7, source="ours, RESULTS")
    dimensions: int = option("eigenpairs, at most", 128, source="ours, RESULTS")
    alpha: float = option("share of similarity passed on by diffusion", 0.97, source="ours, RESULTS")
    q: float = option("power of the diffusion", 0.75, source="ours, RESULTS")
    w: tuple[str, ...] = option("shares of own similarities in S; a graph each", SHARES, source="ours, RESULTS")
    lambda_: float = option("ridge of the regressions", 0.1, source="ours, RESULTS")
    beta: float = option("how far the two spaces are one, 0 to 1; -1: as held-out pairs say", -1.0, source="ours")
    rounds: int = option("alternations of ITQ", 50, source="Gong et al., TPAMI 2013, section 3.2")
    epochs: int = option("passes: one onto F, further ones onto bits", 2, source="ours, RESULTS")
    batch_size: int = option("pairs summed at once; in memory the result is the same", 4096, source="none")

    def __post_init__(self) -> None:
        """Refuses numbers that cannot be.

        Raises:
            BadOption: for the first of them.
        """
        for name, fits, do in (
            ("alpha", 0 <= self.alpha < 1, "Give a number from 0 to below 1"),
            ("beta", self.beta == -1 or 0 <= self.beta <= 1, "Give a number within 0 and 1, or -1"),
            ("landmarks", self.landmarks >= 0, "Give 0 or more"),
            ("dimensions", self.dimensions >= 1, "Give 1 or more"),
            ("sample", self.sample >= LEAST, f"Give {LEAST} or more"),
            ("graph_pairs", self.graph_pairs >= LEAST, f"Give {LEAST} or more"),
        ):
            if not fits:
                raise BadOption(f"settings.{name}", f"{getattr(self, name)}", do)

    @property
    def shares(self) -> list[float]:
        """`w` as numbers.

        Raises:
            BadOption: for what is none, or not within 0 and 1.
        """
        try:
            found = [float(share) for share in self.w]
        except ValueError:
            found = []
        if not found or not all(0 <= share <= 1 for share in found):
            raise BadOption("settings.w", f"{','.join(map(str, self.w)) or 'nothing'}", "Give numbers within 0 and 1")
        return found


def landmarks_for(shape: Shape) -> int:
    """Centres of each function such that a pair's encoding takes at most COST times JDSH's products, or those that
    JDSH takes at 512/512 and 64 bits, where that is more."""
    d, may_be_shared = shape.image_length + shape.text_length, shape.image_length == shape.text_length
    products = int(COST * max(jdsh_products(shape), jdsh_products(Shape(64, 512, 512))))
    left = products - (d * shape.bits if may_be_shared else 0)  # P of eq. (5)
    return min(MOST_LANDMARKS, left // (d + 2 * shape.bits))


def jdsh_products(shape: Shape) -> int:
    """Multiplications of a pair's encoding by JDSH: a linear map of images, a net of texts with one hidden layer."""
    return shape.image_length * shape.bits + (shape.text_length + shape.bits) * HIDDEN


class HashFunction(KernelFunction):
    """h of one modality, eq. (5), the rotation folded into C and P."""

    P: Tensor

    def __init__(self, length: int, bits: int) -> None:
        super().__init__(length, bits)
        self.register_buffer("P", torch.zeros(length, bits))

    def forward(self, u: Float[Tensor, "n d"]) -> Float[Tensor, "n bits"]:
        """h."""
        return super().forward(u) + u @ self.P


def diffused(
    W: scipy.sparse.csr_matrix, settings: Settings, seed: int
) -> tuple[Float[Tensor, "m c"], Float[Tensor, " c"]]:
    """F of a graph's pairs, eq. (2), in units of its mean norm, and nu."""
    nu, v = eigenpairs(W, min(settings.dimensions, W.shape[0] - 2), seed)
    F = torch.from_numpy(v * (1 - settings.alpha * nu) ** -settings.q).float()
    return F / F.square().sum(dim=1).mean().sqrt(), torch.from_numpy(nu).float()


def shared_directions(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n d"], beta: float, count: int
) -> tuple[Float[Tensor, "d c"], Float[Tensor, "three_n c"]]:
    """sqrt(beta) P in units of its mean norm, and what it gives of the pairs, the images and the texts."""
    both = torch.cat([(x + y) / 2, x, y]).double()
    P = principal(both, count)
    P = P * math.sqrt(beta) / (both @ P).square().sum(dim=1).mean().sqrt()
    return P, both @ P


class DFRH(Method):
    """Two kernel functions fitted to one diffused target."""

    paper = "xhash-ray, DFRH: diffused fusion, regressed and rotated, 2026 (no paper: methods/dfrh.py)"
    year = 2026
    phases = ("regression",)
    gradient_free = frozenset(phases)
    against_collapse = "the rotation spreads the variance over all bits"
    settings_type = Settings
    settings: Settings
    beta: Tensor
    A: Tensor
    B: Tensor
    nodes_x: Tensor
    nodes_y: Tensor
    F: Tensor
    nu: Tensor
    level: Tensor
    sums_image: Tensor
    sums_text: Tensor

    def __init__(self, shape: Shape, settings: Settings) -> None:
        super().__init__(shape, settings)
        self.register_buffer("beta", torch.zeros(()))
        self.found: Sequence[str] = ()
        self.seed, self.neighbours = 0, 0
        self.prepared_image, self.prepared_text = Preparation(shape.image_length), Preparation(shape.text_length)
        self.image, self.text = (
            HashFunction(shape.image_length, shape.bits),
            HashFunction(shape.text_length, shape.bits),
        )

    def prepare(self, pairs: TrainingPairs, seed: int) -> None:
        """Looks what the features are, makes the graph, places landmarks.

        Raises:
            BadInput: for fewer pairs than make a graph.
        """
        if len(pairs.image) < LEAST:
            found = f"{len(pairs.image)} pairs"
            raise BadInput("training dfrh", found, f"Give {LEAST} or more: it makes a graph of them")
        self.seed, generator = seed, torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(pairs.image), generator=generator)[: self.settings.sample].sort().values
        image, text = pairs.image[chosen], pairs.text[chosen]
        super().prepare(TrainingPairs(image, text, None, pairs.total), seed)
        self.prepared_image.fit(image)
        self.prepared_text.fit(text)
        x, y = self.prepared_image(image), self.prepared_text(text)
        self.decide(x, y, seed)
        landmarks = self.settings.landmarks or landmarks_for(self.shape)
        self.image.place(x, landmarks, generator)
        self.text.place(y, landmarks, generator)
        graph = torch.randperm(len(x), generator=generator)[: self.settings.graph_pairs].sort().values
        self.diffuse(x[graph], y[graph])

    def decide(self, x: Float[Tensor, "n d_I"], y: Float[Tensor, "n d_T"], seed: int) -> None:
        """The canonical projections, and beta."""
        ridge, r_c, r_d = compared(x, y, seed)
        share = self.settings.beta if self.settings.beta >= 0 else r_d**2 / max(r_d**2 + r_c**2, 1e-12)
        self.beta.fill_(share if share >= LEAST_BETA and x.shape[1] == y.shape[1] else 0.0)
        self.found = (f"direct cross-modal similarity used with weight {self.beta:.2f} (r_d {r_d:.3f}, r_c {r_c:.3f})",)
        A, B = directions(x.double(), y.double(), CANONICAL, ridge)
        self.keep(A=A.float(), B=B.float())

    def diffuse(self, x: Float[Tensor, "m d_I"], y: Float[Tensor, "m d_T"]) -> None:
        """F of the graphs' pairs, side by side, and empty sums."""
        m = len(x)
        self.keep(nodes_x=x, nodes_y=y)
        self.neighbours = min(max(round(self.settings.neighbours * math.sqrt(m)), LEAST_NEIGHBOURS), m - 1)
        found = []
        for w in self.settings.shares:
            blocks = (self.similarities(*rows, (w,))[0] for rows in zip(x.split(BLOCK), y.split(BLOCK), strict=True))
            W = neighbour_graph(blocks, self.neighbours)
            if not W.sum():  # of very few pairs all may be less alike than the average
                raise BadInput("training dfrh", f"{m} pairs no two of which are alike", "Give more pairs, some dozens")
            found.append(diffused(W, self.settings, self.seed))
        F = torch.cat([F for F, _ in found], dim=1) / math.sqrt(len(found))
        self.keep(F=F, nu=torch.cat([nu for _, nu in found]), level=torch.zeros(()))
        for name, function in (("sums_image", self.image), ("sums_text", self.text)):
            m = len(function.U)
            self.keep(**{name: torch.zeros(m, m + max(F.shape[1], self.shape.bits), dtype=torch.float64)})

    def keep(self, **buffers: Tensor) -> None:
        """Buffers of the training alone."""
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def similarities(
        self, x: Float[Tensor, "n d_I"], y: Float[Tensor, "n d_T"], shares: Sequence[float]
    ) -> list[Float[Tensor, "n m"]]:
        """S of pairs and the graph's, eq. (1), for every share w."""
        beta, X, Y = float(self.beta), self.nodes_x, self.nodes_y
        z, Z = ((unit(u @ self.A) + unit(v @ self.B)) / 2 for u, v in ((x, y), (X, Y)))
        fused = z @ Z.T
        own = torch.addmm(y @ Y.T, x, X.T, beta=0.5, alpha=0.5)
        S = [torch.lerp(fused, own, w) for w in shares]  # as few passes over n m numbers as can be: they take the time
        if not beta:
            return S
        directly = (x + y) @ (X + Y).T / 4
        return [each.lerp_(directly, beta) for each in S]

    def forward(self, batch: Batch, phase: str, world: World) -> dict[str, Tensor]:
        """Adds all workers' rows to the sums that eq. (4) or (7) needs."""
        x, y = self.prepared_image(batch.image), self.prepared_text(batch.text)
        onto = self.bits(x, y) if self.level else self.target(x, y)
        for sums, function, u in ((self.sums_image, self.image, x), (self.sums_text, self.text, y)):
            own = function.sums(u, onto - u @ function.P if self.level else onto)
            sums[:, : own.shape[1]] += world.size * world.mean(own.flatten()).view_as(own)
        return {}

    def bits(self, x: Float[Tensor, "n d_I"], y: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """The bits that both functions together give pairs, in units of outputs."""
        return torch.where(self.image(x) + self.text(y) >= 0, 1.0, -1.0) * self.level

    def target(self, x: Float[Tensor, "n d_I"], y: Float[Tensor, "n d_T"]) -> Float[Tensor, "n c"]:
        """F of any pairs."""
        shares, parts = self.settings.shares, []
        graphs = list(zip(self.F.chunk(len(shares), dim=1), self.nu.chunk(len(shares)), strict=True))
        for rows in zip(x.split(BLOCK), y.split(BLOCK), strict=True):
            S = self.similarities(*rows, shares)
            each = [extended(one, F, nu, self.neighbours) for one, (F, nu) in zip(S, graphs, strict=True)]
            parts.append(torch.cat(each, dim=1))
        return torch.cat(parts)

    def end_epoch(self, epoch: int, world: World) -> None:
        """Solves eq. (4) and rotates; after later passes solves eq. (7)."""
        c = self.shape.bits if self.level else self.F.shape[1]
        C_I, C_T = (
            function.solved(sums[:, : len(sums) + c], self.settings.lambda_)
            for function, sums in ((self.image, self.sums_image), (self.text, self.sums_text))
        )
        if self.level:
            self.image.C.copy_(C_I)
            self.text.C.copy_(C_T)
        else:
            self.rotate(C_I, C_T)
        self.sums_image.zero_()
        self.sums_text.zero_()

    def rotate(self, C_I: Float[Tensor, "m_I c"], C_T: Float[Tensor, "m_T c"]) -> None:
        """Eq. (5) with R of eq. (6)."""
        beta, x, y = float(self.beta), self.nodes_x, self.nodes_y
        V = torch.cat([self.F.double(), self.image.kappa(x).double() @ C_I, self.text.kappa(y).double() @ C_T])
        V, P = math.sqrt(1 - beta) * V, torch.zeros(self.shape.image_length, 0, dtype=torch.float64, device=V.device)
        if beta:
            P, directly = shared_directions(x, y, beta, self.settings.dimensions)
            V = torch.cat([V, directly], dim=1)
        R, c = rotation(V, self.shape.bits, self.settings.rounds, self.seed), self.F.shape[1]
        for function, C in ((self.image, C_I), (self.text, C_T)):
            function.C.copy_(math.sqrt(1 - beta) * C @ R[:c])
            if beta:
                function.P.copy_(P @ R[c:])
        self.level.copy_((V @ R).abs().mean())

    def findings(self) -> Sequence[str]:
        """Whether the two spaces are one."""
        return self.found

    def image_outputs(self, image: Float[Tensor, "n d_I"]) -> Float[Tensor, "n bits"]:
        """h of images."""
        h: Tensor = self.image(self.prepared_image(image))
        return h

    def text_outputs(self, text: Float[Tensor, "n d_T"]) -> Float[Tensor, "n bits"]:
        """h of texts."""
        h: Tensor = self.text(self.prepared_text(text))
        return h


METHOD = DFRH
