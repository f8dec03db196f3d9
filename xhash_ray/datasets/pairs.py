"""What every reader gives: the pairs of a set in their own order, in blocks that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped, UInt8

from xhash_ray.errors import BadInput

MAX_CLASSES = 100_000


@dataclass(frozen=True)
class Block:
    """Some pairs that follow one another.

    Attributes:
        ids: n ids.
        image: Numbers of any type [n, d_i].
        text: Numbers of any type [n, d_t].
        labels: Class numbers of every pair, None where the set has none.
        metadata: Further columns by name.
    """

    ids: list[str]
    image: Shaped[np.ndarray, "n d_i"]
    text: Shaped[np.ndarray, "n d_t"]
    labels: list[list[int]] | None
    metadata: Mapping[str, pa.ChunkedArray]


@runtime_checkable
class Pairs(Protocol):
    """A set that was opened and found consistent; no feature has been read."""

    @property
    def rows(self) -> int:
        """n."""

    @property
    def lengths(self) -> tuple[int, int]:
        """Numbers per image and per text."""

    @property
    def given(self) -> Shaped[np.ndarray, " n"] | None:
        """The part of every row as the files have it: query, train or database; None where they do not say."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the label numbers, () when unknown."""

    @property
    def facts(self) -> Mapping[str, object]:
        """What else is worth writing down."""

    def label_matrix(self) -> UInt8[np.ndarray, "n classes"]:
        """Zeros and ones.

        Raises:
            BadInput: when the set has no labels.
        """

    def blocks(self, rows_per_block: int) -> Iterator[Block]:
        """All pairs in order."""


def indicators(values: Shaped[np.ndarray, "n c"], place: str) -> UInt8[np.ndarray, "n classes"]:
    """Labels as zeros and ones: a matrix of those, or one column of class numbers.

    Raises:
        BadInput: for anything else, naming the first bad row.
    """
    if values.shape[1] == 1:
        return from_numbers(values[:, 0], place)
    bad = np.argwhere((values != 0) & (values != 1))
    if len(bad):
        row, column = bad[0]
        found = f"row {row}, class {column} is {values[row, column]}"
        raise BadInput(f"labels in {place}", found, "Labels are zeros and ones, or one class number per pair")
    return values.astype(np.uint8)


def from_numbers(numbers: Shaped[np.ndarray, " n"], place: str) -> UInt8[np.ndarray, "n classes"]:
    """One class number per pair as zeros and ones."""
    bad = np.flatnonzero(~((numbers >= 0) & (numbers < MAX_CLASSES) & (numbers == np.floor(numbers))))
    if len(bad):
        found = f"row {bad[0]} is {numbers[bad[0]]}"
        raise BadInput(f"class numbers in {place}", found, f"They are whole numbers from 0 to {MAX_CLASSES - 1:,}")
    whole = numbers.astype(np.int64)
    matrix = np.zeros((len(whole), int(whole.max(initial=0)) + 1), dtype=np.uint8)
    matrix[np.arange(len(whole)), whole] = 1
    return matrix


def widened(matrices: list[UInt8[np.ndarray, "_ _"]]) -> list[UInt8[np.ndarray, "_ _"]]:
    """Parts with as many label columns each: class numbers of one part may end before those of another."""
    width = max(matrix.shape[1] for matrix in matrices)
    return [np.pad(matrix, ((0, 0), (0, width - matrix.shape[1]))) for matrix in matrices]


def class_lists(matrix: UInt8[np.ndarray, "n classes"]) -> list[list[int]]:
    """Zeros and ones as class numbers of every row."""
    return [np.flatnonzero(row).tolist() for row in matrix]
