"""Tables and facts as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as aligned columns; the first row is the head."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def facts(result: dict[str, Any]) -> str:
    """One line per fact."""
    flat = {name: value for name, value in result.items() if not isinstance(value, dict)}
    width = max(len(name) for name in flat)
    return "\n".join(f"{name.replace('_', ' ').ljust(width)}  {worded(value)}" for name, value in flat.items())


def worded(value: Any) -> str:
    """A number with separators, anything else as it is."""
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
