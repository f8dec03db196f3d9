"""One rule that takes the unit out of features.

Features arrive with row norms anywhere from 0.2 to 400, and learning rates were tuned on others. The rule:
each modality is multiplied by one number so that the mean row norm of the training set is sqrt(d), as if every
coordinate had unit variance. It is fitted once, stored with the weights, and applied when encoding.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xhash_ray.errors import BadInput


class FeatureScaling(nn.Module):
    """Multiplies rows of length d by one fitted number.

    Attributes:
        factor: float32 scalar buffer; 1 until fitted.
    """

    factor: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.register_buffer("factor", torch.ones(()))

    def fit(self, features: Float[Tensor, "n d"]) -> None:
        """Sets the factor to sqrt(d) / (mean row norm).

        Raises:
            BadInput: when all features are zero.
        """
        norm = features.norm(dim=1).mean()
        if norm == 0:
            raise BadInput("scaling features", "all of them are zero", "Check the extraction")
        self.factor.copy_(math.sqrt(self.length) / norm)

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The scaled rows."""
        return features * self.factor
