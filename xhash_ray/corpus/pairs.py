"""What a pair is, and which columns of a source hold its parts.

A corpus row has an `id`, an `image` (encoded bytes) or an `image_path`, a `text` (one caption or several) and,
where known, `labels` (a string or several). Every other column is metadata and travels along.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xhash_ray.errors import BadOption, nearest

ROLES = ("id", "image", "image_path", "text", "labels")
MODALITIES = ("image", "text")
# Why a row is no pair, in the words that rejects are counted by.
KINDS = (
    "missing id",
    "duplicate id",
    "missing text",
    "missing image",
    "wrong type",  # a column holds what no text or image can be, or bytes of no picture format
    "undecodable",
    "truncated",
    "oversized",
    "timeout",  # a decoder took longer than it may
    "crash",  # a decoder died
)


@dataclass(frozen=True)
class Reading:
    """How rows become pairs.

    Attributes:
        columns: Which column plays each role, from `column_map`.
        identity: "given": the id column's; "content": a hash of image and texts.
        needs: Modalities that a pair must have; the others are not read.
    """

    columns: Mapping[str, str]
    identity: str = "given"
    needs: tuple[str, ...] = MODALITIES


@dataclass(frozen=True)
class Pair:
    """One image with its caption or captions, as stored.

    Attributes:
        id: Unique in the corpus.
        image: Encoded bytes (JPEG, PNG, WebP, ...).
        texts: At least one caption.
        labels: Names of what the pair shows, () when unknown.
        metadata: Everything else, by column.
        row: Of the source file, counted from 0.
    """

    id: str
    image: bytes
    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    row: int = 0


@dataclass(frozen=True)
class Reject:
    """A row that is no pair: where it is and why.

    Attributes:
        id: "" where it has none.
        source: URI of the file.
        row: Of that file, counted from 0.
        stage: Which step found it: "read", "identity", "prepare".
        kind: One of KINDS.
        reason: A sentence for people.
    """

    id: str
    source: str
    row: int
    stage: str
    kind: str
    reason: str


def column_map(renamed: Mapping[str, str]) -> dict[str, str]:
    """Which column plays each role: {"text": "caption"} reads captions from column `caption`.

    Raises:
        BadOption: for a role that does not exist.
    """
    for role in renamed:
        if role not in ROLES:
            raise BadOption(f"--columns {role}=...", "no such role", nearest(role, ROLES))
    return {role: renamed.get(role, role) for role in ROLES}


def as_texts(value: Any) -> tuple[str, ...]:
    """One caption or several from what a column holds; () when there is none.

    Raises:
        ValueError: for something that is no text.
    """
    values = value if isinstance(value, (list, tuple)) else [value]
    if any(not isinstance(item, str) for item in values if item is not None):
        raise ValueError(f"text is of type {type(values[0]).__name__}, not a string or a list of strings")
    return tuple(item.strip() for item in values if item and item.strip())


def as_labels(value: Any) -> tuple[str, ...]:
    """Label names from a string, a list of strings, or nothing."""
    if value is None:
        return ()
    values: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    return tuple(sorted({str(item) for item in values if item is not None}))


def identity(row: Mapping[str, Any], columns: Mapping[str, str]) -> str:
    """A row's id as text, "" when it has none."""
    name = row.get(columns["id"])
    return "" if name is None else str(name)


def to_pair(row: Mapping[str, Any], reading: Reading, image: bytes | None, source: str, number: int) -> Pair | Reject:
    """A row as a pair, or the reason why it is none.

    Args:
        row: All columns of the row.
        reading: Which columns count, and what a pair must have.
        image: The encoded image, None when there is none.
        source: URI of the file.
        number: Row of the file.
    """
    columns = reading.columns
    name = identity(row, columns)

    def reject(kind: str, reason: str) -> Reject:
        return Reject(name, source, number, "read", kind, reason)

    try:
        texts = as_texts(row.get(columns["text"])) if "text" in reading.needs else ()
    except ValueError as error:
        return reject("wrong type", str(error))
    if not name and reading.identity == "given":
        return reject("missing id", "id is missing")
    if "text" in reading.needs and not texts:
        return reject("missing text", "text is missing or empty")
    if "image" in reading.needs and not image:
        return reject("missing image", "image is missing or empty")
    content = bytes(image) if image and "image" in reading.needs else b""
    if reading.identity == "content":
        name = content_hash(content, texts)
    taken = set(columns.values())
    metadata = {key: value for key, value in row.items() if key not in taken}
    return Pair(name, content, texts, as_labels(row.get(columns["labels"])), metadata, number)


def content_hash(image: bytes, texts: Sequence[str]) -> str:
    """32 hexadecimal digits that name what a pair holds: BLAKE2b-128 of its parts, each behind its length."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (image, *(text.encode() for text in texts)):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
