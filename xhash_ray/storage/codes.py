"""Codes at rest: Parquet with `id`, `image_code`, `text_code`; labels and metadata travel along.

id          string
image_code  fixed_size_binary[bits / 8]     bit j: byte j // 8, position j % 8 from the least significant
text_code   fixed_size_binary[bits / 8]

Where features were kept (`xhash encode --keep-features`): image_feature and text_feature, fixed_size_list<float16>[d].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from xhash_ray.errors import BadInput, Mismatch
from xhash_ray.storage import tables

CODE_COLUMNS = ("image_code", "text_code")
FEATURE_COLUMNS = ("image_feature", "text_feature")


@dataclass(frozen=True)
class CodeSet:
    """Code files and what is known of them before reading rows.

    Attributes:
        tables: The files.
        bits: Length of a code.
        fingerprint: Of the model that made them, None when unknown.
        classes: Names of the label numbers, () when unknown.
    """

    tables: tables.TableSet
    bits: int
    fingerprint: str | None
    classes: tuple[str, ...]

    @property
    def metadata_columns(self) -> tuple[str, ...]:
        """Columns beside id, codes and labels."""
        known = {"id", "labels", *CODE_COLUMNS, *FEATURE_COLUMNS}
        return tuple(name for name in self.tables.schema.names if name not in known)


def open_codes(uri: str) -> CodeSet:
    """Opens a code file or folder and checks its columns.

    Raises:
        BadInput: when a column is missing or of another type than the format says.
        Mismatch: when the two code columns, or the files, differ.
    """
    found = tables.open_tables(uri, "codes")
    tables.require_columns(found, ("id", *CODE_COLUMNS), "codes")
    widths = [code_bytes(found, name) for name in CODE_COLUMNS]
    if widths[0] != widths[1]:
        lengths = f"{widths[0] * 8} and {widths[1] * 8} bits"
        raise Mismatch(f"codes at {uri}", f"image and text codes of {lengths}", "Encode both with one model")
    facts = found.facts
    return CodeSet(found, widths[0] * 8, facts.get("model_fingerprint"), tuple(facts.get("classes", ())))


def code_bytes(found: tables.TableSet, name: str) -> int:
    """The width of a code column in bytes, or BadInput when it is not fixed-size binary."""
    kind = found.schema.field(name).type
    if not pa.types.is_fixed_size_binary(kind):
        raise BadInput(f"codes at {found.uri}", f"column '{name}' is {kind}", "Store fixed_size_binary[bits / 8]")
    return int(kind.byte_width)


def to_array(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """A fixed-size binary column as uint8 [n, bytes]; read-only and in place where it is one chunk.

    Raises:
        BadInput: when a code is missing.
    """
    width = column.type.byte_width
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if any(chunk.null_count for chunk in chunks):
        raise BadInput("reading codes", "a code is missing (null)", "Encode the features again")
    parts = [
        np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * width : (chunk.offset + len(chunk)) * width]
        for chunk in chunks
        if len(chunk)
    ]
    if len(parts) == 1:
        return parts[0].reshape(-1, width)  # in place
    return np.concatenate(parts).reshape(-1, width) if parts else np.empty((0, width), np.uint8)


def from_array(codes: np.ndarray) -> pa.FixedSizeBinaryArray:
    """uint8 [n, bytes] as a fixed-size binary column."""
    content = np.ascontiguousarray(codes, np.uint8)
    buffers = [None, pa.py_buffer(content.tobytes())]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(codes.shape[1]), len(codes), buffers)
