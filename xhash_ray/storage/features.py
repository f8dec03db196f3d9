"""Features at rest: Parquet with `id`, `image` and `text`, `labels` where known, and any metadata columns.

    id      string
    image   fixed_size_list<float16 or float32>[d_i]
    text    fixed_size_list<float16 or float32>[d_t]     d_i and d_t are independent
    labels  list<int32>                                  optional

Plain Arrow types, no extensions: any Parquet reader opens them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xhash_ray.errors import BadInput
from xhash_ray.storage import tables
from xhash_ray.storage.where import Where, filter_rows

MODALITIES = ("image", "text")


@dataclass(frozen=True)
class FeatureSet:
    """Feature files and what is known of them before reading rows.

    Attributes:
        tables: The files.
        image_length: d_i, numbers per image; 0 where there are none.
        text_length: d_t, numbers per text; 0 where there are none.
        encoder: Which model made them, {} when unknown.
        classes: Names of the label numbers, () when unknown.
    """

    tables: tables.TableSet
    image_length: int
    text_length: int
    encoder: dict[str, Any]
    classes: tuple[str, ...]

    @property
    def has_labels(self) -> bool:
        """Whether the rows carry labels."""
        return "labels" in self.tables.schema.names


@dataclass(frozen=True)
class Features:
    """Rows of a feature set in memory.

    Attributes:
        ids: n ids.
        image: float32 [n, d_i].
        text: float32 [n, d_t].
        labels: n lists of label numbers, None when unlabelled.
    """

    ids: list[str]
    image: np.ndarray
    text: np.ndarray
    labels: list[list[int]] | None


def open_features(uri: str, needs: tuple[str, ...] = MODALITIES) -> FeatureSet:
    """Opens a feature file or folder and checks its columns.

    Args:
        uri: The file or folder.
        needs: Modalities that must be there; () for any.

    Raises:
        BadInput: when a column is missing or of another type than the format says.
        Mismatch: when files differ in schema.
    """
    found = tables.open_tables(uri, "features")
    there = tuple(name for name in MODALITIES if name in found.schema.names)
    tables.require_columns(found, ("id", *(needs or there or MODALITIES)), "features")
    image_length, text_length = (feature_length(found, name) if name in there else 0 for name in MODALITIES)
    check_types(found)
    facts = found.facts
    return FeatureSet(found, image_length, text_length, facts.get("encoder", {}), tuple(facts.get("classes", ())))


def feature_length(found: tables.TableSet, name: str) -> int:
    """The length of a feature column, or BadInput when it is not a fixed-size list of floats."""
    kind = found.schema.field(name).type
    if not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)):
        raise BadInput(
            f"features at {found.uri}",
            f"column '{name}' is {kind}",
            "Store fixed-size lists of float16 or float32",
        )
    return int(kind.list_size)


def check_types(found: tables.TableSet) -> None:
    """Raises BadInput unless ids are strings and labels, where there are any, lists of whole numbers."""
    if not is_string(found.schema.field("id").type):
        raise BadInput(f"features at {found.uri}", f"ids are {found.schema.field('id').type}", "Store string ids")
    if "labels" in found.schema.names:
        kind = found.schema.field("labels").type
        if not (is_list(kind) and pa.types.is_integer(kind.value_type)):
            raise BadInput(f"features at {found.uri}", f"labels are {kind}", "Store list<int32>")


def is_string(kind: pa.DataType) -> bool:
    """Whether an Arrow type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether an Arrow type is a list of any length."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def load_features(uri: str, where: Where | None = None) -> Features:
    """Reads all rows (or those a condition keeps) into memory.

    Raises:
        BadInput: when no row is left, or a feature is missing, NaN or infinite (naming the id).
    """
    found = open_features(uri).tables
    table = filter_rows(tables.read_table(found), where)
    if table.num_rows == 0:
        raise BadInput(f"features at {uri}", "no rows", "Check the folder and --where")
    return to_features(table, uri)


def to_features(table: pa.Table, uri: str) -> Features:
    """A table of the format as arrays, its numbers checked."""
    ids = table["id"].to_pylist()
    image, text = (to_matrix(table[name]) for name in MODALITIES)
    for name, matrix in (("image", image), ("text", text)):
        check_finite(matrix, ids, name, uri)
    labels = label_lists(table["labels"]) if "labels" in table.column_names else None
    return Features(ids, image, text, labels)


def label_lists(column: pa.ChunkedArray) -> list[list[int]]:
    """Label numbers of each row; a missing list is an empty one."""
    return [numbers or [] for numbers in column.to_pylist()]


def to_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as float32 [n, d]; missing rows become NaN."""
    length = column.type.list_size
    parts = [chunk_matrix(chunk, length) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.empty((0, length), np.float32)


def chunk_matrix(chunk: pa.FixedSizeListArray, length: int) -> np.ndarray:
    """One chunk as float32 [n, d]; a row that is null is NaN."""
    values = chunk.flatten() if chunk.null_count == 0 else pc.list_flatten(chunk)
    if chunk.null_count == 0:
        numbers = values.to_numpy(zero_copy_only=False)
        return np.asarray(numbers.astype(np.float32, copy=False).reshape(len(chunk), length))
    matrix = np.full((len(chunk), length), np.nan, np.float32)
    present = pc.is_valid(chunk).to_numpy(zero_copy_only=False)
    matrix[present] = values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, length)
    return matrix


def check_finite(matrix: np.ndarray, ids: Sequence[str] | pa.ChunkedArray, name: str, uri: str) -> None:
    """Raises BadInput naming the first id whose feature is not a row of numbers."""
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        found = f"{name} feature of id '{ids[bad[0]]}' is missing, NaN or infinite ({len(bad)} such rows)"
        raise BadInput(f"features at {uri}", found, "Remove those rows or extract them again")


def check_zeros(features: Features, uri: str, zeros: str) -> None:
    """Raises BadInput naming the first id with an all-zero feature, unless `zeros` is "keep"."""
    for name in MODALITIES if zeros != "keep" else ():
        bad = np.flatnonzero(~getattr(features, name).any(axis=1))
        if len(bad):
            found = f"{name} feature of id '{features.ids[bad[0]]}' is all zeros ({len(bad)} such rows)"
            raise BadInput(f"features at {uri}", found, "Remove those rows, or give --zeros keep to train with them")


def to_half(features: np.ndarray, asked: str) -> np.ndarray:
    """float16 of finite floats, in their shape.

    Args:
        features: float32.
        asked: What they are for, for the error.

    Raises:
        BadInput: for numbers beyond float16, which would become infinite and leave every cosine undefined.
    """
    with np.errstate(over="ignore"):
        half = features.astype(np.float16)
    if not np.isfinite(half).all():
        raise BadInput(asked, "features beyond what float16 holds (65,504)", "Scale them, of all pairs alike")
    return half


def from_matrix(matrix: np.ndarray) -> pa.FixedSizeListArray:
    """float16 or float32 [n, d] as a plain fixed-size list column."""
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
