"""What plans, and what they are checked by, print for people."""

from __future__ import annotations

from typing import Any

from xhash_ray.reports.tables import facts, table


def plan(result: dict[str, Any]) -> str:
    """A line per figure, with what it comes from."""
    head = (
        f"{result['nodes']:,} nodes, {result['memory_gb_per_node']:,.1f} GB each; half of the answers within "
        f"{result['p50_ms']:,.0f} ms, 99 of 100 within {result['p99_ms']:,.0f} ms; "
        f"{result['decided_by']} decides how many nodes, {result['full_first']} is full first"
    )
    rows = [[line["what"], line["value"], line["how"]] for line in result["lines"]]
    return f"{head}\n\n" + table([["what", "value", "from"], *rows])


def machine(result: dict[str, Any]) -> str:
    """The constants, then the scans."""
    rows = [[scan["bits"], scan["queries"], f"{scan['codes_per_s'] / 1e9:.3f}"] for scan in result["scans"]]
    known = {name: value for name, value in result.items() if value is not None and name != "scans"}
    known = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in known.items()}
    return facts(known) + "\n\n" + table([["bits", "queries that share a scan", "10^9 codes/s"], *rows])


def comparison(result: dict[str, Any]) -> str:
    """Predictions beside what was measured."""
    head = f"{result['pairs']:,} pairs of {result['bits']} bits, k = {result['k']}, callers on the same machine"
    rows = [
        [row["what"], f"{row['predicted']:,.2f}", f"{row['measured']:,.2f}", f"{row['ratio']:.2f}",
         "yes" if row["within"] else "NO"]
        for row in result["rows"]
    ]  # fmt: skip
    names = ["what", "predicted", "measured", "predicted / measured", "within 25%"]
    return f"{head}\n\n" + table([names, *rows])
