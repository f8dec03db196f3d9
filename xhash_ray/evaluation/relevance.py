"""Which database items are relevant to a query: those that share at least one label."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from xhash_ray.errors import BadInput


def label_matrix(labels: Sequence[Sequence[int]], classes: int) -> Float[np.ndarray, "n classes"]:
    """Lists of label numbers as float32 [n, classes] of zeros and ones.

    Raises:
        BadInput: for a label number outside 0 .. classes - 1.
    """
    matrix = np.zeros((len(labels), classes), dtype=np.float32)
    for row, numbers in enumerate(labels):
        for number in numbers:
            if not 0 <= number < classes:
                raise BadInput("labels", f"label number {number} of {classes} classes", "Check the label column")
            matrix[row, number] = 1
    return matrix


def shares_a_label(
    queries: Float[np.ndarray, "q classes"], database: Float[np.ndarray, "n classes"]
) -> Bool[np.ndarray, "q n"]:
    """True where query and item have a label in common."""
    return queries @ database.T > 0
