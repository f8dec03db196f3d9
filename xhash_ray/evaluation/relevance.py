"""Which database items are relevant to a query: those that share at least one label."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt64

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


def pack_label_numbers(
    rows: Int[np.ndarray, " m"], numbers: Int[np.ndarray, " m"], n: int
) -> UInt64[np.ndarray, "n words"]:
    """Bitmasks of n rows from (row, label number) pairs, as wide as the highest number needs.

    Raises:
        BadInput: for a negative label number.
    """
    if numbers.min(initial=0) < 0:
        raise BadInput("labels", f"label number {numbers.min()}", "Check the label column")
    numbers = numbers.astype(np.uint64)
    masks = np.zeros((n, int(numbers.max(initial=0)) // 64 + 1), dtype=np.uint64)
    np.bitwise_or.at(masks, (rows, (numbers // 64).astype(np.int64)), np.uint64(1) << (numbers % 64))
    return masks


def widen(
    queries: UInt64[np.ndarray, "q words_q"], database: UInt64[np.ndarray, "n words_n"]
) -> tuple[UInt64[np.ndarray, "q words"], UInt64[np.ndarray, "n words"]]:
    """Both sides with as many words as the wider one."""
    words = max(queries.shape[1], database.shape[1])
    wide = [np.pad(side, ((0, 0), (0, words - side.shape[1]))) for side in (queries, database)]
    return wide[0], wide[1]
