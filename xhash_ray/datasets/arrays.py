"""Arrays out of the files that data sets are handed round in, read in slices where the file allows it.

    .npy                     memory-mapped
    .mat 7.3, .h5, .h5py     HDF5, in slices
    .mat up to 7             whole, sparse ones stay sparse
    .list                    Wikipedia's tables: the last word of a line is a class number, counted from 1

MATLAB writes HDF5 with the axes reversed, Python programs write it as it is, and files of the same name exist both
ways (YAll of nus-wide-tc10-yall.mat is 1000 x 186577 to h5py, YAll of some FLICKR-25K.mat 20015 x 1386). So which
axis of an HDF5 array counts the pairs is decided by what all arrays of a set agree on.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from xhash_ray.errors import BadInput, Mismatch

HDF5_SUFFIXES = (".h5", ".h5py", ".hdf5")
SUFFIXES = (".npy", ".mat", ".list", *HDF5_SUFFIXES)


@dataclass(frozen=True)
class Array:
    """An array in a file, not read yet.

    Attributes:
        values: Something with a shape that can be sliced along its axes.
        place: File and variable, for messages.
        axes: Which axes may count the pairs, the likeliest first.
    """

    values: Any
    place: str
    axes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Axes as the file's reader gives them."""
        return tuple(self.values.shape)

    @property
    def counts(self) -> list[int]:
        """How many pairs it may hold, the likeliest first."""
        return [self.shape[axis] for axis in self.axes]


@dataclass(frozen=True)
class Matrix:
    """An array of which one row per pair can be read.

    Attributes:
        array: Where the numbers are.
        axis: The one that counts the pairs.
    """

    array: Array
    axis: int

    @property
    def rows(self) -> int:
        """n, the pairs."""
        return self.array.shape[self.axis]

    @property
    def columns(self) -> int:
        """Numbers of a pair; 1 for a vector."""
        return math.prod(self.array.shape) // max(self.rows, 1)

    def read(self, start: int, stop: int) -> Shaped[np.ndarray, "n d"]:
        """Rows start..stop, of the file's number type."""
        taken = self.array.values[start:stop] if self.axis == 0 else self.array.values[:, start:stop].T
        dense = taken.toarray() if hasattr(taken, "toarray") else np.asarray(taken)
        return dense.reshape(-1, self.columns)


def package(name: str, path: Path) -> Any:
    """A module of the extra `datasets`.

    Raises:
        BadInput: when it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        found = f"the package {name.split('.')[0]} is not installed"
        raise BadInput(f"reading {path}", found, "pip install 'xhash-ray[datasets]'") from None


def is_hdf5(path: Path) -> bool:
    """Whether a .mat or .h5 file is HDF5 inside; MATLAB's own header may come first."""
    return bool(package("h5py", path).is_hdf5(path))


def variables(path: Path) -> list[str]:
    """Names of what a file holds; [""] where a file is one array.

    Raises:
        BadInput: when the file is not of the format its name says.
    """
    if path.suffix in (".npy", ".list"):
        return [""]
    try:
        if is_hdf5(path):
            with package("h5py", path).File(path, "r") as file:
                return [name for name in file if not name.startswith("#")]
        if path.suffix in HDF5_SUFFIXES:
            raise ValueError("not HDF5")
        return [name for name, _, _ in package("scipy.io", path).whosmat(path)]
    except (OSError, ValueError, TypeError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> BadInput:
    """The error for a file that its library cannot read."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return BadInput(f"reading {path}", f"not readable as {path.suffix} ({line})", "Fetch the file again")


def open_array(path: Path, key: str) -> Array:
    """One array of a file.

    Args:
        path: A file with one of SUFFIXES.
        key: The variable, "group/variable" for one inside a group of HDF5, "" for a file that is one array.

    Raises:
        BadInput: when the file is broken or the variable is no array of numbers.
    """
    place = f"{path.name} {key}".strip()
    try:
        values, either_way, rows_last = open_values(path, key)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise unreadable(path, error) from None
    if getattr(values, "dtype", np.dtype(object)).kind not in "fiub" or not values.shape:
        found = f"{place} is no array of numbers (a struct, a cell or a sparse matrix of version 7.3)"
        raise BadInput(f"reading {path}", found, "Store it as a full matrix")
    return Array(values, place, pair_axes(tuple(values.shape), either_way, rows_last))


def open_values(path: Path, key: str) -> tuple[Any, bool, bool]:
    """What can be sliced, whether its axes may be reversed, and whether they probably are."""
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False), False, False
    if path.suffix == ".list":
        return class_numbers(path), False, False
    if is_hdf5(path):
        values = package("h5py", path).File(path, "r")[key]
        return values, True, "MATLAB_class" in values.attrs
    values = package("scipy.io", path).loadmat(path, variable_names=[key])[key]
    return values.tocsr() if hasattr(values, "tocsr") else values, False, False


def class_numbers(path: Path) -> Int64[np.ndarray, " n"]:
    """Classes of a Wikipedia list: lines of text name, image name, class number from 1."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return np.array([int(line.split()[-1]) - 1 for line in lines if line.strip()])


def pair_axes(shape: tuple[int, ...], either_way: bool, rows_last: bool) -> tuple[int, ...]:
    """Which axes may count the pairs: the first, or the last where axes may be reversed; a row vector's second."""
    last = len(shape) - 1
    if last == 0 or not either_way:
        return (1,) if len(shape) == 2 and shape[0] == 1 < shape[1] else (0,)
    return (last, 0) if rows_last else (0, last)


def aligned(arrays: Mapping[str, Array], asked: str) -> dict[str, Matrix]:
    """Arrays of the same pairs, each with the axis known that counts them.

    Raises:
        Mismatch: when there is no number of pairs that fits all.
    """
    first, *others = arrays.values()
    common = [count for count in first.counts if all(count in array.counts for array in others)]
    if not common:
        found = ", ".join(f"{role} {described(array)}" for role, array in arrays.items())
        raise Mismatch(asked, f"different numbers of pairs: {found}", "Name files of one and the same set")
    return {role: Matrix(array, array.axes[array.counts.index(common[0])]) for role, array in arrays.items()}


def described(array: Array) -> str:
    """Shape and place, for messages."""
    return f"{' x '.join(map(str, array.shape))} ({array.place})"


def is_pixels(array: Array) -> bool:
    """Whether it holds images as they are: three colours or more axes than a matrix has."""
    return len(array.shape) > 2


def named(path: Path, keys: Sequence[str]) -> str | None:
    """The first of the wanted variables that a file has; None when it has none of them."""
    if path.suffix in (".npy", ".list"):
        return ""
    held = variables(path)
    return next((key for key in keys if key.split("/")[0] in held), None)
