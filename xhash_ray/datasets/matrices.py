"""Sets of arrays: the files of a layout found, opened, checked against each other and read in blocks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from xhash_ray.datasets import arrays, pairs
from xhash_ray.datasets.arrays import SUFFIXES, Array, Matrix
from xhash_ray.datasets.finding import is_absent, local, require
from xhash_ray.datasets.layouts import IMAGE_KEYS, LAYOUTS, Layout, Part
from xhash_ray.datasets.pairs import Block
from xhash_ray.errors import BadInput, Mismatch

ROWS_PER_READ = 2048


@dataclass(frozen=True)
class Opened:
    """One part of a set: three arrays of the same pairs, the labels in memory."""

    split: str
    image: Matrix
    text: Matrix
    labels: UInt8[np.ndarray, "n classes"]


class MatrixPairs:
    """A set of arrays in one of the layouts; see `Pairs`.

    Args:
        parts: At least one, with as many label columns each.
        given: The part of every row, None where the files do not say.
        classes: Names of the label columns.
        facts: What else is worth writing down.
    """

    def __init__(
        self,
        parts: Sequence[Opened],
        given: Shaped[np.ndarray, " n"] | None,
        classes: tuple[str, ...],
        facts: Mapping[str, object],
    ) -> None:
        self.parts, self.given, self.classes, self.facts = parts, given, classes, facts
        self.rows = sum(part.image.rows for part in parts)
        self.lengths = parts[0].image.columns, parts[0].text.columns

    def label_matrix(self) -> UInt8[np.ndarray, "n classes"]:
        """Zeros and ones."""
        return np.concatenate([part.labels for part in self.parts])

    def blocks(self, rows_per_block: int) -> Iterator[Block]:
        """All pairs in order; ids are row numbers, with the part's name where there are several."""
        for part in self.parts:
            prefix = f"{part.split}-" if len(self.parts) > 1 else ""
            for start in range(0, part.image.rows, rows_per_block):
                stop = min(start + rows_per_block, part.image.rows)
                ids = [f"{prefix}{row:06d}" for row in range(start, stop)]
                labels = pairs.class_lists(part.labels[start:stop])
                yield Block(ids, part.image.read(start, stop), part.text.read(start, stop), labels, {})


def open_matrices(
    layout_name: str, source: str, image_features: str | None = None, text_features: str | None = None
) -> MatrixPairs:
    """Opens a set of arrays.

    Args:
        layout_name: A key of LAYOUTS.
        source: The folder, or the file where a layout is one file.
        image_features: A file with one row per pair that replaces the images' array.
        text_features: Likewise for the texts.

    Raises:
        BadInput: when files or variables are missing, images are pixels, or labels are not zeros and ones.
        Mismatch: when arrays differ in their number of pairs or columns.
    """
    layout, folder = LAYOUTS[layout_name], local(source)
    others = {"image": image_features, "text": text_features}
    present = [part for part in layout.parts if not (part.optional and is_absent(part, folder))]
    if len(present) > 1 and any(others.values()):
        do = "Replace the arrays in the set's own files"
        raise BadInput(f"layout {layout_name}", "its parts have separate row numbers, one file cannot serve all", do)
    opened = [open_part(part, folder, others) for part in present]
    labels = pairs.widened([part.labels for part in opened])
    parts = [Opened(part.split, part.image, part.text, each) for part, each in zip(opened, labels, strict=True)]
    check_lengths(parts, source)
    parts, given, facts = assign(parts, layout, folder)
    return MatrixPairs(parts, given, layout.classes or class_names(folder), facts)


def open_part(part: Part, folder: Path, others: Mapping[str, str | None]) -> Opened:
    """One part, its pairs counted and its labels read."""
    found: dict[str, Array] = {}
    for role, source in (("image", part.image), ("text", part.text), ("labels", part.labels)):
        other = others.get(role)
        found[role] = open_other(other, role) if other else require(source, folder, role)
    refuse_pixels(found["image"])
    matrices = arrays.aligned(found, f"{part.split or 'all'} pairs in {folder}")
    labels = matrices["labels"]
    values = pairs.indicators(labels.read(0, labels.rows), labels.array.place)
    return Opened(part.split, matrices["image"], matrices["text"], values)


