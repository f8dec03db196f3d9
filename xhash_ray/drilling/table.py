"""The table of a drill: for people, for a README, for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xhash_ray.drilling.ledger import Summary
from xhash_ray.drilling.scenarios import Scenario

HEAD = (
    "scenario",
    "requests",
    "errors",
    "incomplete",
    "wrong",
    "recovered after s",
    "all copies back after s",
    "worst latency s",
)


def row(
    scenario: Scenario, seen: Summary, recovered_s: float | None, whole_s: float | None, held_s: float, note: str
) -> dict[str, Any]:
    """One scenario that was run.

    Args:
        scenario: That was run.
        seen: By the load, from the injection to the end.
        recovered_s: See `recovery`; None where it never was.
        whole_s: From the injection until every copy of everything ran again; None where they never did.
        held_s: How long the fault was kept up before anybody mended it.
        note: What else is to be known.
    """
    return {
        "scenario": scenario.name,
        "title": scenario.title,
        "available": "",
        **seen._asdict(),
        "worst_s": round(seen.worst_s, 3),
        "recovered_s": None if recovered_s is None else round(recovered_s, 2),
        "whole_s": None if whole_s is None else round(whole_s, 1),
        "held_s": round(held_s, 1),
        "note": note,
    }


def unavailable(scenario: Scenario, why: str) -> dict[str, Any]:
    """One that could not be run here."""
    return {"scenario": scenario.name, "title": scenario.title, "available": why}


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is not as it must be: wrong answers, no recovery; nothing of scenarios that could not be run."""
    found = []
    for each in rows:
        if each["available"]:
            continue
        if each["wrong"]:
            found.append(f"{each['scenario']}: {each['wrong']} wrong answers ({each['reasons'][0]})")
        if each["recovered_s"] is None:
            found.append(f"{each['scenario']}: no recovery{': ' + each['note'] if each['note'] else ''}")
    return found


def cells(each: Mapping[str, Any]) -> list[str]:
    """A row in words."""
    if each["available"]:
        return [each["title"], f"not available: {each['available']}", *[""] * (len(HEAD) - 2)]
    errors = ", ".join(f"{count:,} {kind}" for kind, count in each["errors"].items()) or "0"
    recovered = "never" if each["recovered_s"] is None else f"{each['recovered_s']:.1f}"
    whole = "never" if each["whole_s"] is None else f"{each['whole_s']:.0f}"
    counts = [f"{each['requests']:,}", errors, f"{each['incomplete']:,}", f"{each['wrong']:,}"]
    return [each["title"], *counts, recovered, whole, f"{each['worst_s']:.2f}"]


def markdown(result: Mapping[str, Any]) -> str:
    """A document: how it was run, the table, what was noted."""
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in result["setting"].items()]
    rows = [HEAD, *(cells(each) for each in result["rows"])]
    table = [f"| {' | '.join(each)} |" for each in rows]
    table.insert(1, "|" + "---|" * len(HEAD))
    notes = [f"- {each['title']}: {each['note']}" for each in result["rows"] if each.get("note")]
    return "\n".join(["# Fault drill", "", *lines, "", *table, "", *notes, ""])
