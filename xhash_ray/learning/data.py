"""What a training is given: feature files, which rows are for training and which for validation, memory or stream."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from xhash_ray.errors import BadInput
from xhash_ray.evaluation.relevance import label_matrix
from xhash_ray.learning.sources import Resident, check_batches
from xhash_ray.learning.streaming import RowGroup, StreamPlan, lanes_for, window_steps_for
from xhash_ray.methods.base import World
from xhash_ray.storage import tables
from xhash_ray.storage import uri as places
from xhash_ray.storage.features import (
    MODALITIES,
    Features,
    FeatureSet,
    check_zeros,
    open_features,
    to_features,
    to_matrix,
)
from xhash_ray.storage.where import Where, filter_all, opposite, parse_where

VALIDATION_ROWS = 4096  # at most so many are looked at after an epoch


@dataclass(frozen=True)
class Pairs:
    """Pairs in memory.

    Attributes:
        image: float32 [n, d_i].
        text: float32 [n, d_t].
        labels: float32 [n, classes], None for unlabelled pairs.
    """

    image: Tensor
    text: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.image)

    def first(self, count: int) -> Pairs:
        """At most so many."""
        return Pairs(self.image[:count], self.text[:count], None if self.labels is None else self.labels[:count])


@dataclass(frozen=True)
class TrainingData:
    """Feature files and the conditions that divide their rows.

    Attributes:
        found: The files.
        training: Conditions of training pairs.
        validation: Conditions of validation pairs, () without validation.
        groups: Row groups with training pairs, how many each holds.
        classes: Number of label classes, 0 for unlabelled pairs.
        zeros: "refuse" or "keep" all-zero features.
        digest: Names these pairs: 64 hexadecimal digits.
    """

    found: FeatureSet
    training: tuple[Where, ...]
    validation: tuple[Where, ...]
    groups: tuple[RowGroup, ...]
    classes: int
    zeros: str
    digest: str

    @property
    def pairs(self) -> int:
        """Training pairs."""
        return sum(group.rows for group in self.groups)

    @property
    def row_bytes(self) -> int:
        """Bytes of one pair in memory."""
        return 4 * (self.found.image_length + self.found.text_length + self.classes)

    def resident(self) -> Pairs:
        """All training pairs.

        Raises:
            BadInput: for features that are missing, NaN, infinite or all zero, naming the id.
        """
        return load(self.found, self.training, self.classes, self.zeros)

    def validation_pairs(self) -> Pairs | None:
        """Validation pairs, at most VALIDATION_ROWS of them; None without validation."""
        if not self.validation:
            return None
        return load(self.found, self.validation, self.classes, self.zeros, VALIDATION_ROWS)

    def plan(self, batch_size: int, seed: int, workers: Sequence[int]) -> StreamPlan:
        """The order in which the pairs are streamed."""
        steps = window_steps_for(batch_size, self.row_bytes)
        lanes = lanes_for(workers, batch_size)
        return StreamPlan(self.groups, self.training, batch_size, seed, lanes, steps, self.classes, self.zeros)


def open_training_data(uri: str, where: str | None, validation: str | None, zeros: str = "refuse") -> TrainingData:
    """Opens features and counts their training pairs, reading ids, labels and what the conditions ask for.

    Args:
        uri: A feature file or folder.
        where: Which pairs are used; None for all.
        validation: Which of those are set aside for validation; None for none of them.
        zeros: "refuse" or "keep" all-zero features.

    Raises:
        BadInput: for a place without features, conditions on columns that are not there, no rows left.
    """
    found = open_features(uri)
    chosen = tuple(condition for condition in [parse_where(where)] if condition)
    held_out = tuple(condition for condition in [parse_where(validation)] if condition)
    training = (*chosen, *(opposite(condition) for condition in held_out))
    validating = (*chosen, *held_out) if held_out else ()
    groups, set_aside, classes = count_rows(found, training, validating)
    classes = max(classes, len(found.classes)) if found.has_labels else 0
    if not groups:
        raise BadInput(f"features at {uri}", "no rows", "Check the folder, --where and --validation")
    if validating and not set_aside:
        raise BadInput(f"validation pairs of {uri}", "no rows", "Check --validation")
    return TrainingData(found, training, validating, groups, classes, zeros, digest_of(groups))


def count_rows(
    found: FeatureSet, training: tuple[Where, ...], validating: tuple[Where, ...]
) -> tuple[tuple[RowGroup, ...], int, int]:
    """The row groups with training pairs, the number of validation pairs, and that of label classes in the files."""
    for condition in (*training, *validating):
        condition.check_column(found.tables.schema.names)
    columns = list(dict.fromkeys(["id", *(condition.column for condition in training)]))
    columns += ["labels"] if found.has_labels and "labels" not in columns else []
    groups, first, set_aside, classes = [], 0, 0, 0
    for file, group, _ in tables.row_groups(found.tables):
        table = next(tables.iter_row_groups(file, [group], columns))
        classes = max(classes, count_classes(table, file))
        set_aside += filter_all(table, validating).num_rows
        rows = filter_all(table, training).num_rows
        if rows:
            groups.append(RowGroup(file, group, rows, first))
        first += rows
    return tuple(groups), set_aside, classes


def digest_of(groups: Sequence[RowGroup]) -> str:
    """SHA-256 over the names and rows of all row groups, and the features of the first: others have other numbers."""
    listed = [(places.name_of(group.file), group.group, group.rows) for group in groups]
    digest = hashlib.sha256(repr(listed).encode())
    table = next(tables.iter_row_groups(groups[0].file, [groups[0].group], MODALITIES))
    for name in MODALITIES:
        digest.update(to_matrix(table[name]).tobytes())
    return digest.hexdigest()


def count_classes(table: pa.Table, file: str) -> int:
    """One more than the largest label number, 0 without labels.

    Raises:
        BadInput: for a label number below 0.
    """
    if "labels" not in table.column_names:
        return 0
    found = pc.min_max(pc.list_flatten(table["labels"])).as_py()
    if found["min"] is not None and found["min"] < 0:
        raise BadInput(f"features at {file}", f"label number {found['min']}", "Number the classes from 0")
    return 0 if found["max"] is None else int(found["max"]) + 1


def load(found: FeatureSet, conditions: tuple[Where, ...], classes: int, zeros: str, limit: int | None = None) -> Pairs:
    """The rows that satisfy every condition, or the first so many of them, in memory."""
    parts: list[pa.Table] = []
    for file, group, _ in tables.row_groups(found.tables):
        parts.append(filter_all(next(tables.iter_row_groups(file, [group])), conditions))
        if limit is not None and sum(table.num_rows for table in parts) >= limit:
            break
    table = pa.concat_tables(parts).slice(0, limit)
    if table.num_rows == 0:
        raise BadInput(f"features at {found.tables.uri}", "no rows", "Check --where and --validation")
    features = to_features(table, found.tables.uri)
    check_zeros(features, found.tables.uri, zeros)
    return in_memory(features, classes)


def in_memory(features: Features, classes: int) -> Pairs:
    """Loaded features as tensors."""
    labels = None
    if features.labels is not None and classes:
        labels = torch.from_numpy(np.asarray(label_matrix(features.labels, classes), dtype=np.float32))
    return Pairs(torch.from_numpy(features.image), torch.from_numpy(features.text), labels)


def resident_source(pairs: Pairs, batch_size: int, seed: int, world: World) -> Resident:
    """Pairs in memory as the training loop's data.

    Raises:
        BadInput: for fewer pairs than a batch.
    """
    check_batches(len(pairs), batch_size, world.size)
    return Resident(pairs.image, pairs.text, pairs.labels, batch_size, seed, world)
