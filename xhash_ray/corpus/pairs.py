"""What a pair is, and which columns of a source hold its parts.

A corpus row has an `id`, an `image` (encoded bytes) or an `image_path`, a `text` (one caption or several) and,
where known, `labels` (a string or several). Every other column is metadata and travels along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xhash_ray.errors import BadOption, nearest

ROLES = ("id", "image", "image_path", "text", "labels")


@dataclass(frozen=True)
class Pair:
    """One image with its caption or captions, as stored.

    Attributes:
        id: Unique in the corpus.
        image: Encoded bytes (JPEG, PNG, WebP, ...).
        texts: At least one caption.
        labels: Names of what the pair shows, () when unknown.
        metadata: Everything else, by column.
    """

    id: str
    image: bytes
    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reject:
    """A row that is no pair: where it is and why."""

    id: str
    source: str
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


def to_pair(row: Mapping[str, Any], columns: Mapping[str, str], image: bytes | None, source: str) -> Pair | Reject:
    """A row as a pair, or the reason why it is none.

    Args:
        row: All columns of the row.
        columns: From `column_map`.
        image: The encoded image, None when there is none.
        source: File and row, for the reject.
    """
    name = identity(row, columns)
    try:
        texts = as_texts(row.get(columns["text"]))
    except ValueError as error:
        return Reject(name, source, str(error))
    if not name:
        return Reject(name, source, "id is missing")
    if not texts:
        return Reject(name, source, "text is missing or empty")
    if not image:
        return Reject(name, source, "image is missing or empty")
    taken = set(columns.values())
    metadata = {key: value for key, value in row.items() if key not in taken}
    return Pair(name, bytes(image), texts, as_labels(row.get(columns["labels"])), metadata)
