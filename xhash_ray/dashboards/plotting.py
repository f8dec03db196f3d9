"""Dashboards as pictures, for whoever has no Grafana: the same panels in the same places, out of the same queries."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from xhash_ray.dashboards.grafana import COLUMNS, placed
from xhash_ray.dashboards.layout import DASHBOARDS, Dashboard
from xhash_ray.dashboards.panels import Panel, Query
from xhash_ray.dashboards.prometheus import Prometheus, Series, name_of, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES_PER_COLUMN, INCHES_PER_LINE, MOST_NAMES, POINTS = 0.75, 0.36, 8, 240
TEXT: dict[Any, Any] = {"font.size": 8.5, "axes.titlesize": 9.5, "axes.spines.top": False, "axes.spines.right": False}
SCALES = {"bytes": (1024.0, "B"), "binBps": (1024.0, "B/s"), "short": (1000.0, "")}
PREFIXES = ("", "k", "M", "G", "T", "P")
TIMES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (0.0, "µs"))


class Span(NamedTuple):
    """What is looked at.

    Attributes:
        start_s: Unix time.
        end_s: Unix time.
        window: Of rates, such as "1m".
    """

    start_s: float
    end_s: float
    window: str

    def lines(self, prometheus: Prometheus, query: Query) -> list[Series]:
        """What a query was."""
        step_s = max(1.0, (self.end_s - self.start_s) / POINTS)
        return prometheus.lines(plain(query, self.window), self.start_s, self.end_s, step_s)


def last(minutes: float, window: str) -> Span:
    """The last minutes."""
    now_s = time.time()
    return Span(now_s - 60 * minutes, now_s, window)


def without_data(prometheus: Prometheus, span: Span) -> list[str]:
    """ "Dashboard: panel: query" of every query that has no data. Errors as of `Prometheus.ask`."""
    return [
        f"{dashboard.uid}: {panel.title}: {plain(query, span.window)}"
        for dashboard in DASHBOARDS
        for panel in dashboard.panels()
        for query in panel.queries
        if not span.lines(prometheus, query)
    ]


def picture(dashboard: Dashboard, prometheus: Prometheus, span: Span) -> bytes:
    """A dashboard as a PNG. Errors as of `Prometheus.ask`."""
    import matplotlib  # a second that only those pay who want pictures
    from matplotlib.figure import Figure

    places = placed(dashboard)
    lines = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in places)
    panels = iter(dashboard.panels())
    content = io.BytesIO()
    with matplotlib.rc_context(TEXT):
        figure = Figure(figsize=(COLUMNS * INCHES_PER_COLUMN, lines * INCHES_PER_LINE))
        for each in places:
            place = each["gridPos"]
            left, bottom = place["x"] / COLUMNS, 1 - (place["y"] + place["h"]) / lines
            if each["type"] == "row":
                figure.text(0.01, bottom + 0.25 / lines, each["title"], fontsize=12, weight="bold")
                continue
            across, down = (place["w"] - 1.5) / COLUMNS, (place["h"] - 3.2) / lines
            inset = (left + 0.95 / COLUMNS, bottom + 2.1 / lines, across, down)
            draw(figure.add_axes(inset), next(panels), prometheus, span)
        figure.savefig(content, format="png", dpi=80)
    return content.getvalue()


def draw(axes: Axes, panel: Panel, prometheus: Prometheus, span: Span) -> None:
    """Draws a panel."""
    named = [(query, line) for query in panel.queries for line in span.lines(prometheus, query)]
    said = panel.axis.lower() in panel.title.lower()
    axes.set_title(panel.title if said else f"{panel.title} ({panel.axis})", loc="left")
    if not named:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", color="tab:red", transform=axes.transAxes)
        axes.set_axis_off()
    elif panel.kind == "stat":
        draw_numbers(axes, panel, named)
    elif panel.kind == "heatmap":
        draw_heatmap(axes, panel, [line for _, line in named])
        clock(axes, span)
    else:
        draw_lines(axes, panel, named)
        clock(axes, span)


def draw_numbers(axes: Axes, panel: Panel, named: Sequence[tuple[Query, Series]]) -> None:
    """The last value of each line."""
    several = len(named) > 1
    for place, (query, line) in enumerate(named[:4]):
        text = readable(line.values[-1], panel.unit) + (f"  {name_of(line, query.legend)}" if several else "")
        high = 1 - (place + 0.5) / min(len(named), 4)
        axes.text(0.02, high, text, fontsize=11 if several else 18, va="center", transform=axes.transAxes)
    axes.set_axis_off()


def draw_lines(axes: Axes, panel: Panel, named: Sequence[tuple[Query, Series]]) -> None:
    """Lines over time."""
    for place, (query, line) in enumerate(named):
        name = name_of(line, query.legend) if place < MOST_NAMES else None
        marker = "o" if len(line.times) < 3 else ""
        axes.plot(line.times, line.values, marker=marker, lw=1.3, label=name)
    axes.grid(True, lw=0.4)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.yaxis.set_major_formatter(lambda value, _: readable(value, panel.unit))
    below: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.03, -0.12), "ncols": 4 if len(named) > 3 else 3}
    axes.legend(fontsize=6.5, frameon=False, columnspacing=1.0, handlelength=1.2, labelspacing=0.2, **below)


def draw_heatmap(axes: Axes, panel: Panel, lines: Sequence[Series]) -> None:
    """Counts by bucket and time, the bucket's upper bound at its left."""
    ordered = sorted(lines, key=lambda line: float(line.labels["le"]))
    times = sorted({at for line in ordered for at in line.times})
    cells, below = [], [0.0] * len(times)
    for line in ordered:  # Prometheus' buckets hold all that is smaller, too
        known = dict(zip(line.times, line.values, strict=True))
        upto = [known.get(at, low) for at, low in zip(times, below, strict=True)]
        cells.append([max(0.0, high - low) for high, low in zip(upto, below, strict=True)])
        below = upto
    axes.pcolormesh(times, range(len(cells)), cells, cmap="Oranges")
    bounds = [float(line.labels["le"]) for line in ordered]
    every = max(1, len(bounds) // 7)
    axes.set_yticks(range(0, len(bounds), every), [f"≤ {readable(each, panel.unit)}" for each in bounds[::every]])


def clock(axes: Axes, span: Span) -> None:
    """The time of day (UTC) at a few places below a panel."""
    shape = (
        "%H:%M:%S"
        if span.end_s - span.start_s < 600
        else "%H:%M"
        if span.end_s - span.start_s < 86400
        else "%d %b %H:%M"
    )
    places = [span.start_s + part / 4 * (span.end_s - span.start_s) for part in range(5)]
    axes.set_xlim(span.start_s, span.end_s)
    axes.set_xticks(places, [time.strftime(shape, time.gmtime(at)) for at in places])


def readable(value: float, unit: str) -> str:
    """A value with its unit, as Grafana writes it.

    >>> readable(0.0025, "s"), readable(1536, "bytes"), readable(0.25, "percentunit"), readable(12000, "short")
    ('2.5 ms', '1.5 kB', '25%', '12k')
    """
    if math.isinf(value):
        return "∞"
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit == "percent":
        return f"{value:.3g}%"
    if unit == "s":
        size, name = next(each for each in TIMES if abs(value) >= each[0])
        return f"{value / (size or 1e-6):.3g} {name}" if value else "0 s"
    base, name = SCALES[unit]
    power = 0
    while abs(value) >= base and power < len(PREFIXES) - 1:
        value, power = value / base, power + 1
    return f"{value:.3g}{' ' if name else ''}{PREFIXES[power]}{name}"
