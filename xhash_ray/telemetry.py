"""Every metric once: name, kind, unit, labels, meaning. No sink here: nothing is counted by declaring it.

Two backends read this table: `runtime/telemetry.py` reports to Ray inside a cluster, `Registry` here collects
with prometheus-client outside one (batch verbs write it as a text file for node_exporter, `--metrics-file`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import prometheus_client


@dataclass(frozen=True)
class Metric:
    """A declaration.

    Attributes:
        name: In Prometheus' style, unit last.
        kind: "counter", "gauge" or "histogram".
        meaning: One sentence.
        labels: Label names.
        buckets: Upper bounds, for histograms.
    """

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


LATENCY_BUCKETS_S = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
)

METRICS = {
    metric.name: metric
    for metric in (
        Metric("xhash_stage_pairs", "gauge", "Pairs a finished stage has processed", ("stage",)),
        Metric("xhash_stage_rejected_pairs", "gauge", "Pairs a finished stage could not use", ("stage",)),
        Metric("xhash_stage_rejected_by_kind_pairs", "gauge", "The same by step and kind", ("stage", "step", "kind")),
        Metric("xhash_stage_seconds", "gauge", "Wall time of a finished stage in seconds", ("stage",)),
        Metric(
            "xhash_stage_finished_timestamp_seconds",
            "gauge",
            "When a stage last finished, Unix time",
            ("stage",),
        ),
        Metric(
            "xhash_search_seconds",
            "histogram",
            "Time of a search by part: encode, wait, scan, total",
            ("part",),
            LATENCY_BUCKETS_S,
        ),
        Metric(
            "xhash_searches",
            "counter",
            "Searches answered, by kind of query and outcome",
            ("kind", "outcome"),
        ),
    )
}


class Registry:
    """The metrics table collected by prometheus-client in this process."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.gauges = {
            metric.name: prometheus_client.Gauge(metric.name, metric.meaning, metric.labels, registry=self.registry)
            for metric in METRICS.values()
            if metric.kind == "gauge"
        }

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Sets a gauge.

        Raises:
            KeyError: for a metric that is not declared as a gauge.
        """
        self.gauges[name].labels(**labels).set(value)

    def write(self, path: str) -> None:
        """Writes everything collected in the text format, in one step (for node_exporter's textfile collector)."""
        prometheus_client.write_to_textfile(path, self.registry)
