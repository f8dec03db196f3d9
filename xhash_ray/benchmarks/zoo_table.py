"""The table of a zoo of methods: means and spreads over seeds, for programs and in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from xhash_ray.evaluation.retrieval import DIRECTIONS


def tabulate(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row per method, code length and column: means and standard deviations over seeds."""
    cells: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for line in lines:
        for column, found in line.get("columns", {}).items():
            cells.setdefault((line["method"], line["bits"], column), []).append({**found, "seconds": line["seconds"]})
    rows = [
        {"method": name, "bits": bits, "database": column, **summary(found)}
        for (name, bits, column), found in sorted(cells.items())
    ]
    refused = {line["method"]: line["refused"] for line in lines if "refused" in line}
    return {"rows": rows, "refused": refused}


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread of one cell."""
    row: dict[str, Any] = {"seeds": len(found)}
    for way, _, _ in DIRECTIONS:
        values = [each[way] for each in found]
        row[way] = round(statistics.fmean(values), 4)
        row[f"{way}_spread"] = round(statistics.stdev(values), 4) if len(values) > 1 else 0.0
    health = [each["health"][modality] for each in found for modality in ("image", "text")]
    row["stuck_bits"] = round(statistics.fmean(each["stuck_bits"] for each in health), 1)
    row["duplicate_bits"] = round(statistics.fmean(each["duplicate_bits"] for each in health), 1)
    row["seconds"] = round(statistics.fmean(each["seconds"] for each in found), 1)
    return row


def both(values: dict[str, Any]) -> str:
    """`.246 / .312`: image finds text, text finds image."""
    return " / ".join(f"{values[way]:.3f}".removeprefix("0") for way, _, _ in DIRECTIONS)


def markdown(result: dict[str, Any]) -> str:
    """The table for a ledger: MAP@all image finds text / text finds image, one column per code length."""
    pairs = result["pairs"]
    counts = f"{pairs['queries']:,} queries, {pairs['train']:,} training pairs, {pairs['rest']:,} others"
    lines = [f"{result['how']}: {counts}", ""]
    for column in dict.fromkeys(row["database"] for row in result["rows"]):
        lines += [f"Database {column}, chance {result['chance'].get(column, 0.0):.3f}", ""]
        lines += [*one_table(column, result), ""]
    lines += [f"{name}: {why}" for name, why in result["refused"].items()]
    return "\n".join(lines).rstrip() + "\n"


def one_table(column: str, result: dict[str, Any]) -> list[str]:
    """The lines of one database's table."""
    rows = [row for row in result["rows"] if row["database"] == column]
    lengths = sorted({row["bits"] for row in rows})
    head = ["method", *(f"{bits} bits" for bits in lengths), "seconds"]
    body = [method_line(name, lengths, rows) for name in dict.fromkeys(row["method"] for row in rows)]
    if column in result["cosine"]:
        body.append(["(cosine of the features)", both(result["cosine"][column]), *[""] * len(lengths)])
    return [f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *body]]


def method_line(name: str, lengths: Sequence[int], rows: Sequence[dict[str, Any]]) -> list[str]:
    """One method's cells."""
    mine = {row["bits"]: row for row in rows if row["method"] == name}
    seconds = [row["seconds"] for row in mine.values()]
    cells = [cell(mine[bits]) if bits in mine else "" for bits in lengths]
    return [name, *cells, f"{min(seconds):.0f} to {max(seconds):.0f}"]


def cell(row: dict[str, Any]) -> str:
    """`.246 / .312 (.004)`: both directions, and the larger standard deviation over seeds."""
    spread = max(row[f"{way}_spread"] for way, _, _ in DIRECTIONS)
    return f"{both(row)} ({spread:.3f})".replace("(0.", "(.") if row["seeds"] > 1 else both(row)
