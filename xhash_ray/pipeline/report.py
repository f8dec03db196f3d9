"""The closing report of a run over units: what it did, how fast, what held it up, and what it could not use."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xhash_ray.pipeline import report_page as html
from xhash_ray.pipeline import report_plots as plots
from xhash_ray.pipeline.report_page import Column
from xhash_ray.pipeline.watching import LIMITING, Snapshot, busiest
from xhash_ray.pipeline.words import duration, rate, share, size
from xhash_ray.storage import uri as places

MOST_REJECTS = 50
CLOSE = 0.1  # a stage this near the busiest would be the next limit
ADVICE = {
    "read": "Read more parts at once, make them larger, or bring the input nearer: same region, same machine.",
    "prepare": "Give it more CPUs, or smaller images: decoding and scaling them is most of this work.",
    "embed": "Give it more actors or GPUs, larger batches, or a lower precision (bf16) where there are GPUs.",
    "encode": "Give it more actors or GPUs, or larger batches.",
    "write": "Write larger parts, several at once, or to nearer storage.",
}
REJECT_COLUMNS = {
    "id": Column("id"),
    "source": Column("source", "long"),
    "row": Column("row", "number"),
    "stage": Column("stage", "short"),
    "kind": Column("kind", "short"),
    "reason": Column("reason", "long"),
}


@dataclass(frozen=True)
class Report:
    """What a closing report tells.

    Attributes:
        last: The run at its end.
        history: The run before, oldest first, such as `Events.history.points`.
        out: Where the results are.
        failure: Why there are none; None when it finished.
        made_by: Settings, model, fingerprints: names and values, in mappings of mappings if need be.
        rejects: Rows that could not be used, with id, source, row, stage, kind and reason, those of earlier starts
            too; the first 50 are shown.
        ended_unix_s: When it ended.
    """

    last: Snapshot
    history: Sequence[Snapshot] = ()
    out: str = ""
    failure: str | None = None
    made_by: Mapping[str, Any] = field(default_factory=dict)
    rejects: Sequence[Mapping[str, Any]] = ()
    ended_unix_s: float = field(default_factory=time.time)


def write_report(uri: str, report: Report) -> None:
    """Puts a report where it shall be, local or S3, in one step.

    Raises:
        XhashError: when the place cannot be written.
    """
    places.write_bytes(uri, render(report).encode())


def render(report: Report) -> str:
    """A report as one HTML page without scripts that loads nothing."""
    outcome = "finished" if report.failure is None else "failed"
    blocks = [
        heading(report, outcome),
        html.element("div", f"Why it failed: {report.failure}", "reason") if report.failure is not None else "",
        html.element("p", bottleneck_sentence(report.last), "verdict"),
        html.halves([section("Summary", html.facts(summary(report))), section("Made by", made_by(report))]),
        section("Over time", curves(report.history)),
        section("Rejected pairs", rejected(report)) if report.last.rejected or report.rejects else "",
    ]
    return html.page(f"xhash {report.last.verb} {outcome}", blocks)


def section(title: str, content: str) -> str:
    """Content under a heading."""
    return html.element("h2", title) + content


def heading(report: Report, outcome: str) -> str:
    """What ran, how it ended, when and where."""
    ended = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.ended_unix_s))
    where = f", {report.out}" if report.out else ""
    title = f"<h1>xhash {html.text(report.last.verb)} {html.element('span', outcome, outcome)}</h1>"
    return title + html.element("p", f"{ended}{where}", "soft")


def summary(report: Report) -> list[tuple[str, str]]:
    """Names and values of the table that opens a report."""
    last = report.last
    rejected_share = f" ({share(last.rejected / last.pairs)} of {last.pairs:,} read)" if last.pairs else ""
    read_per_s = f" ({size(last.bytes_read / last.elapsed_s)}/s)" if last.bytes_read and last.elapsed_s > 0 else ""
    return [
        ("pairs done", f"{last.done:,}" + (f" of {last.total:,}" if last.total else "")),
        ("by earlier starts", f"{last.before:,}"),
        ("rows written", f"{last.rows:,}"),
        ("pairs rejected", f"{last.rejected:,}{rejected_share}"),
        ("units", f"{last.units:,}"),
        ("time", precise(last.elapsed_s)),
        ("speed", f"{rate(last.pairs_per_s_overall)} pairs/s"),
        ("read", f"{size(last.bytes_read)}{read_per_s}"),
        ("written", size(last.bytes_written)),
    ]


def precise(seconds: float) -> str:
    """A time in seconds, and in larger units where it is long."""
    digits = 1 if seconds < 100 else 0
    return f"{seconds:,.{digits}f} s" + (f" ({duration(seconds)})" if seconds > 120 else "")


def made_by(report: Report) -> str:
    """The table of what made the results."""
    rows = flat(report.made_by)
    return html.facts(rows) if rows else html.element("p", "Nothing was recorded.", "soft")


def flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values; those of inner mappings under names with dots."""
    rows: list[tuple[str, str]] = []
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            rows.append((f"{prefix}{name}", json.dumps(list(value), default=str, ensure_ascii=False)))
        else:
            rows.append((f"{prefix}{name}", "none" if value is None else str(value)))
    return rows


def curves(history: Sequence[Snapshot]) -> str:
    """Speed and utilisation over time."""
    if not history:
        return html.element("p", "The run was over before anything was measured.", "soft")
    speed = html.figure("Pairs per second", plots.draw_speed(history))
    return html.halves([speed, html.figure("How busy the stages were", plots.draw_utilisation(history))])


def rejected(report: Report) -> str:
    """Counts by kind, then the first rows."""
    last, shown = report.last, report.rejects[:MOST_REJECTS]
    caption = "By stage and kind" + (", of this start" if last.before else "")
    bars = html.figure(caption, plots.draw_rejects(last.rejected_by)) if last.rejected else ""
    if not shown:
        return bars
    rows = [["" if row.get(name) is None else row[name] for name in REJECT_COLUMNS] for row in shown]
    return bars + section(shown_of(report, len(shown)), html.listing(list(REJECT_COLUMNS.values()), rows, "rejects"))


def shown_of(report: Report, shown: int) -> str:
    """How many rows are shown of how many; those of earlier starts are among the rows, not among the counts."""
    count = max(report.last.rejected, len(report.rejects))
    if report.last.before:
        return f"{shown:,} of them, earlier starts included"
    return "All of them" if shown == count else f"The first {shown:,} of {count:,}"


def bottleneck_sentence(last: Snapshot) -> str:
    """Which stage held the run up, in plain words, and what can be done about it."""
    most = busiest(last.utilisation_overall)
    if most is None:
        return "No unit was finished, so nothing is known about what held the run up."
    if most.utilisation < LIMITING:
        return (
            f"No stage was the limit: the workers of the busiest, {most.stage}, were busy "
            f"{share(most.utilisation)} of the time. The rest went to starting up (machines, models) or to waiting. "
            "More and smaller units, or fewer workers, waste less of it."
        )
    near = [
        f"{name} ({value:.0%})"
        for name, value in last.utilisation_overall.items()
        if name != most.stage and most.utilisation - value <= CLOSE
    ]
    close = f" Close behind: {', '.join(near)}." if near else ""
    advice = ADVICE.get(most.stage, "Give it more workers.")
    return f"Limited by {most.stage}: its workers were busy {most.utilisation:.0%} of the time. {advice}{close}"
