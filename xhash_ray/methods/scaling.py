"""Two rules that take unit and offset out of features.

Features arrive with row norms anywhere from 0.2 to 400 and with means far from zero, and learning rates were tuned
on others. FeatureScaling, for all that learns by gradients: each modality is centred on its training mean, then
multiplied by one number so that the mean row norm of the training set is sqrt(d), as if every coordinate had unit
variance. Counts (whole numbers, such as a bag of words) are only centred: their unit, one occurrence, means the same
everywhere, and blowing up rare words costs JDSH 0.03 MAP on product titles. Preparation, for kernels and graphs, looks
at directions alone. Either is fitted once, stored with the weights, and applied when encoding.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xhash_ray.errors import BadInput


class FeatureScaling(nn.Module):
    """Centres rows of length d and multiplies them by one fitted number.

    Attributes:
        mean: float32 [d] buffer; 0 until fitted.
        factor: float32 scalar buffer; 1 until fitted.
        signed: bool scalar buffer, whether some training feature is negative; for training only.
    """

    mean: Tensor
    factor: Tensor
    signed: Tensor

    def __init__(self, length: int, modality: str = "feature") -> None:
        super().__init__()
        self.length, self.modality = length, modality
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("factor", torch.ones(()))
        self.register_buffer("signed", torch.zeros((), dtype=torch.bool), persistent=False)

    def fit(self, features: Float[Tensor, "n d"]) -> None:
        """Sets the mean, and the factor to sqrt(d) / (mean norm of the centred rows).

        Raises:
            BadInput: when all rows are the same, so that nothing can be learned from them.
        """
        self.mean.copy_(features.mean(dim=0))
        self.signed.copy_((features < 0).any())
        norm = (features - self.mean).norm(dim=1).mean()
        if norm <= 1e-6 * features.norm(dim=1).mean() or norm == 0:
            raise BadInput(f"scaling {self.modality} features", "all rows are the same", "Check the extraction")
        if not torch.equal(features, features.round()):
            self.factor.copy_(math.sqrt(self.length) / norm)

    def for_similarity(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """What cosines between features are taken of.

        Features without negative values (ReLU outputs, word counts: zero means absence) as they are, as in the papers.
        Signed ones (CLIP) centred: their raw cosines lie so close together that every pair counts as similar.
        """
        return features - self.mean if self.signed else features

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The centred and scaled rows."""
        return (features - self.mean) * self.factor


def unit(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of length 1; empty ones stay empty."""
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)


class Preparation(nn.Module):
    """Rows of length 1 about their mean: rooted where never negative, and weighted by idf where sparse, too.

    Attributes:
        rooted: bool scalar buffer.
        idf: float32 [d] buffer; 1 where features are not sparse.
        mean: float32 [d] buffer, of the training rows' directions.
    """

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
        """The prepared rows; empty ones lie opposite to the mean."""
        return unit(self.directions(features) - self.mean)
