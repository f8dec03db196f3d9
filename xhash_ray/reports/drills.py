"""What `xhash drill` prints for people."""

from __future__ import annotations

from typing import Any

from xhash_ray.reports.tables import facts, table

HEAD = ("scenario", "requests", "errors", "incomplete", "wrong", "recovered s", "copies back s", "worst s")


def drill(result: dict[str, Any]) -> str:
    """What it ran on, a line per scenario, and what was noted of each."""
    rows = [HEAD, *(line(each) for each in result["rows"])]
    notes = [f"{each['scenario']}: {text}" for each in result["rows"] if (text := remark(each))]
    return "\n\n".join([facts(result["setting"]), table(rows), "\n".join(notes)]).rstrip()


def line(each: dict[str, Any]) -> list[str]:
    """A scenario's figures; dashes for one that could not be run."""
    if each["available"]:
        return [each["scenario"], *["-"] * (len(HEAD) - 1)]
    times = ["never" if each[name] is None else f"{each[name]:.1f}" for name in ("recovered_s", "whole_s")]
    counts = [each["requests"], sum(each["errors"].values()), each["incomplete"], each["wrong"]]
    return [each["scenario"], *(f"{count:,}" for count in counts), *times, f"{each['worst_s']:.2f}"]


def remark(each: dict[str, Any]) -> str:
    """Why it could not be run, or its errors by kind, what was wrong, what was noted."""
    if each["available"]:
        return f"not available: {each['available']}"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in each["errors"].items())
    wrong = f"WRONG: {'; '.join(each['reasons'])}" if each["wrong"] else ""
    return "; ".join(part for part in (wrong, kinds, each["note"]) if part)