def open_other(file: str, role: str) -> Array:
    """The array of a file that the caller names: the usual variable, or the only one."""
    path = local(file)
    held = arrays.variables(path) if path.suffix in SUFFIXES else []
    usual = [key for key in (IMAGE_KEYS if role == "image" else ("YAll",)) if key in held]
    if not usual and len(held) != 1:
        found = f"variables {', '.join(held)}" if held else f"a file of type '{path.suffix}'"
        raise BadInput(f"--{role}-features {file}", found, "Name a .npy, .mat or .h5 file with one array")
    return arrays.open_array(path, (usual or held)[0])


def refuse_pixels(image: Array) -> None:
    """Raises BadInput where images come as pixels: features are what we hash."""
    if arrays.is_pixels(image):
        found = f"pixels, {arrays.described(image)}"
        do = "Extract features in the same order and name them: --image-features FILE (.npy, .mat or .h5)"
        raise BadInput("image features", found, do)


def check_lengths(parts: Sequence[Opened], source: str) -> None:
    """Raises Mismatch when the parts' features differ in length."""
    lengths = {part.split: (part.image.columns, part.text.columns) for part in parts}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{split} {image} and {text}" for split, (image, text) in lengths.items())
        raise Mismatch(
            f"parts of {source}", f"image and text features of different lengths: {found}", "Check the files"
        )


def assign(
    parts: list[Opened], layout: Layout, folder: Path
) -> tuple[list[Opened], Shaped[np.ndarray, " n"] | None, dict[str, object]]:
    """The parts to write, the part of every row, and what to write down about it."""
    if layout.query_rows is not None:
        return parts, from_query_rows(parts[0].image.rows, require(layout.query_rows, folder, "query rows")), {}
    by_split = {part.split: part for part in parts}
    if "train" not in by_split or "database" not in by_split:
        names = np.repeat([part.split for part in parts], [part.image.rows for part in parts])
        return parts, names if by_split.keys() != {""} else None, {}
    inside = contained(by_split["train"], by_split["database"], str(folder))
    kept = [part for part in parts if part.split != "train" or inside is None]
    names = np.repeat([part.split for part in kept], [part.image.rows for part in kept])
    if inside is not None:
        names[-len(inside) :][inside] = "train"
    return kept, names, {"train_in_database": inside is not None}


def from_query_rows(rows: int, array: Array) -> Shaped[np.ndarray, " n"]:
    """Row numbers from 1 as the part of every row.

    Raises:
        BadInput: for numbers outside 1 .. rows.
    """
    numbers = np.asarray(array.values[()]).reshape(-1).astype(np.int64) - 1
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < rows:
        found = f"row numbers {numbers.min() + 1} to {numbers.max() + 1} of {rows} pairs"
        raise BadInput(f"query rows in {array.place}", found, "Check that the files belong together")
    given = np.full(rows, "database", dtype="<U8")
    given[numbers] = "query"
    return given


def contained(train: Opened, database: Opened, place: str) -> np.ndarray | None:
    """Which database rows are training rows, by content: bool [n]; None when no training row is in the database.

    Raises:
        Mismatch: when some training rows are in the database and some are not.
    """
    wanted = Counter(row_digests(train))
    inside = np.zeros(database.image.rows, dtype=bool)
    for row, digest in enumerate(row_digests(database)):
        if wanted[digest] > 0:
            wanted[digest] -= 1
            inside[row] = True
    if inside.sum() not in (0, train.image.rows):
        found = f"{int(inside.sum()):,} of {train.image.rows:,} training rows are in the database"
        raise Mismatch(f"parts of {place}", found, "They are all expected there, or none; check the files")
    return inside if inside.any() else None


def row_digests(part: Opened) -> Iterator[bytes]:
    """16 bytes per pair that tell whether two pairs have equal features and labels."""
    for start in range(0, part.image.rows, ROWS_PER_READ):
        stop = min(start + ROWS_PER_READ, part.image.rows)
        features = (part.image.read(start, stop), part.text.read(start, stop))
        image, text = (np.ascontiguousarray(values, dtype=np.float32) for values in features)
        for row in range(stop - start):
            content: list[Any] = [image[row], text[row], part.labels[start + row]]
            yield hashlib.blake2b(b"".join(values.tobytes() for values in content), digest_size=16).digest()


def class_names(folder: Path) -> tuple[str, ...]:
    """The lines of classes.txt where there is one."""
    path = folder / "classes.txt"
    return tuple(path.read_text(encoding="utf-8").split("\n")[:-1]) if path.is_file() else ()
