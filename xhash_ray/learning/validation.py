"""What is looked at after an epoch: how even the bits are, how near the outputs are to their codes, validation MAP.

Queries never take part. Validation pairs are set aside from the training pairs before training; they search the pairs
that are trained on (a sample, where there are many).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from xhash_ray.evaluation.retrieval import mean_average_precision
from xhash_ray.learning.data import Pairs
from xhash_ray.methods.base import Method

HEALTH_ROWS = 256  # enough for two digits of a bit's mean, and cheap beside an epoch
DATABASE_ROWS = 20_000


@dataclass(frozen=True)
class Examination:
    """Looks at a method after an epoch.

    Attributes:
        training: Training pairs, or some of them.
        validation: Pairs set aside, None without validation.
        every: Epochs between two validations.
        last: The last epoch, which is always validated.
        device: Where the method is.
    """

    training: Pairs
    validation: Pairs | None
    every: int
    last: int
    device: str = "cpu"

    @torch.inference_mode()
    def __call__(self, method: Method, epoch: int) -> dict[str, float]:
        """`bit_balance`, `quantisation_error`, and `validation_map` where there are labels."""
        found = output_health(method, (self.validation or self.training).first(HEALTH_ROWS), self.device)
        due = (epoch + 1) % self.every == 0 or epoch == self.last
        if due and self.validation and self.validation.labels is not None and self.training.labels is not None:
            found["validation_map"] = self.validation_map(method)
        return found

    def validation_map(self, method: Method) -> float:
        """MAP@all expected over ties, mean of both directions."""
        assert self.validation is not None
        database = self.training.first(DATABASE_ROWS)
        scores = []
        for source, target in (("image", "text"), ("text", "image")):
            queries = method.encode(source, getattr(self.validation, source).to(self.device))
            codes = method.encode(target, getattr(database, target).to(self.device))
            labels, found = numbers(self.validation.labels), numbers(database.labels)
            scores.append(mean_average_precision(queries, codes, labels, found, threads=1))
        return float(np.mean(scores))


def numbers(labels: Tensor | None) -> np.ndarray:
    """Labels as numpy."""
    assert labels is not None
    return labels.numpy()


def output_health(method: Method, pairs: Pairs, device: str) -> dict[str, float]:
    """Two numbers over both modalities' outputs.

    `bit_balance`: mean over bits of |share of ones - 1/2| * 2; 0 where every bit splits the rows in half, 1 where all
    are stuck. `quantisation_error`: mean over rows of 1 - cosine(output, its signs); 0 where outputs are their codes.
    """
    balances, errors = [], []
    for name in ("image", "text"):
        outputs = method.outputs(name, getattr(pairs, name).to(device)).float()
        signs = torch.where(outputs >= 0, 1.0, -1.0)
        balances.append(signs.mean(dim=0).abs().mean())
        errors.append(1 - (normalize(outputs) * normalize(signs)).sum(dim=1).mean())
    return {
        "bit_balance": float(torch.stack(balances).mean()),
        "quantisation_error": float(torch.stack(errors).mean()),
    }
