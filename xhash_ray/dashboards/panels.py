"""Panels from declarations: a gauge as it is, a counter as a speed, a histogram as quantiles or a heatmap.

Queries add up or choose over everything that a declaration does not name: processes, nodes, sessions. `$verb` and
`$method` are variables of a dashboard; `$__rate_interval` is Grafana's: four scrapes or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xhash_ray.telemetry import METRICS, Metric

VARIABLES = {"verb": "xhash_run_pairs", "method": "xhash_training_epochs"}  # a label to filter by: a metric that has it
WINDOW = "$__rate_interval"
GRAFANA_UNITS = {"s": "s", "bytes": "bytes", "bytes/s": "binBps"}


@dataclass(frozen=True)
class Query:
    """What Prometheus is asked, and the name of a line: labels stand in {{}}."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A rectangle of a dashboard.

    Attributes:
        title: Short.
        queries: Its lines.
        description: One sentence.
        unit: Grafana's name of a unit.
        axis: What is counted, where the unit does not say it.
        kind: "timeseries", "stat" (the last value) or "heatmap".
        width: Of 24 columns.
    """

    title: str
    queries: tuple[Query, ...]
    description: str
    unit: str = "short"
    axis: str = ""
    kind: str = "timeseries"
    width: int = 8


def shown(name: str, title: str, *, by: Sequence[str] | None = None, over: str = "", width: int = 8) -> Panel:
    """A gauge as it is, or how long ago it was for a time; a counter per second.

    Args:
        name: Of the metric.
        title: Of the panel.
        by: Labels that lines differ by; all declared ones by default.
        over: What joins series that differ elsewhere; "max" for gauges and "sum" for counters by default.
        width: Of 24 columns.
    """
    metric = METRICS[name]
    labels = metric.labels if by is None else tuple(by)
    counted = metric.kind == "counter"
    series = f"rate({name}_total{selector(metric)}[{WINDOW}])" if counted else name + selector(metric)
    value = grouped(over or ("sum" if counted else "max"), labels, series)
    ago = name.endswith("timestamp_seconds")
    unit, axis = units(metric)
    query = Query(f"time() - {value}" if ago else value, legend(labels, title))
    return Panel(title, (query,), metric.meaning, unit, axis, width=width)


def number(panel: Panel, width: int = 4) -> Panel:
    """The same as a number: the last value."""
    return replace(panel, kind="stat", width=width)


def seldom(panel: Panel) -> Panel:
    """For what has no series until it happens: zero until then."""
    queries = (replace(each, expression=f"{each.expression} or on() vector(0)") for each in panel.queries)
    return replace(panel, queries=tuple(queries))


def quantiles(
    name: str,
    title: str,
    *,
    by: Sequence[str] = (),
    window: str = WINDOW,
    where: str = "",
    shares: Sequence[float] = (0.5, 0.99),
) -> Panel:
    """Quantiles of a histogram.

    Args:
        name: Of the metric.
        title: Of the panel.
        by: Labels that lines differ by.
        window: That is looked back over; "" for all that living processes have seen: of what is seldom, a rate misses
            the first.
        where: Matchers, such as 'part="total"'.
        shares: Which quantiles, 0 to 1.
    """
    metric = METRICS[name]
    buckets = f"{name}_bucket{selector(metric, where)}"
    series = grouped("sum", [*by, "le"], f"rate({buckets}[{window}])" if window else buckets)
    asked = [
        Query(f"histogram_quantile({share}, {series})", " ".join([f"p{100 * share:g}", *(braced(b) for b in by)]))
        for share in shares
    ]
    return Panel(title, tuple(asked), metric.meaning, *units(metric))


def heatmap(name: str, title: str, where: str = "", width: int = 12) -> Panel:
    """How a histogram's values are distributed over time."""
    metric = METRICS[name]
    series = f"rate({name}_bucket{selector(metric, where)}[{WINDOW}])"
    query = Query(grouped("sum", ["le"], series), "{{le}}")
    return Panel(title, (query,), metric.meaning, *units(metric), kind="heatmap", width=width)


def formula(title: str, unit: str, description: str, *queries: tuple[str, str]) -> Panel:
    """A panel of queries written by hand: (expression, legend)."""
    return Panel(title, tuple(Query(*each) for each in queries), description, unit)


def selector(metric: Metric, where: str = "") -> str:
    """The matchers of a metric: its dashboard's variables, and others."""
    matchers = [f'{label}=~"${label}"' for label in metric.labels if label in VARIABLES]
    every = [*matchers, *([where] if where else [])]
    return f"{{{', '.join(every)}}}" if every else ""


def grouped(over: str, labels: Sequence[str], series: str) -> str:
    """An aggregation by labels."""
    return f"{over} by ({', '.join(labels)}) ({series})" if labels else f"{over}({series})"


def legend(labels: Sequence[str], title: str) -> str:
    """The name of a line: its labels, or the title where there are none."""
    return " ".join(braced(label) for label in labels) or title


def braced(label: str) -> str:
    """A label's value in a legend."""
    return "{{" + label + "}}"


def units(metric: Metric) -> tuple[str, str]:
    """Grafana's unit of a panel of a metric, and what its axis says besides."""
    if metric.kind == "counter":
        if metric.unit == "bytes":
            return "binBps", ""
        return "short", "busy workers" if metric.unit == "s" else f"{metric.unit}/s"
    if metric.unit == "1":
        return ("percentunit" if metric.name.endswith("ratio") else "short"), ""
    known = GRAFANA_UNITS.get(metric.unit)
    return (known, "") if known else ("short", metric.unit)
