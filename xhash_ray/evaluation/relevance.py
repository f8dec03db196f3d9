"""Which database items are relevant to a query: those that share at least one label."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt64

from xhash_ray.errors import BadInput, Mismatch


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


def pack_labels(matrix: Shaped[np.ndarray, "n classes"]) -> UInt64[np.ndarray, "n words"]:
    """A multi-hot matrix of any number type as bitmasks: class c is bit c % 64 of word c // 64.

    Returns:
        uint64 [n, ceil(classes / 64)], at least one word.
    """
    words = max(1, -(-matrix.shape[1] // 64))
    bits = np.zeros((len(matrix), words * 64), dtype=bool)
    bits[:, : matrix.shape[1]] = matrix > 0
    packed = np.packbits(bits, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def check_same_classes(queries: np.ndarray, database: np.ndarray) -> None:
    """Raises Mismatch unless two label matrices have as many columns."""
    if queries.shape[1] != database.shape[1]:
        found = f"queries of {queries.shape[1]} classes, items of {database.shape[1]}"
        raise Mismatch("labels", found, "Number the classes of both alike")
